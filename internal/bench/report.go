package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report is what Run has found; its JSON form is what --json prints.
type Report struct {
	Server   string   `json:"server"`
	Settings string   `json:"settings"`
	Scale    float64  `json:"scale"`
	Active   int      `json:"active"`
	Repeats  int      `json:"repeats"`
	Results  []Result `json:"results"`
}

// Result is one workload's.
type Result struct {
	Workload    string       `json:"workload"`
	What        string       `json:"what"`
	Changes     int          `json:"changes"`
	Contestants []Contestant `json:"contestants"`
}

// Contestant is one way to do the work, with every run of it.
type Contestant struct {
	Name string        `json:"name"`
	Runs []Measurement `json:"runs"`
	// Median has the medians of the runs, each of its own.
	Median Measurement `json:"median"`
	// Ratio is the median of the ratios within the rounds: the speed, or for
	// latency the median delay, of the yardstick by that of this contestant.
	// More than 1 is better than the yardstick.
	Ratio float64 `json:"ratio"`
	// Work is the same of the CPU time of all processes together. It says less,
	// but hardly depends on what else the machine does.
	Work float64 `json:"cpu_ratio"`
}

// Measurement is one run. CPU times are in seconds.
type Measurement struct {
	Seconds float64 `json:"seconds"`
	// Start is the part of Seconds before the bridge began with the stream.
	Start float64 `json:"start,omitempty"`
	// Walsender at the source, the bridge, Apply at the target (the
	// subscription's worker or the bridge's sessions), and Rest: all other
	// processes of both servers, those that have ended among them.
	Walsender float64 `json:"cpu_walsender"`
	Bridge    float64 `json:"cpu_bridge"`
	Apply     float64 `json:"cpu_apply"`
	Rest      float64 `json:"cpu_rest"`
	// API is the stand-in for Supabase's API. It is no part of CPU ratios: what a
	// real one takes is not the bridge's, nor on its machine.
	API float64 `json:"cpu_api,omitempty"`
	// PeakBytes is the largest resident memory of the bridge.
	PeakBytes int64 `json:"peak_bytes,omitempty"`
	// Others is the part of the machine's processors that processes of others used.
	Others float64 `json:"others"`
	// Milliseconds from commit to visible.
	P50 float64 `json:"p50_ms,omitempty"`
	P99 float64 `json:"p99_ms,omitempty"`
	Max float64 `json:"max_ms,omitempty"`
}

// String is one line of progress.
func (m *Measurement) String() string {
	if m.P50 > 0 {
		return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, others %.0f %%", m.P50, m.P99, 100*m.Others)
	}
	return fmt.Sprintf("%.2f s, others %.0f %%", m.Seconds, 100*m.Others)
}

// cpu is the time of all processes.
func (m *Measurement) cpu() float64 { return m.Walsender + m.Bridge + m.Apply + m.Rest }

// yardsticks are what the others are measured by.
var yardsticks = []string{(&native{}).name(), (&update{}).name()}

// summarise fills in medians and ratios.
func (r *Result) summarise() {
	at := slices.IndexFunc(r.Contestants, func(c Contestant) bool { return slices.Contains(yardsticks, c.Name) })
	for i := range r.Contestants {
		c := &r.Contestants[i]
		c.Median = medians(c.Runs)
		if at < 0 {
			continue
		}
		var ratios, work []float64
		for round, m := range c.Runs {
			y := r.Contestants[at].Runs[round]
			work = append(work, y.cpu()/max(m.cpu(), 1.0/userHz))
			if m.P50 > 0 {
				ratios = append(ratios, y.P50/m.P50)
			} else {
				ratios = append(ratios, y.Seconds/m.Seconds)
			}
		}
		c.Ratio, c.Work = median(ratios), median(work)
	}
}

func medians(runs []Measurement) Measurement {
	of := func(f func(m Measurement) float64) float64 {
		var list []float64
		for _, m := range runs {
			list = append(list, f(m))
		}
		return median(list)
	}
	return Measurement{
		Seconds:   of(func(m Measurement) float64 { return m.Seconds }),
		Start:     of(func(m Measurement) float64 { return m.Start }),
		Walsender: of(func(m Measurement) float64 { return m.Walsender }),
		Bridge:    of(func(m Measurement) float64 { return m.Bridge }),
		Apply:     of(func(m Measurement) float64 { return m.Apply }),
		Rest:      of(func(m Measurement) float64 { return m.Rest }),
		API:       of(func(m Measurement) float64 { return m.API }),
		PeakBytes: int64(of(func(m Measurement) float64 { return float64(m.PeakBytes) })),
		Others:    of(func(m Measurement) float64 { return m.Others }),
		P50:       of(func(m Measurement) float64 { return m.P50 }),
		P99:       of(func(m Measurement) float64 { return m.P99 }),
		Max:       of(func(m Measurement) float64 { return m.Max }),
	}
}

// median is the middle of the values, or the mean of the two in the middle.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile is the value below which the part q of the sorted values lies.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "PostgreSQL %s; %s\nmedians of %d rounds, scale %g, %s active at a time; × is the speed by the first line's; CPU in seconds\n",
		r.Server, r.Settings, r.Repeats, r.Scale, r.active())
	for i := range r.Results {
		r.Results[i].print(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) active() string {
	if r.Active == 0 {
		return "all conversations"
	}
	return fmt.Sprintf("%d conversations", r.Active)
}

func (r *Result) print(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s: %s\n", r.Workload, r.What)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	latency := len(r.Contestants) > 0 && r.Contestants[0].Median.P50 > 0
	line := func(cells ...string) { _, _ = fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }
	first := []string{"", "seconds", "(all)", "×", "CPU ×", "changes/s", "start"}
	if latency {
		first = []string{"", "p50 ms", "p99 ms", "max ms", "×", "CPU ×"}
	}
	api := slices.ContainsFunc(r.Contestants, func(c Contestant) bool { return c.Median.API > 0 })
	first = append(first, "walsender", "bridge", "apply", "rest")
	if api {
		first = append(first, "API")
	}
	line(append(first, "peak MiB", "others")...)
	for _, c := range r.sorted() {
		m := c.Median
		cells := []string{c.Name, fmt.Sprintf("%.2f", m.Seconds), spread(c.Runs), fmt.Sprintf("%.2f", c.Ratio), fmt.Sprintf("%.2f", c.Work),
			fmt.Sprintf("%.0f", float64(r.Changes)/m.Seconds), orDash(m.Start > 0, "%.2f", m.Start)}
		if latency {
			cells = []string{c.Name, fmt.Sprintf("%.1f", m.P50), fmt.Sprintf("%.1f", m.P99), fmt.Sprintf("%.1f", m.Max),
				fmt.Sprintf("%.2f", c.Ratio), fmt.Sprintf("%.2f", c.Work)}
		}
		cells = append(cells, fmt.Sprintf("%.2f", m.Walsender), orDash(m.Bridge > 0, "%.2f", m.Bridge), fmt.Sprintf("%.2f", m.Apply), fmt.Sprintf("%.2f", m.Rest))
		if api {
			cells = append(cells, orDash(m.API > 0, "%.2f", m.API))
		}
		line(append(cells, orDash(m.PeakBytes > 0, "%.0f", float64(m.PeakBytes)/(1<<20)), fmt.Sprintf("%.0f %%", 100*m.Others))...)
	}
	_ = t.Flush() // a strings.Builder takes everything
}

// sorted has the yardstick first.
func (r *Result) sorted() []Contestant {
	list := slices.Clone(r.Contestants)
	slices.SortStableFunc(list, func(a, b Contestant) int {
		rank := func(c Contestant) int {
			if slices.Contains(yardsticks, c.Name) {
				return 0
			}
			return 1
		}
		return rank(a) - rank(b)
	})
	return list
}

func orDash(ok bool, format string, v float64) string {
	if !ok {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// spread is the least and the largest time.
func spread(runs []Measurement) string {
	var list []float64
	for _, m := range runs {
		list = append(list, m.Seconds)
	}
	if len(list) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f–%.2f", slices.Min(list), slices.Max(list))
}
