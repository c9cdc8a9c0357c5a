package mapping

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// shared is the one server of this package's tests, started by the first test
// that needs it. Each test makes databases of its own.
var shared struct {
	once    sync.Once
	cluster *pgtest.Cluster
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.cluster != nil {
		if err := shared.cluster.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "close cluster:", err)
		}
	}
	os.Exit(code)
}

func cluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a PostgreSQL server; run without -short")
	}
	shared.once.Do(func() { shared.cluster, shared.err = pgtest.New(context.Background(), "") })
	if shared.err != nil {
		t.Fatalf("start cluster: %v", shared.err)
	}
	return shared.cluster
}
