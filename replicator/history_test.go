package replicator

import (
	"errors"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

func TestHistory_Check(t *testing.T) {
	t.Parallel()
	good := func() History {
		return History{
			Name: "b", Fingerprint: "f",
			Checkpoint: sink.Checkpoint{LSN: 100, Origin: sink.Origin{SystemID: "1", Timeline: 1, Database: "app", Slot: "b", Fingerprint: "f"}},
			System:     System{ID: "1", Timeline: 1, Database: "app", Flush: 200},
			Slot:       &Slot{Name: "b", Plugin: "pgoutput", Database: "app", Confirmed: 90},
		}
	}
	first := func(h *History) { h.Checkpoint.LSN = 0 }
	promoted := func(h *History) {
		h.Failover, h.Slot.Failover = true, true
		h.System.Timeline, h.System.Switches = 2, map[int32]cdc.LSN{1: 100}
		h.Checkpoint.Heartbeat = sink.Heartbeat{Token: "t", Commit: 95}
	}
	stranger := func(h *History) { h.Checkpoint = sink.Checkpoint{} }
	for _, tt := range []struct {
		name  string
		alter []func(*History)
		want  string
	}{
		{"Good", nil, ""},
		{"Cluster", []func(*History){func(h *History) { h.System.ID = "2" }}, "another cluster"},
		{"Database", []func(*History){func(h *History) { h.System.Database = "x" }}, "is database x"},
		{"Timeline", []func(*History){func(h *History) { h.System.Timeline = 2 }}, "timeline 2"},
		{"Promoted", []func(*History){promoted}, ""},
		{"PromotedWithoutSetting", []func(*History){promoted, func(h *History) { h.Failover = false }}, "timeline 2"},
		{"PromotedWithoutCopy", []func(*History){promoted, func(h *History) { h.Slot.Failover = false }}, "timeline 2"},
		{"PromotedWithoutSlot", []func(*History){promoted, func(h *History) { h.Slot = nil }}, "timeline 2"},
		{"PromotedBehind", []func(*History){promoted, func(h *History) { h.System.Switches[1] = 99 }}, "lacks what the target has up to"},
		{"PromotedElsewhere", []func(*History){promoted, func(h *History) { delete(h.System.Switches, 1) }}, "doesn't come from the checkpoint's"},
		{"PromotedUnproven", []func(*History){promoted, func(h *History) { h.Checkpoint.Heartbeat = sink.Heartbeat{} }}, "nothing proves"},
		{"NoSlot", []func(*History){func(h *History) { h.Slot = nil }}, "slot b is gone"},
		{"Plugin", []func(*History){func(h *History) { h.Slot.Plugin = "x" }}, "plugin x"},
		{"Lost", []func(*History){func(h *History) { h.Slot.WALStatus = "lost" }}, "is lost"},
		{"SourceBack", []func(*History){func(h *History) { h.System.Flush = 99 }}, "earlier state"},
		{"TargetBack", []func(*History){func(h *History) { h.Slot.Confirmed = 101 }}, "confirmed up to"},
		{"Mapping", []func(*History){func(h *History) { h.Fingerprint = "g" }}, "mapping has changed"},
		{"First", []func(*History){stranger, func(h *History) { h.Slot = nil }}, ""},
		{"FirstBrokeOff", []func(*History){first}, ""},
		{"Stranger", []func(*History){stranger}, "no checkpoint that belongs to it"},
		{"OtherIntent", []func(*History){first, func(h *History) { h.System.ID = "2" }}, "no checkpoint that belongs to it"},
		{"Manual", []func(*History){stranger, func(h *History) { h.Manual = true }}, ""},
		{"ManualUnusable", []func(*History){stranger, func(h *History) { h.Manual, h.Slot.Plugin = true, "x" }}, "plugin x"},
	} {
		h := good()
		for _, alter := range tt.alter {
			alter(&h)
		}
		err := h.Check()
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || fault.HintOf(err) == "" || fault.ClassOf(err) != fault.Stop):
			t.Errorf("%s: %v, want %q with a hint", tt.name, err, tt.want)
		}
	}
}

// Whatever is wrong with a publication is said at once.
func TestPublication_Problems(t *testing.T) {
	t.Parallel()
	name := func(s string) TableName { return TableName{Schema: "public", Name: s} }
	p := Publication{Name: "p", Insert: true, Tables: []PublishedTable{
		{TableName: name("a"), Filter: true},
		{TableName: name("b"), ColumnList: true},
		{TableName: name("c"), Filter: true, ColumnList: true},
		{TableName: name("other"), Filter: true},
	}}
	tables := []TableName{name("a"), name("b"), name("c")}
	found := p.Problems(tables, true)
	text := errors.Join(found...)
	for _, want := range []string{"all of insert", "names of its partitions", "a row filter on public.a", "a column list on public.b", "a row filter and a column list on public.c"} {
		if text == nil || !strings.Contains(text.Error(), want) {
			t.Errorf("%v: want %q", text, want)
		}
	}
	if len(found) != 5 {
		t.Errorf("%d problems, want 5", len(found))
	}
	for _, err := range found {
		if !strings.HasPrefix(fault.HintOf(err), `ALTER PUBLICATION "p" `) {
			t.Errorf("%v: hint %q", err, fault.HintOf(err))
		}
	}
}
