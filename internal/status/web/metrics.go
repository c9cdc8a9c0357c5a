package web

import (
	"maps"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

// metricsHandler serves a registry of its own: the default one is a global that
// any library may add to. Labels are tables, phases and classes, never tenants:
// there are few of those, and of tenants any number.
func metricsHandler(state *status.State) http.Handler {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(
		&metrics{state: state},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// metrics reads the state at each scrape, so it can't disagree with status.json.
type metrics struct{ state *status.State }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("walbridge_"+name, help, labels, nil)
}

var (
	infoDesc       = desc("build_info", "Constant 1, labelled with the versions.", "version", "goversion")
	stateDesc      = desc("state", "1 for the state that the bridge is in, 0 for the others.", "state")
	readyDesc      = desc("ready", "1 while the bridge works or stands by, else 0.")
	checkpointDesc = desc("checkpoint_lsn_bytes", "End LSN of the last transaction that the target has.")
	sourceDesc     = desc("source_lsn_bytes", "Flush LSN of the source.")
	confirmedDesc  = desc("confirmed_lsn_bytes", "LSN that the source was told it may forget.")
	lagBytesDesc   = desc("lag_bytes", "WAL that is not at the target yet; 0 when idle.")
	lagSecondsDesc = desc("lag_seconds", "Age of the oldest commit that is not durable at the target; 0 when there is none.")
	rowsDesc       = desc("rows_applied_total", "Rows written to mapped tables since the first start.")
	entriesDesc    = desc("audit_rows_total", "Audit entries written since the first start.")
	droppedDesc    = desc("dropped_rows_total", "Rows without a tenant that the mapping drops, since the first start.")
	heldDesc       = desc("held_rows", "Rows that are held now.")
	tableRowsDesc  = desc("table_rows_total", "Rows written for a source table since the start of the process.", "table")
	tableHeldDesc  = desc("table_held_rows", "Rows of a source table that are held now.", "table")
	batchesDesc    = desc("batches_total", "Target transactions since the start of the process.")
	errorsDesc     = desc("errors_total", "Failed attempts since the start of the process.", "class")
	copyDoneDesc   = desc("copy_rows_done", "Rows that the first copy has read.", "table")
	copyTotalDesc  = desc("copy_rows_expected", "Rows that the first copy expects, an estimate until it ends.", "table")
	retainedDesc   = desc("slot_retained_bytes", "WAL that the source keeps for the bridge.")
	slotLevelDesc  = desc("slot_level", "How near the slot is to doing harm to the source, or to being lost: 0 ok, 1 warning, 2 alarm.")
	epochDesc      = desc("lease_epoch", "Epoch of the lease that this instance had last; absent before it had one. It rises with each session of any instance.")
	takeoversDesc  = desc("takeovers_total", "Times that this process waited as a standby and took over.")
	safeDesc       = desc("slot_safe_bytes", "WAL that may still be written before the source gives the slot up; absent without such a limit.")
)

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		infoDesc, stateDesc, readyDesc, checkpointDesc, sourceDesc, confirmedDesc, lagBytesDesc, lagSecondsDesc,
		rowsDesc, entriesDesc, droppedDesc, heldDesc, tableRowsDesc, tableHeldDesc, batchesDesc, errorsDesc, copyDoneDesc, copyTotalDesc,
		retainedDesc, slotLevelDesc, safeDesc, epochDesc, takeoversDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	n := m.state.Snapshot()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(infoDesc, 1, n.Version, runtime.Version())
	for _, p := range status.Phases() {
		gauge(stateDesc, one(p == n.State), string(p))
	}
	gauge(readyDesc, one(n.State.Ready()))
	position := func(d *prometheus.Desc, lsn cdc.LSN) {
		if lsn != 0 {
			gauge(d, float64(lsn))
		}
	}
	position(checkpointDesc, n.Checkpoint)
	position(sourceDesc, n.Source)
	position(confirmedDesc, n.Confirmed)
	gauge(lagBytesDesc, float64(n.LagBytes))
	gauge(lagSecondsDesc, n.LagSeconds)
	counter(takeoversDesc, n.Takeovers)
	if n.Epoch != 0 {
		gauge(epochDesc, float64(n.Epoch))
		// A standby knows no totals. If it said 0, its takeover would look like the
		// work of years in one second.
		counter(rowsDesc, n.Rows)
		counter(entriesDesc, n.Entries)
		counter(droppedDesc, n.Dropped)
	}
	gauge(heldDesc, float64(n.Held))
	for _, t := range n.Tables {
		counter(tableRowsDesc, t.Rows, t.Name)
		gauge(tableHeldDesc, float64(t.Held), t.Name)
	}
	counter(batchesDesc, n.Batches)
	// From the start, because rate() doesn't see a counter's first value.
	errors := map[string]int64{fault.Stop.String(): 0, fault.Retry.String(): 0, fault.Reject.String(): 0}
	maps.Copy(errors, n.Errors)
	for class, count := range errors {
		counter(errorsDesc, count, class)
	}
	for _, c := range n.Copy {
		gauge(copyDoneDesc, float64(c.Done), c.Table)
		gauge(copyTotalDesc, float64(c.Total), c.Table)
	}
	if n.Slot != nil {
		gauge(retainedDesc, float64(n.Slot.Retained))
		switch n.Slot.Level {
		case status.LevelOK:
			gauge(slotLevelDesc, 0)
		case status.LevelWarning:
			gauge(slotLevelDesc, 1)
		case status.LevelAlarm:
			gauge(slotLevelDesc, 2)
		}
		if n.Slot.Safe != nil {
			gauge(safeDesc, float64(*n.Slot.Safe))
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
