package demo

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// newSource starts a cluster with a seeded NioChat database and returns its URL.
func newSource(t *testing.T, c *pgtest.Cluster, name string, opts SeedOptions) string {
	t.Helper()
	url := pgtest.CreateDB(t, c, name)
	pgtest.Exec(t, url, SourceSchema)
	if err := Seed(t.Context(), pgtest.Connect(t, url), opts); err != nil {
		t.Fatal(err)
	}
	return url
}

// ticking returns a clock that moves on by a millisecond at each look.
func ticking() func() time.Time {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return func() time.Time {
		now = now.Add(time.Millisecond)
		return now
	}
}

// digests are the contents of all tables that the bridge may follow.
func digests(t *testing.T, url string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, m := range []model{inboxModel, contactModel, conversationModel, messageModel, feedbackModel, requestModel, auditlogModel} {
		out[m.table] = pgtest.QueryValue(t, url, `SELECT count(*) || ' ' || md5(string_agg(x::text, E'\n' ORDER BY id)) FROM `+m.table+` x`)
	}
	return out
}

func TestSourceSchema_Gaps(t *testing.T) {
	t.Parallel()
	url := pgtest.CreateDB(t, pgtest.Start(t), "source")
	pgtest.Exec(t, url, SourceSchema)
	want := [][]string{
		{"conversations_contact", "{1,2,3,4,6,7,8,10,11}"},
		{"conversations_conversation", "{1,2,4,6,7,8,9,10,12,13}"},
		{"conversations_inbox", "{1,2,3,5,6,7,9,10,11}"},
		{"conversations_message", "{1,2,4,9,11,13,14,15,16,17,18,19}"},
		{"core_auditlog", "{1,2,3,4,5,6,7,8,9,11,14,15}"},
		{"csat_feedbacks", "{1,2,3,4,5,6,7,8,9,10,11,12}"},
	}
	got := pgtest.QueryText(t, url, `
		SELECT attrelid::regclass, array_agg(attnum ORDER BY attnum) FROM pg_attribute
		WHERE attrelid::regclass::text ~ '^(conversations_(inbox|contact|conversation|message)|csat_feedbacks|core_auditlog)$'
			AND attnum > 0 AND NOT attisdropped
		GROUP BY 1 ORDER BY attrelid::regclass::text`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attribute numbers (-want +got):\n%s", diff)
	}
}

// The same seed, clock and start give the same database, row for row.
func TestTraffic_DeterministicBySeed(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	run := func(name string, seed uint64) map[string]string {
		url := newSource(t, c, name, SeedOptions{Seed: 1, Now: ticking()})
		tr := NewTraffic(url, TrafficOptions{Seed: seed, Workers: 1, Actions: 800, Now: ticking()}, slog.New(slog.DiscardHandler))
		if err := tr.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return digests(t, url)
	}
	first := run("first", 7)
	if diff := cmp.Diff(first, run("second", 7)); diff != "" {
		t.Errorf("same seed, other rows (-first +second):\n%s", diff)
	}
	if cmp.Equal(first, run("third", 8)) {
		t.Error("another seed made the same rows")
	}
}

// Every action happens, none but a few are refused, and Run ends when told to.
func TestTraffic_DoesEverything(t *testing.T) {
	t.Parallel()
	url := newSource(t, pgtest.Start(t), "source", SeedOptions{Seed: 3})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tr := NewTraffic(url, TrafficOptions{Seed: 3, Workers: 3}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()

	missing := func() []string {
		var names []string
		counts := tr.Counts()
		for _, a := range actions {
			if counts.Actions[a.name] == 0 {
				names = append(names, a.name)
			}
		}
		return names
	}
	pgtest.Eventually(t, "every action", time.Minute, func() bool { return len(missing()) == 0 || len(done) > 0 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if names := missing(); len(names) > 0 {
		t.Errorf("actions that never happened: %v", names)
	}
	counts := tr.Counts()
	var total int64
	for _, n := range counts.Actions {
		total += n
	}
	if counts.Refused*20 > total {
		t.Errorf("%d of %d actions were refused", counts.Refused, total+counts.Refused)
	}
	t.Logf("%d actions, %d rows, %d refused", total, counts.Rows, counts.Refused)
	if n := pgtest.QueryValue(t, url, `SELECT count(*) FROM conversations_message WHERE pg_column_size(additional_attributes) > 15000`); n == "0" {
		t.Error("no message has a value that is stored out of line")
	}
}

// Every action is told of, under its kind.
func TestCounts_Summary(t *testing.T) {
	t.Parallel()
	c := Counts{Actions: map[string]int64{"close": 2, "assign": 3, "transfer": 4, "inbound message": 1, "move inbox": 5, "gain tenant": 6}}
	if got, want := c.summary(), "inbound messages 1, assignments 7, closes 2"; got != want {
		t.Errorf("summary() = %q, want %q", got, want)
	}
	if got := c.byKind()[tenantMoves]; got != 11 {
		t.Errorf("%d tenant moves, want 11", got)
	}
	for _, a := range actions {
		if a.kind == "" {
			t.Errorf("%s is of no kind", a.name)
		}
	}
}

// A second run goes on from the rows that the first has left.
func TestTraffic_Resumes(t *testing.T) {
	t.Parallel()
	url := newSource(t, pgtest.Start(t), "source", SeedOptions{Seed: 5, Tenants: 2, Conversations: 5})
	for seed := range uint64(2) {
		tr := NewTraffic(url, TrafficOptions{Seed: seed, Actions: 150}, slog.New(slog.DiscardHandler))
		if err := tr.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tr.Counts().Rows == 0 {
			t.Errorf("run %d wrote nothing", seed)
		}
	}
}
