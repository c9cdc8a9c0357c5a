package replicator

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestSelectsStandby(t *testing.T) {
	t.Parallel()
	tests := []struct {
		setting string
		want    bool
	}{
		{"", false},
		{"*", true},
		{"bridge", true},
		{"BRIDGE", true},
		{"s1, bridge", true},
		{"s1,s2", false},
		{"FIRST 2 (s1, s2, bridge)", true},
		{"ANY 1 (s1, *)", true},
		{"2 (s1, s2)", false},
		{`"bridge"`, true},
		{`"s1", "Bri""dge"`, false},
		{`ANY 1 ("s (1", bridge)`, true},
		{`"my bridge"`, false},
		{"bridge2, thebridge", false},
		{`"bridge`, true}, // the server refuses it; better safe
	}
	for _, tt := range tests {
		if got := selectsStandby(tt.setting, "bridge"); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.setting, got, tt.want)
		}
	}
}

// checks returns the names of what was found.
func checks(t *testing.T, found []error) (list []string) {
	t.Helper()
	for _, err := range found {
		var e *SourceError
		if !errors.As(err, &e) || fault.ClassOf(err) != fault.Stop || fault.HintOf(err) == "" {
			t.Errorf("%v: want a SourceError with a hint", err)
			continue
		}
		list = append(list, e.Check)
	}
	return list
}

func TestSourceFacts(t *testing.T) {
	t.Parallel()
	good := sourceFacts{version: 150000, walLevel: "logical", role: "app", replication: true, maxSlots: 10, maxSenders: 10}
	tests := []struct {
		name  string
		alter func(*sourceFacts)
		want  []string
	}{
		{"Good", func(*sourceFacts) {}, nil},
		{"Old", func(f *sourceFacts) { f.version = 130012 }, []string{"version"}},
		{"Standby", func(f *sourceFacts) { f.standby = true }, []string{"standby"}},
		{"Several", func(f *sourceFacts) { f.walLevel, f.replication = "replica", false }, []string{"wal_level", "replication"}},
		{"Slots", func(f *sourceFacts) { f.slots = 10 }, []string{"slots"}},
		{"Senders", func(f *sourceFacts) { f.senders = 12 }, []string{"senders"}},
		{"Synchronous", func(f *sourceFacts) { f.synchronous = "*" }, []string{"synchronous"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := good
			tt.alter(&f)
			if diff := cmp.Diff(tt.want, checks(t, f.problems("bridge"))); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckSource(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t, pgtest.WithSetting("max_replication_slots", "1"))
	src.exec(t, "CREATE ROLE plain LOGIN")
	src.exec(t, "CREATE ROLE rds_replication")
	src.exec(t, "CREATE ROLE managed LOGIN IN ROLE rds_replication")
	for _, tt := range []struct {
		role, slot string
		want       []string
	}{
		{"postgres", "app", nil},
		{"managed", "app", nil},
		{"plain", "app", []string{"replication"}},
		{"postgres", "another", []string{"slots"}},
	} {
		conn, err := pg.Connect(t.Context(), src.cluster.URLAs(tt.role, "", "app"), pg.Options{})
		if err != nil {
			t.Fatal(err)
		}
		found, err := CheckSource(t.Context(), conn, "bridge", tt.slot)
		_ = conn.Close(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, checks(t, found)); diff != "" {
			t.Errorf("%s, slot %s (-want +got):\n%s", tt.role, tt.slot, diff)
		}
	}
}

func TestSynchronousState(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	state := func() string {
		t.Helper()
		s, err := SynchronousState(t.Context(), src.conn, "bridge")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := state(); got != "" {
		t.Errorf("state %q without a walsender", got)
	}
	s := startStream(t, src.config())
	s.Confirm(src.start) // who has never flushed is not waited for
	pgtest.Eventually(t, "async", patience, func() bool { return state() == "async" })
	src.exec(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	src.exec(t, "SELECT pg_reload_conf()")
	pgtest.Eventually(t, "sync", patience, func() bool { return state() == "sync" })
	found, err := CheckSource(t.Context(), src.conn, "bridge", src.db)
	if diff := cmp.Diff([]string{"synchronous"}, checks(t, found)); diff != "" || err != nil {
		t.Errorf("found (-want +got):\n%s%v", diff, err)
	}
}
