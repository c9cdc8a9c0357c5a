package verify_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// liveRuns is how many comparisons are made while both sides are written to.
var liveRuns = flag.Int("live", 8, "least comparisons of TestRun_NeverAFalseDifference; the bridge is killed a quarter as often")

// binaryDir has the command that the tests run.
var binaryDir string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaryDir, err = os.MkdirTemp("", "walbridge-verify"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaryDir)
	return m.Run()
}
