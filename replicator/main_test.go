package replicator

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(tidied{m}) }

// tidied stops the shared cluster before anybody looks for goroutines that are
// left.
type tidied struct{ *testing.M }

func (m tidied) Run() int {
	code := m.M.Run()
	if shared.cluster != nil {
		if err := shared.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	return code
}
