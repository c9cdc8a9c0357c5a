package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/status"
)

// Charts are drawn into this box and stretched to their place.
const chartWidth, chartHeight = 600, 100

// chart is one line over time, drawn on the server so that it is there without a
// script.
type chart struct {
	Title, Most, Begin string
	// Line and Area are paths, Bad the spans during which the bridge wasn't ready.
	Line, Area string
	Bad        []span
}

type span struct{ X, Width string }

// draw draws value of the samples, which come so often, in the window that ends at
// now. least is what the top of the chart stands for at least, so that nothing looks
// like much. most is the largest value.
func draw(samples []status.Sample, now time.Time, window, every time.Duration, least float64, value func(*status.Sample) float64) (c chart, most float64) {
	x := func(t time.Time) float64 {
		return chartWidth * (1 - min(1, max(0, now.Sub(t).Seconds()/window.Seconds())))
	}
	for i := range samples {
		most = max(most, value(&samples[i]))
	}
	top := max(most, least)
	var line strings.Builder
	for i := range samples {
		s := &samples[i]
		verb := byte('L')
		if i == 0 {
			verb = 'M'
		}
		fmt.Fprintf(&line, "%c%.1f %.1f", verb, x(s.At), chartHeight-value(s)/top*(chartHeight-4)-1)
		if !s.State.Ready() {
			from, to := x(s.At), x(s.At.Add(every))
			c.Bad = append(c.Bad, span{X: fmt.Sprintf("%.1f", from), Width: fmt.Sprintf("%.1f", max(1, to-from))})
		}
	}
	c.Line = line.String()
	c.Area = fmt.Sprintf("%sL%.1f %d L%.1f %dZ", c.Line, x(samples[len(samples)-1].At), chartHeight, x(samples[0].At), chartHeight)
	return c, most
}

// charts draws what the history has of the last minutes, or of a day.
func charts(w *words, h *status.History, day bool, now time.Time) []chart {
	samples, every := h.Recent, status.SampleEvery
	if day {
		samples, every = h.Day, status.DayEvery
	}
	if len(samples) < 2 {
		return nil
	}
	window := max(now.Sub(samples[0].At), every)
	seconds, s := draw(samples, now, window, every, 5, func(s *status.Sample) float64 { return s.LagSeconds })
	seconds.Title, seconds.Most = w.LagSeconds, w.Age(time.Duration(s*float64(time.Second)))
	bytes, b := draw(samples, now, window, every, 64<<10, func(s *status.Sample) float64 { return float64(s.LagBytes) })
	bytes.Title, bytes.Most = w.LagBytes, w.Bytes(int64(b))
	rows, r := draw(samples, now, window, every, 10, func(s *status.Sample) float64 { return s.RowRate })
	rows.Title, rows.Most = w.RowsPerSecond, w.Rate(r)
	list := []chart{seconds, bytes, rows}
	for i := range list {
		list[i].Most, list[i].Begin = fmt.Sprintf(w.Most, list[i].Most), w.Ago(now, samples[0].At)
	}
	return list
}
