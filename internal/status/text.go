package status

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Text renders n for a person: a heading, then a label and its value a line.
func (n Snapshot) Text(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s%s\n%s\n\n", n.Name, n.State, n.since(now), n.Meaning())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(label string, cells ...string) {
		text := strings.ReplaceAll(strings.Join(cells, "\t"), "\n", "\n\t")
		_, _ = fmt.Fprintf(w, "%s\t%s\n", label, text)
	}
	row("checkpoint", position(n.Checkpoint))
	row("source", position(n.Source))
	if n.Blocked != 0 {
		row("blocked at", "the transaction at "+n.Blocked.String())
	}
	row("lag", n.lag())
	if n.From != FromDatabases || n.Checkpoint != 0 {
		row("rows", fmt.Sprintf("%d applied, %d held, %d without a tenant dropped", n.Rows, n.Held, n.Dropped))
		row("entries", fmt.Sprintf("%d in the audit log", n.Entries))
		if n.Chain != "" {
			row("chain", n.Chain)
		}
	}
	row("slot", n.slot())
	for i, c := range n.Copy {
		label := ""
		if i == 0 {
			label = "copy"
		}
		row(label, c.Table, fmt.Sprintf("%3d %%", c.Percent()), c.Rows())
	}
	if n.CopyRate > 0 {
		row("copying", fmt.Sprintf("%.0f rows/s, about %s left", n.CopyRate, time.Duration(n.CopyLeft)*time.Second))
	}
	if r := n.Request; r != nil {
		row("request", fmt.Sprintf("%d, %s%s", r.ID, r.Kind, r.figures()))
	}
	if p := n.LastError; p != nil {
		if n.From == FromDatabases {
			row("wrong", p.Message)
		} else {
			row("last error", fmt.Sprintf("%s ago: %s", Age(now.Sub(p.At)), p.Message))
		}
		if p.Hint != "" {
			row("fix", p.Hint)
		}
	}
	_ = w.Flush() // to a strings.Builder
	return b.String()
}

// figures say how far a request is, and nothing before its first step.
func (r *Request) figures() string {
	text := ""
	if r.Table != "" {
		text = " of " + r.Table
	}
	switch {
	case r.Done == 0 && r.Total == 0:
		return text
	case r.Kind == "forget":
		return fmt.Sprintf("%s: rows erased: %d", text, r.Done)
	case r.Kind == "skip":
		return fmt.Sprintf("%s: changes left out: %d", text, r.Done)
	case r.Total > 0:
		return fmt.Sprintf("%s: %d %%, %d rows looked at, %d changed", text, r.Percent(), r.Done, r.Written)
	}
	return fmt.Sprintf("%s: %d rows looked at, %d changed", text, r.Done, r.Written)
}

// since says how long the state has lasted. The databases only know when the
// bridge last wrote to the target.
func (n Snapshot) since(now time.Time) string {
	switch {
	case n.Since.IsZero():
		return ""
	case n.From == FromDatabases:
		return ", last written " + Age(now.Sub(n.Since)) + " ago"
	}
	return " for " + Age(now.Sub(n.Since))
}

func (n Snapshot) lag() string {
	seconds := Age(time.Duration(n.LagSeconds * float64(time.Second)))
	switch {
	case n.From != FromDatabases:
		return Bytes(n.LagBytes) + ", " + seconds
	case n.Checkpoint == 0 || n.Source == 0:
		return "unknown"
	case n.LagBytes == 0:
		return "none"
	}
	return fmt.Sprintf("at most %s, about %s", Bytes(n.LagBytes), seconds)
}

func (n Snapshot) slot() string {
	switch {
	case n.Slot == nil && n.From == FromDatabases && n.Source != 0:
		return "none at the source"
	case n.Slot == nil:
		return "unknown"
	case n.Slot.WALStatus == SlotDropped:
		return "ALARM: dropped at source.max_retained_wal; resync needed"
	}
	text := fmt.Sprintf("%s, the source keeps %s of WAL for it", n.Slot.WALStatus, Bytes(n.Slot.Retained))
	if n.Slot.Safe != nil {
		text += fmt.Sprintf(", lost after %s more", Bytes(*n.Slot.Safe))
	}
	if l := n.Slot.Level; l == LevelWarning || l == LevelAlarm {
		text = strings.ToUpper(string(l)) + ": " + text
	}
	return text
}

func position(lsn cdc.LSN) string {
	if lsn == 0 {
		return "unknown"
	}
	return lsn.String()
}

// Line renders n as one line of a log: time, state, then names and values.
func (n Snapshot) Line(now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s from=%s checkpoint=%s lag_bytes=%d lag_seconds=%.1f rows=%d entries=%d held=%d",
		now.UTC().Format(time.RFC3339), n.State, n.From, n.Checkpoint, n.LagBytes, n.LagSeconds, n.Rows, n.Entries, n.Held)
	if n.Slot != nil {
		fmt.Fprintf(&b, " retained_bytes=%d", n.Slot.Retained)
	}
	for _, c := range n.Copy {
		if !c.Finished {
			fmt.Fprintf(&b, " copy=%s:%d%%", c.Table, c.Percent())
		}
	}
	if p := n.LastError; p != nil && !n.Healthy() {
		fmt.Fprintf(&b, " error=%q", p.Message)
	}
	return b.String()
}
