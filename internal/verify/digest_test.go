package verify

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

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
	var err, broken error
	synctest.Test(t, func(t *testing.T) {
		err = both(t.Context(), func(ctx context.Context) error {
			synctest.Wait() // until the other has failed, and what follows from that
			broken = ctx.Err()
			return broken
		}, func(context.Context) error { return large })
	})
	if err != large || broken != nil {
		t.Errorf("got %v, and the source %v; want %v alone", err, broken, large)
	}
	err = both(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}, func(context.Context) error { return other })
	if err != other {
		t.Errorf("got %v, want %v", err, other)
	}
}
