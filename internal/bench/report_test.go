package bench

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median(%v) = %v, want %v", tc.values, got, tc.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tc := range []struct{ q, want float64 }{{0, 1}, {0.5, 51}, {0.99, 100}, {1, 100}} {
		if got := quantile(hundred, tc.q); got != tc.want {
			t.Errorf("quantile(%v) = %v, want %v", tc.q, got, tc.want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing = %v, want 0", got)
	}
}

func testReport() *Report {
	r := Result{Workload: "small", What: "transactions", Changes: 1000, Contestants: []Contestant{
		{Name: "bridge, no audit", Runs: []Measurement{
			{Seconds: 2, Start: 0.5, Walsender: 1, Bridge: 1, Apply: 2, PeakBytes: 32 << 20, Others: 0.5},
			{Seconds: 5, Start: 0.5, Walsender: 1, Bridge: 1, Apply: 2, PeakBytes: 34 << 20, Others: 0.7},
			{Seconds: 1, Start: 0.5, Walsender: 1, Bridge: 1, Apply: 2, PeakBytes: 33 << 20, Others: 0.1},
		}},
		{Name: "native", Runs: []Measurement{
			{Seconds: 3, Walsender: 1, Apply: 1}, {Seconds: 10, Walsender: 1, Apply: 1}, {Seconds: 1, Walsender: 1, Apply: 1},
		}},
	}}
	r.summarise()
	return &Report{Server: "17.0", Settings: "as is", Scale: 1, Repeats: 3, Results: []Result{r}}
}

// Ensure that ratios are taken within a round: the second one was slow for both.
func TestResult_Summarise(t *testing.T) {
	t.Parallel()
	c := testReport().Results[0].Contestants
	if got, want := c[0].Ratio, 1.5; got != want {
		t.Errorf("ratio = %v, want %v", got, want)
	}
	if got, want := c[0].Work, 0.5; got != want {
		t.Errorf("ratio of CPU time = %v, want %v", got, want)
	}
	if got, want := c[1].Ratio, 1.0; got != want {
		t.Errorf("ratio of the yardstick = %v, want %v", got, want)
	}
	want := Measurement{Seconds: 2, Start: 0.5, Walsender: 1, Bridge: 1, Apply: 2, PeakBytes: 33 << 20, Others: 0.5}
	if diff := cmp.Diff(want, c[0].Median); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
}

// Ensure that delays are compared by their medians, not by how long it took.
func TestResult_SummariseLatency(t *testing.T) {
	t.Parallel()
	r := Result{Contestants: []Contestant{
		{Name: "native", Runs: []Measurement{{Seconds: 30, P50: 1}}},
		{Name: "bridge, audit", Runs: []Measurement{{Seconds: 30, P50: 4}}},
	}}
	r.summarise()
	if got, want := r.Contestants[1].Ratio, 0.25; got != want {
		t.Errorf("ratio = %v, want %v", got, want)
	}
}

func TestReport_Print(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := testReport().Print(&b); err != nil {
		t.Fatal(err)
	}
	native, bridge := strings.Index(b.String(), "native"), strings.Index(b.String(), "bridge, no audit")
	if native < 0 || bridge < native {
		t.Errorf("the yardstick isn't the first line:\n%s", &b)
	}
	for _, want := range []string{"small: transactions", "1.00–5.00", "1.50", "33", "50 %"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestReport_JSON(t *testing.T) {
	t.Parallel()
	want := testReport()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Errorf("after JSON (-want +got):\n%s", diff)
	}
}
