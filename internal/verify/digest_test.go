package verify

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
)

// A question to the source goes on to its end when the target was asked for too much,
// or its connection would be lost for the smaller one that follows; any other error
// ends it.
func TestBoth(t *testing.T) {
	t.Parallel()
	large, other := error(&pgconn.PgError{Code: "57014"}), errors.New("gone")
	if !fault.TooLarge(large) {
		t.Fatal("57014 doesn't count as too large")
	}
	failed := make(chan struct{})
	err := both(t.Context(), func(ctx context.Context) error {
		<-failed
		return ctx.Err()
	}, func(context.Context) error {
		defer close(failed)
		return large
	})
	if err != large {
		t.Errorf("got %v, want %v alone", err, large)
	}
	err = both(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}, func(context.Context) error { return other })
	if err != other {
		t.Errorf("got %v, want %v", err, other)
	}
}
