package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/demo"
)

// native is PostgreSQL's own subscription. Its target has the source's tables.
type native struct {
	arena *arena
	conn  *pgx.Conn
}

const (
	nativeSlot     = "bench_native"
	nativeTemplate = "template_native"
)

func (n *native) name() string { return "native" }

// prepare fills the template by a subscription of its own.
func (n *native) prepare(ctx context.Context) error {
	a := n.arena
	if err := a.target.CreateDB(ctx, nativeTemplate); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, a.target.URL(nativeTemplate))
	if err != nil {
		return fmt.Errorf("connect to the target: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := exec(ctx, conn, demo.SourceSchema); err != nil {
		return err
	}
	if a.workload.kind == copying {
		return nil
	}
	if err := exec(ctx, conn, n.subscribe("slot_name = "+nativeSlot+"_prepare")); err != nil {
		return err
	}
	if err := wait(ctx, "the native copy", func() (bool, error) { return synchronised(ctx, conn) }); err != nil {
		return err
	}
	if err := exec(ctx, conn, "DROP SUBSCRIPTION bench", "ANALYZE"); err != nil {
		return err
	}
	if _, err := a.src.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", pristine(nativeSlot)); err != nil {
		return fmt.Errorf("make slot: %w", err)
	}
	return nil
}

func (n *native) subscribe(options string) string {
	return "CREATE SUBSCRIPTION bench CONNECTION '" + n.arena.source.URL(sourceDB) + "' PUBLICATION " + publication + " WITH (" + options + ")"
}

// synchronised reports whether all tables have been copied.
func synchronised(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var ok bool
	err := conn.QueryRow(ctx, `SELECT coalesce(bool_and(srsubstate IN ('r', 's')), false) FROM pg_subscription_rel`).Scan(&ok)
	return ok, err
}

func (n *native) reset(ctx context.Context) error {
	if err := n.arena.freshTarget(ctx, nativeTemplate); err != nil {
		return err
	}
	if n.arena.workload.kind == copying {
		return n.arena.dropSlot(ctx, nativeSlot)
	}
	return n.arena.freshSlot(ctx, nativeSlot)
}

func (n *native) start(ctx context.Context, _ string) error {
	var err error
	if n.conn == nil {
		if n.conn, err = pgx.Connect(ctx, n.arena.target.URL(runDB)); err != nil {
			return fmt.Errorf("connect to the target: %w", err)
		}
	}
	options := "slot_name = " + nativeSlot
	if n.arena.workload.kind != copying {
		options += ", create_slot = false, copy_data = false"
	}
	if more := n.arena.opts.Subscription; more != "" {
		options += ", " + more
	}
	return exec(ctx, n.conn, n.subscribe(options))
}

func (n *native) done(ctx context.Context, target *pgx.Conn, contact int) (ok bool, err error) {
	if n.arena.workload.kind == copying {
		return synchronised(ctx, target)
	}
	err = target.QueryRow(ctx, "SELECT EXISTS (SELECT FROM conversations_contact WHERE id = $1)", contact).Scan(&ok)
	return ok, err
}

func (n *native) visible() string {
	return "SELECT EXISTS (SELECT FROM conversations_message WHERE id = $1)"
}

func (n *native) pid() int { return 0 }

func (n *native) apiPid() int { return 0 }

func (n *native) log() *logWatch { return nil }

func (n *native) words() []string { return []string{"logical replication"} }

func (n *native) stop(ctx context.Context) error {
	if n.conn == nil {
		return nil
	}
	err := exec(ctx, n.conn, "DROP SUBSCRIPTION IF EXISTS bench")
	_ = n.conn.Close(ctx)
	n.conn = nil
	return err
}

func (n *native) verify(ctx context.Context, source digest) error {
	got, err := readDigest(ctx, n.arena.target.URL(runDB), digestSourceSQL)
	if err != nil {
		return err
	}
	return got.sameAs(source, "contacts", "conversations", "messages")
}
