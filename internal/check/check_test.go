package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

// A check that fails, and one that can't be made, hide no other.
func TestRun_FailingCheck(t *testing.T) {
	t.Parallel()
	find := func(s Severity, what string) func(context.Context, *Env) ([]Finding, error) {
		return func(context.Context, *Env) ([]Finding, error) { return []Finding{{Severity: s, What: what}}, nil }
	}
	r, err := run(t.Context(), newEnv(Options{}), []Check{
		{"first", Source, 0, find(Warning, "one")},
		{"fails", Source, 0, func(context.Context, *Env) ([]Finding, error) {
			return []Finding{{Severity: Info, What: "so far"}}, fault.Errorf(fault.Stop, "mend it", "it broke")
		}},
		{"late", Source, 0, func(ctx context.Context, _ *Env) ([]Finding, error) {
			return nil, fmt.Errorf("read: %w", context.DeadlineExceeded)
		}},
		{"unmade", Target, 0, func(context.Context, *Env) ([]Finding, error) { return nil, unmadeError("as said") }},
		{"away", Target, needTarget, find(Error, "never")},
		{"unread", Target, needFile, find(Error, "never")},
		{"silent", Target, 0, func(context.Context, *Env) ([]Finding, error) { return nil, nil }},
		{"last", Target, 0, find(Info, "two")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Report{
		Findings: []Finding{
			{Source, "first", Warning, "one", "", ""},
			{Source, "fails", Info, "so far", "", ""},
			{Source, "fails", Error, "it broke", "", "mend it"},
			{Source, "late", Error, "no answer within 30s", "", ""},
			{Target, "last", Info, "two", "", ""},
		},
		Passed: []Passed{{Target, "silent"}},
		Skipped: []Skipped{
			{Target, "unmade", "as said"}, {Target, "away", "the target can't be reached"}, {Target, "unread", "the mapping file can't be read"},
		},
		Errors: 2, Warnings: 1, Infos: 2,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if r.Clean() || !(&Report{Infos: 3}).Clean() || (&Report{Warnings: 1}).Clean() {
		t.Error("Clean is about errors and warnings")
	}
}

func TestRun_Canceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := errors.New("asked to stop")
	_, err := run(ctx, newEnv(Options{}), []Check{{"a", Source, 0, func(context.Context, *Env) ([]Finding, error) {
		cancel(asked)
		return nil, ctx.Err()
	}}})
	if !errors.Is(err, asked) {
		t.Errorf("Run: %v, want the reason of the end", err)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	_, err := mapping.Parse("m.yaml", []byte("tables:\n  a: {frm: b}\n  c: {from: d, colums: [id]}\n"))
	e := newEnv(Options{})
	var lines []string
	for _, f := range e.mistakes(fmt.Errorf("wrapped: %w", err), "") {
		place, _, _ := strings.Cut(f.What, ": ")
		lines = append(lines, place)
		if f.Severity != Error || f.Fix == "" || strings.Contains(f.What, f.Fix) {
			t.Errorf("%+v: want an error with its fix apart", f)
		}
	}
	if len(lines) < 2 || lines[0] != "m.yaml:2" || lines[len(lines)-1] != "m.yaml:3" {
		t.Errorf("places %q, want those of lines 2 and 3", lines)
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ahead, unsure time.Duration
		want          string
	}{
		{0, 0, ""},
		{1900 * time.Millisecond, time.Millisecond, ""},
		{-1900 * time.Millisecond, time.Millisecond, ""},
		{3 * time.Second, 2 * time.Second, ""}, // a slow answer proves nothing
		{3 * time.Second, time.Millisecond, "a is 3s ahead of b"},
		{-time.Hour, time.Second, "a is 1h0m0s behind b"},
	} {
		got := ""
		for _, f := range skew("a", "b", offset{tt.ahead, tt.unsure}) {
			got += f.What
		}
		if got != tt.want {
			t.Errorf("%s ± %s: %q, want %q", tt.ahead, tt.unsure, got, tt.want)
		}
	}
}

func TestSenderTimeout(t *testing.T) {
	t.Parallel()
	for timeout, warns := range map[time.Duration]bool{0: true, time.Second: true, 5 * time.Second: false, time.Minute: false} {
		if got := senderTimeout(timeout); (len(got) == 1) != warns {
			t.Errorf("%s: %v, want a warning: %v", timeout, got, warns)
		}
	}
}

func TestSlotFindings(t *testing.T) {
	t.Parallel()
	safe := int64(-5)
	good := replicator.Slot{Name: "b", Plugin: "pgoutput", Database: "app", WALStatus: "reserved", Retained: 3 << 20}
	for _, tt := range []struct {
		name  string
		alter func(*replicator.Slot)
		want  Severity
		what  string
	}{
		{"Good", func(*replicator.Slot) {}, Info, "keeps 3.0 MB of WAL"},
		{"Active", func(s *replicator.Slot) { s.Active, s.ActivePID = true, 42 }, Info, "walsender 42"},
		{"Plugin", func(s *replicator.Slot) { s.Plugin = "wal2json" }, Error, "plugin wal2json"},
		{"Physical", func(s *replicator.Slot) { s.Plugin, s.Database = "", "" }, Error, "not pgoutput"},
		{"Database", func(s *replicator.Slot) { s.Database = "other" }, Error, "belongs to database other"},
		{"Lost", func(s *replicator.Slot) { s.WALStatus, s.Invalidation = "lost", "wal_removed" }, Error, "is lost"},
		{"Unreserved", func(s *replicator.Slot) { s.WALStatus, s.SafeBytes = "unreserved", &safe }, Error, "0 kB more"},
		{"Extended", func(s *replicator.Slot) { s.WALStatus = "extended" }, Warning, "extended"},
	} {
		slot := good
		tt.alter(&slot)
		got := slotFindings(slot, "app")
		if len(got) != 1 || got[0].Severity != tt.want || !strings.Contains(got[0].What, tt.what) {
			t.Errorf("%s: %+v, want one %s with %q", tt.name, got, tt.want, tt.what)
		}
		if got[0].Severity > Info && (got[0].Fix == "" || got[0].Why == "") {
			t.Errorf("%s: %+v says not what comes of it and what mends it", tt.name, got[0])
		}
	}
}

func TestBlocking(t *testing.T) {
	t.Parallel()
	list := []replicator.Blocker{
		{GID: "it's", Database: "app", Age: time.Hour},
		{PID: 7, Database: "app", Age: time.Hour},
		{PID: 8, Database: "app", Age: time.Second},
		{PID: 9, Database: "?"},
	}
	type row struct {
		Severity Severity
		Has      string
	}
	for exists, want := range map[bool][]row{
		false: {{Error, "ROLLBACK PREPARED 'it''s';"}, {Warning, "pg_terminate_backend(7)"}, {Info, "pg_read_all_stats"}},
		true:  {{Warning, "ROLLBACK PREPARED 'it''s';"}, {Warning, "pg_terminate_backend(7)"}, {Info, "pg_read_all_stats"}},
	} {
		got := blocking(list, exists)
		if len(got) != len(want) {
			t.Fatalf("slot %v: %+v", exists, got)
		}
		for i, w := range want {
			if got[i].Severity != w.Severity || !strings.Contains(got[i].Fix, w.Has) {
				t.Errorf("slot %v: %+v, want %s with %q", exists, got[i], w.Severity, w.Has)
			}
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"one two three":                    {"one two", "three"},
		"doesn't break isn't":              {"doesn't", "break", "isn't"},
		`SET (a = 'x, y, z'); b`:           {"SET (a =", "'x, y, z');", "b"},
		`ON "my own"."ta ble" x`:           {"ON", `"my own"."ta ble"`, "x"},
		"'never closed":                    {"'never closed"},
		"averylongwordthatfitsnowhere\nor": {"averylongwordthatfitsnowhere", "or"},
	} {
		if diff := cmp.Diff(want, wrap(text, 10)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	r := &Report{
		Findings: []Finding{
			{Target, "tables", Info, "a note", "", ""},
			{Target, "tables", Error, "what is wrong " + strings.Repeat("and on ", 12), "Why it matters.", "ALTER TABLE x;"},
		},
		Passed:  []Passed{{Target, "url"}, {Target, "clock"}},
		Skipped: []Skipped{{Source, "slot", "it is away"}, {Source, "wal_level", "it is away"}},
		Errors:  1, Infos: 1,
	}
	var b strings.Builder
	if err := r.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := `source
  not made                 it is away: slot, wal_level

target
  error    tables          what is wrong and on and on and on and on and on and on and on and on and
                           on and on and on and on
                           Why it matters.
                           fix: ALTER TABLE x;
  info     tables          a note
  ok                       url, clock

1 error, 0 warnings, 1 note; 2 checks could not be made
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
}
