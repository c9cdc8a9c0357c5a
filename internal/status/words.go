package status

import (
	"fmt"
	"strconv"
	"time"
)

// Meaning says in a sentence what the state is about.
func (n Snapshot) Meaning() string {
	switch n.State {
	case Starting:
		return "Checking source and target, and preparing what is missing."
	case Copying:
		return "Copying the rows that are there already; changes are followed meanwhile."
	case Streaming:
		if n.LagBytes == 0 && n.LagSeconds == 0 {
			return "Following the source; the target has everything."
		}
		return "Following the source."
	case Standby:
		return "Another instance is at work; this one takes over when it falls silent."
	case Retrying:
		return "Source or target is away; the bridge goes on by itself."
	case Blocked:
		return "A person has to mend something; the bridge goes on by itself after that."
	case Stopped:
		if n.From == FromDatabases {
			return "No bridge is at work: none runs, or one is waiting and can't say for what."
		}
		return "The process is ending."
	case Unknown:
		return "A bridge is attached to the slot, and its lease is over or can't be read: it may be at work on a large transaction, or hang."
	}
	return ""
}

// Rows says how far the table is.
func (c Copy) Rows() string {
	switch {
	case c.Finished:
		return fmt.Sprintf("%d rows", c.Done)
	case c.Estimated && c.Total <= c.Done:
		return fmt.Sprintf("%d rows so far", c.Done)
	case c.Estimated:
		return fmt.Sprintf("%d of about %d rows", c.Done, c.Total)
	}
	return fmt.Sprintf("%d of %d rows", c.Done, c.Total)
}

// Age renders a duration in its largest unit.
func Age(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0 s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " days"
}

// Bytes renders a number of bytes in its largest unit.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 4 {
		v, i = v/unit, i+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + "KMGTP"[i:i+1] + "iB"
}
