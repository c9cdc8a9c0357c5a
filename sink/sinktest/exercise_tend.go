package sinktest

import (
	"cmp"
	"slices"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/sink"
)

func (i *instance) tend(want int64) {
	i.w.Helper()
	done, err := i.s.Tend(i.w.ctx, i.epoch, sink.Tending{})
	if err != nil {
		i.w.Fatalf("Tend: %v", err)
	}
	if done.Alerts != want {
		i.w.Fatalf("Tend raised %d alerts, want %d", done.Alerts, want)
	}
}

func (w *world) wantAlerts(want ...sink.Alert) {
	w.Helper()
	got := w.target.Alerts(w.schema.Alerts)
	order := func(a, b sink.Alert) int {
		return cmp.Or(cmp.Compare(a.Conversation, b.Conversation), a.Start.Compare(b.Start))
	}
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if diff := gocmp.Diff(want, got); diff != "" {
		w.Fatalf("alerts (-want +got):\n%s", diff)
	}
}

// at is a time before now, as the sink is given it and as it comes back.
func at(ago time.Duration) (text string, t time.Time) {
	t = time.Now().UTC().Add(-ago).Truncate(time.Microsecond)
	return t.Format("2006-01-02 15:04:05.999999") + "+00", t
}

func alert(tenant, conversation string, start time.Time) sink.Alert {
	return sink.Alert{Tenant: tenant, Conversation: conversation, Kind: sink.LongOpen, Start: start}
}

func (w *world) alerts() {
	i := w.start()
	old, oldTime := at(3 * time.Hour)
	late, lateTime := at(2 * time.Hour)
	fresh, _ := at(time.Minute)
	i.write(inserts(w.tickets,
		row(1, 7, "open", old, nil),     // idle since it was made
		row(2, 7, "open", old, late),    // reopened
		row(3, 7, "open", old, fresh),   // reopened a moment ago
		row(4, 7, "closed", old, nil),   //
		row(5, 7, "pending", old, late), //
		row(6, 8, "open", fresh, nil),   //
		row(7, 8, "open", old, nil),     // deleted at the source, and kept
	), &sink.Writes{Mark: []sink.Ref{{Table: w.tickets, Key: "7", LSN: 100}}})
	i.tend(2)
	i.tend(0)
	w.wantAlerts(alert("7", "1", oldTime), alert("7", "2", lateTime))

	// Closed in between and opened again, it is another episode. A change of
	// something else is none.
	again, againTime := at(90 * time.Minute)
	i.write(&sink.Writes{Rows: []sink.RowSet{
		{Table: w.tickets, Mode: sink.Update, Columns: []int{0, 1}, Rows: rows(row(1, 9))},
		{Table: w.tickets, Mode: sink.Update, Columns: []int{0, 4}, Rows: rows(row(2, again))},
	}})
	i.tend(1)
	w.wantAlerts(alert("9", "1", oldTime), alert("7", "2", lateTime), alert("7", "2", againTime))
}

func (w *world) alertThresholds() {
	i := w.start()
	hour, hourTime := at(61 * time.Minute)
	i.write(inserts(w.tickets, row(1, 7, "open", hour, nil), row(2, 8, "open", hour, nil)))
	w.target.Threshold(w.schema.Alerts, "7", 2*time.Hour)
	i.tend(1)
	w.wantAlerts(alert("8", "2", hourTime))
	w.target.Threshold(w.schema.Alerts, "7", time.Minute)
	i.tend(1)
	w.wantAlerts(alert("7", "1", hourTime), alert("8", "2", hourTime))
}

func (w *world) tendFenced() {
	old := w.start()
	hour, _ := at(2 * time.Hour)
	old.write(inserts(w.tickets, row(1, 7, "open", hour, nil)))
	next := &instance{w: w, s: w.open("bridge")}
	next.acquire("two", true)
	_, err := old.s.Tend(w.ctx, old.epoch, sink.Tending{Quiet: true})
	w.wantError("Tend under an old epoch", err, sink.ErrFenced)
	w.wantAlerts()
	next.tend(1)
}
