package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// bounded gives a bound to a command that waits for the bridge; 0 sets no bound. A request
// that the bridge has begun goes on.
func bounded(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: %s", errTimeout, timeout))
}

// readProgress reads what the bridge has noted of a request; the zero value before
// it has noted anything.
func readProgress[T any](text string) (p T, err error) {
	if text == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("read the request's progress: %w", err)
	}
	return p, nil
}
