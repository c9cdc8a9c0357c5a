package bench_test

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/walbridge/walbridge/internal/bench"
)

// Ensure that every workload runs and that its runs pass their own comparison.
// What is measured is worth nothing at this size.
func TestRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs a PostgreSQL server; run without -short")
	}
	if runtime.GOOS != "linux" {
		t.Skip("the benchmark reads CPU times from /proc")
	}
	binary := filepath.Join(t.TempDir(), "walbridge")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/walbridge").CombinedOutput(); err != nil {
		t.Fatalf("build the bridge: %v\n%s", err, out)
	}
	report, err := bench.Run(t.Context(), bench.Options{Scale: 0.002, Repeats: 1, Binary: binary, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(report.Results), len(bench.Workloads()); got != want {
		t.Errorf("%d results, want %d", got, want)
	}
	for _, r := range report.Results {
		if len(r.Contestants) != 3 {
			t.Errorf("%s: %d contestants, want 3", r.Workload, len(r.Contestants))
		}
		for _, c := range r.Contestants {
			if c.Median.Seconds <= 0 || c.Ratio <= 0 {
				t.Errorf("%s, %s: %+v", r.Workload, c.Name, c)
			}
		}
	}
}
