package postgres_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/sink/postgres"
)

// Rows travel in plain text over a public network only where somebody has said
// that it is to be trusted.
func TestOpen_PlainText(t *testing.T) {
	t.Parallel()
	for _, trusted := range []bool{false, true} {
		opts := postgres.Options{URL: "postgres://app@db.example.invalid/app?sslmode=disable&connect_timeout=5", Name: "b", InsecureTLS: trusted}
		_, err := postgres.Open(t.Context(), opts, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Fatal("connected to nowhere")
		}
		if refused := strings.Contains(err.Error(), "in plain text"); refused == trusted {
			t.Errorf("InsecureTLS %v: %v", trusted, err)
		}
	}
}
