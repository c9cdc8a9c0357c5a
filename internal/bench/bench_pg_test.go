package bench_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/walbridge/walbridge/internal/bench"
)

func TestMain(m *testing.M) {
	bench.StandIn()
	os.Exit(m.Run())
}

// Ensure that every workload runs and that its runs pass their own comparison.
// What is measured is worth nothing at this size.
func TestRun(t *testing.T) {
	t.Parallel()
	run(t, bench.Options{Scale: 0.002, Repeats: 1}, len(bench.Workloads()), 3)
}

// Ensure that bridges that write over the API do, too.
func TestRun_OverAPI(t *testing.T) {
	t.Parallel()
	report := run(t, bench.Options{Workloads: []string{"small", "copy"}, Scale: 0.002, Repeats: 1, Sink: "rest", Audit: "on"}, 2, 2)
	if c := report.Results[0].Contestants[1]; c.Name != "API, audit" || c.Median.API <= 0 {
		t.Errorf("%+v, want the CPU time of the API", c)
	}
}

func run(t *testing.T, opts bench.Options, results, contestants int) *bench.Report {
	t.Helper()
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
	opts.Binary, opts.Progress = binary, t.Output()
	report, err := bench.Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(report.Results); got != results {
		t.Errorf("%d results, want %d", got, results)
	}
	for _, r := range report.Results {
		if len(r.Contestants) != contestants {
			t.Errorf("%s: %d contestants, want %d", r.Workload, len(r.Contestants), contestants)
		}
		for _, c := range r.Contestants {
			if c.Median.Seconds <= 0 || c.Ratio <= 0 {
				t.Errorf("%s, %s: %+v", r.Workload, c.Name, c)
			}
		}
	}
	return report
}
