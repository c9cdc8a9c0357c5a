package web

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
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
		Meaning, ForHowLong, Lag, Behind, Kept, ErrorAge string
		Bars                                             []bar
	}{
		Snapshot:   n,
		Meaning:    n.Meaning(),
		ForHowLong: status.Age(now.Sub(n.Since)),
		Lag:        status.Bytes(n.LagBytes),
		Behind:     status.Age(time.Duration(n.LagSeconds * float64(time.Second))),
	}
	if n.Slot != nil {
		data.Kept = status.Bytes(n.Slot.Retained)
	}
	if n.LastError != nil {
		data.ErrorAge = status.Age(now.Sub(n.LastError.At))
	}
	for _, c := range n.Copy {
		data.Bars = append(data.Bars, bar{Table: c.Table, Text: c.Rows(), Percent: c.Percent()})
	}
	if err := page.Execute(w, data); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}
