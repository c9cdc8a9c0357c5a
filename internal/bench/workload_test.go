package bench

import (
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		chosen []string
		want   string
	}{
		{nil, strings.Join(names(), " ")},
		{[]string{"move", "small"}, "small move"},
		{[]string{"small", "huge"}, "error"},
	} {
		got, err := choose(tc.chosen)
		text := "error"
		if err == nil {
			var list []string
			for _, w := range got {
				list = append(list, w.Name)
			}
			text = strings.Join(list, " ")
		}
		if text != tc.want {
			t.Errorf("choose(%v) = %s, want %s", tc.chosen, text, tc.want)
		}
	}
}

func TestWorkload_Scaled(t *testing.T) {
	t.Parallel()
	for _, w := range Workloads() {
		s := w.scaled(0.1)
		if w.kind == moving {
			// It stays one change of one row, of which as many follow as there are.
			if s.load != 1 || s.changes != s.conversations+s.messages {
				t.Errorf("%s: %d changes of %d rows", w.Name, s.load, s.changes)
			}
			continue
		}
		if got, want := s.load, w.load/10; got != want {
			t.Errorf("%s: load %d, want %d", w.Name, got, want)
		}
		if s := w.scaled(1e-9); s.load < 1 || s.contacts < 1 || s.conversations < 1 {
			t.Errorf("%s: nothing is left at a tiny scale: %+v", w.Name, s)
		}
	}
}

func TestDigest_SameAs(t *testing.T) {
	t.Parallel()
	want := digest{"contacts": "2 rows, sum 5", "messages": "1 rows, sum 7"}
	if err := (digest{"contacts": "2 rows, sum 5", "messages": "1 rows, sum 8"}).sameAs(want, "contacts", "messages"); err == nil {
		t.Error("another sum passed")
	}
	if err := (digest{"contacts": "2 rows, sum 5"}).sameAs(want, "contacts", "messages"); err == nil {
		t.Error("a missing table passed")
	}
	if err := (digest{"contacts": "2 rows, sum 5"}).sameAs(want, "contacts"); err != nil {
		t.Errorf("a table that isn't asked for: %v", err)
	}
}

func TestBridge_CheckEntries(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		what    string
		w       Workload
		audit   bool
		entries int
		ok      bool
	}{
		{"all", Workload{load: 10, changes: 2, entries: true}, true, 24, true},
		{"one missing", Workload{load: 10, changes: 2, entries: true}, true, 23, false},
		{"one twice", Workload{load: 10, changes: 2, entries: true}, true, 25, false},
		{"no audit", Workload{load: 10, changes: 2, entries: true}, false, 3, true},
		{"entries without audit", Workload{load: 10, changes: 2, entries: true}, false, 4, false},
		{"some", Workload{load: 1, changes: 100}, true, 5, true},
		{"none", Workload{load: 1, changes: 100}, true, 3, false},
	} {
		b := &bridge{arena: &arena{workload: tc.w, markers: 1}, audit: tc.audit}
		b.entries = 3
		if err := b.checkEntries(tc.entries); (err == nil) != tc.ok {
			t.Errorf("%s: got %v, want ok %t", tc.what, err, tc.ok)
		}
	}
}

func TestLogWatch(t *testing.T) {
	t.Parallel()
	l := &logWatch{since: time.Now().Add(-time.Second)}
	for _, line := range []string{"bridge started\n", strings.Repeat("x", logBytes), `{"msg":"streaming from the source"}` + "\n"} {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if got := l.streaming(); got < 1 {
		t.Errorf("streaming after %v s, want at least 1", got)
	}
	if got := l.String(); len(got) != logBytes || !strings.HasSuffix(got, "source\"}\n") {
		t.Errorf("kept %d bytes, want the last %d", len(got), logBytes)
	}
	var none *logWatch
	if none.String() != "" || none.streaming() != 0 {
		t.Error("a nil log says something")
	}
}

func TestLabel(t *testing.T) {
	t.Parallel()
	if got, want := label("small", "bridge, no audit", 0), "small-bridge-no-audit-1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
