package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// update is a tenant move as somebody would do it by hand at the target: what
// the bridge can't be faster than.
type update struct {
	arena    *arena
	template string
	conn     *pgx.Conn
	over     chan error
}

func (u *update) name() string { return "UPDATE … FROM" }

func (u *update) prepare(context.Context) error { return nil }

func (u *update) reset(ctx context.Context) error { return u.arena.freshTarget(ctx, u.template) }

func (u *update) start(ctx context.Context, _ string) error {
	var err error
	if u.conn, err = pgx.Connect(ctx, u.arena.target.URL(runDB)); err != nil {
		return fmt.Errorf("connect to the target: %w", err)
	}
	u.over = make(chan error, 1)
	// One message of several statements is one transaction.
	go func() { u.over <- exec(ctx, u.conn, updateSQL) }()
	return nil
}

func (u *update) done(context.Context, *pgx.Conn, int) (bool, error) {
	select {
	case err := <-u.over:
		return true, err
	default:
		return false, nil
	}
}

func (u *update) visible() string { return "" }

func (u *update) pid() int { return 0 }

func (u *update) apiPid() int { return 0 }

func (u *update) log() *logWatch { return nil }

func (u *update) words() []string { return []string{" " + runDB + " "} }

func (u *update) stop(ctx context.Context) error {
	if u.conn == nil {
		return nil
	}
	err := u.conn.Close(ctx)
	u.conn = nil
	return err
}

func (u *update) verify(ctx context.Context, source digest) error {
	got, err := readDigest(ctx, u.arena.target.URL(runDB), digestTargetSQL)
	if err != nil {
		return err
	}
	return got.sameAs(source, "conversations", "messages") // the marker is not its business
}
