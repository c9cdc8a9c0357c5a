package web

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/status"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// writePage renders the page: HTML and CSS in one answer, no script, reloaded by
// the browser every few seconds.
func writePage(w io.Writer, n status.Snapshot, now time.Time) error {
	type bar struct {
		Table, Text string
		Percent     int64
	}
	data := struct {
		status.Snapshot
		Meaning, ForHowLong, Lag, Behind, ErrorAge string
		Bars                                       []bar
	}{
		Snapshot:   n,
		Meaning:    meaning(n),
		ForHowLong: age(now.Sub(n.Since)),
		Lag:        bytes(n.LagBytes),
		Behind:     age(time.Duration(n.LagSeconds * float64(time.Second))),
	}
	if n.LastError != nil {
		data.ErrorAge = age(now.Sub(n.LastError.At))
	}
	for _, c := range n.Copy {
		b := bar{Table: c.Table, Percent: 100, Text: fmt.Sprintf("%d rows", c.Done)}
		if !c.Finished {
			about := ""
			if c.Estimated {
				about = "about "
			}
			b.Text = fmt.Sprintf("%d of %s%d rows", c.Done, about, c.Total)
			b.Percent = min(99, c.Done*100/max(1, c.Total))
		}
		data.Bars = append(data.Bars, b)
	}
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

// meaning says in a sentence what the state is about.
func meaning(n status.Snapshot) string {
	switch n.State {
	case status.Starting:
		return "Checking source and target, and preparing what is missing."
	case status.Copying:
		return "Copying the rows that are there already; changes are followed meanwhile."
	case status.Streaming:
		if n.LagBytes == 0 && n.LagSeconds == 0 {
			return "Following the source; the target has everything."
		}
		return "Following the source."
	case status.Standby:
		return "Another instance is at work; this one takes over when it falls silent."
	case status.Retrying:
		return "Source or target is away; the bridge goes on by itself."
	case status.Blocked:
		return "A person has to mend something; the bridge goes on by itself after that."
	case status.Stopped:
		return "The process is ending."
	}
	return ""
}

// age renders a duration in its largest unit.
func age(d time.Duration) string {
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

// bytes renders a number of bytes in its largest unit.
func bytes(n int64) string {
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
