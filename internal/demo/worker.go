package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// worker is one process of the application. It remembers ids and leaves
// everything else to the database.
type worker struct {
	content
	conn *pgx.Conn
	now  func() time.Time
	// rows counts what the action under way has written.
	rows int64

	tenants, users, teams []int64
	inboxes               []*inbox
	contacts              []int64
	conversations         []*conversation
	// graves are rows that were deleted and may come back under their id.
	graves []grave
	// heavy are rows with values that are stored out of line.
	heavy []heavyRow
}

type inbox struct{ id int64 }

type conversation struct {
	id, contact int64
	inbox       *inbox
	closed      bool
	messages    []int64
}

type grave struct {
	id  int64
	row values
	of  *conversation
}

type heavyRow struct {
	model model
	id    int64
	of    *conversation
}

// Bounds of what a worker remembers; what is forgotten stays as it is.
const (
	maxConversations = 400
	maxMessages      = 60
	maxContacts      = 400
	maxGraves        = 40
	maxHeavy         = 20
)

// errNothing says that an action found nothing to act on.
var errNothing = errors.New("nothing to act on")

// db is the worker's connection; it counts the rows that are written through it.
func (w *worker) db() querier { return counting{w.conn, w} }

type counting struct {
	querier
	w *worker
}

func (c counting) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := c.querier.Exec(ctx, sql, args...)
	c.w.rows += tag.RowsAffected()
	return tag, err
}

// atomic runs do in a transaction, or in a savepoint of the one that q is.
func (w *worker) atomic(ctx context.Context, q querier, do func(q querier) error) error {
	if c, ok := q.(counting); ok {
		q = c.querier
	}
	before := w.rows
	err := pgx.BeginFunc(ctx, q.(interface {
		Begin(ctx context.Context) (pgx.Tx, error)
	}), func(tx pgx.Tx) error { return do(counting{tx, w}) })
	if err != nil {
		w.rows = before
	}
	return err
}

// load finds the worker's share of what is there: the inboxes whose id leaves
// the rest n, with their newest conversations.
func (w *worker) load(ctx context.Context, n, workers int) error {
	var err error
	ids := func(sql string, args ...any) []int64 {
		if err != nil {
			return nil
		}
		var rows pgx.Rows
		var out []int64
		if rows, err = w.conn.Query(ctx, sql, args...); err == nil {
			out, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return out
	}
	w.tenants = ids(`SELECT id FROM core_provedor ORDER BY id`)
	w.users = ids(`SELECT id FROM core_user ORDER BY id`)
	w.teams = ids(`SELECT id FROM conversations_team ORDER BY id`)
	w.contacts = ids(`SELECT id FROM conversations_contact WHERE id % $1 = $2 ORDER BY id DESC LIMIT $3`, workers, n, maxContacts)
	slices.Reverse(w.contacts)
	for _, id := range ids(`SELECT id FROM conversations_inbox WHERE id % $1 = $2 ORDER BY id`, workers, n) {
		w.inboxes = append(w.inboxes, &inbox{id})
	}
	if err != nil {
		return fmt.Errorf("read what is there: %w", err)
	}
	for _, in := range w.inboxes {
		if err := w.loadConversations(ctx, in, maxConversations/max(len(w.inboxes), 1)); err != nil {
			return fmt.Errorf("read what is there: %w", err)
		}
	}
	if len(w.tenants) == 0 || len(w.users) == 0 || len(w.teams) == 0 {
		return errors.New("the database has no tenants, users or teams: seed it first")
	}
	return nil
}

func (w *worker) loadConversations(ctx context.Context, in *inbox, limit int) error {
	rows, err := w.conn.Query(ctx, `
		SELECT c.id, c.contact_id, c.status = 'closed',
			ARRAY(SELECT m.id FROM conversations_message m WHERE m.conversation_id = c.id ORDER BY m.id DESC LIMIT $3)
		FROM conversations_conversation c WHERE c.inbox_id = $1 ORDER BY c.id DESC LIMIT $2`, in.id, limit, maxMessages)
	if err != nil {
		return err
	}
	for rows.Next() {
		c := &conversation{inbox: in}
		if err := rows.Scan(&c.id, &c.contact, &c.closed, &c.messages); err != nil {
			return err
		}
		w.conversations = append(w.conversations, c)
	}
	return rows.Err()
}

// clock is the application host's time as PostgreSQL stores it.
func (w *worker) clock() time.Time { return w.now().Truncate(time.Microsecond) }

// someConversation picks one for which ok holds, nil if chance finds none.
func (w *worker) someConversation(ok func(*conversation) bool) *conversation {
	for range min(len(w.conversations), 20) {
		if c := pick(w.content, w.conversations); ok(c) {
			return c
		}
	}
	return nil
}

func anyConversation(*conversation) bool { return true }
func isOpen(c *conversation) bool        { return !c.closed }
func isClosed(c *conversation) bool      { return c.closed }
func hasMessages(c *conversation) bool   { return len(c.messages) > 0 }

func (w *worker) someInbox() *inbox { return pick(w.content, w.inboxes) }
func (w *worker) tenant() int64     { return pick(w.content, w.tenants) }

func (c *conversation) add(ids ...int64) {
	c.messages = keepLast(append(c.messages, ids...), maxMessages)
}

func (w *worker) remember(c *conversation) {
	w.conversations = keepLast(append(w.conversations, c), maxConversations)
}

func (w *worker) bury(g grave)      { w.graves = keepLast(append(w.graves, g), maxGraves) }
func (w *worker) burden(h heavyRow) { w.heavy = keepLast(append(w.heavy, h), maxHeavy) }

// forget drops a conversation and what hangs on it.
func (w *worker) forget(gone func(*conversation) bool) {
	w.conversations = slices.DeleteFunc(w.conversations, gone)
	w.graves = slices.DeleteFunc(w.graves, func(g grave) bool { return gone(g.of) })
	w.heavy = slices.DeleteFunc(w.heavy, func(h heavyRow) bool { return h.of != nil && gone(h.of) })
}

func keepLast[T any](list []T, n int) []T {
	if len(list) > n {
		list = slices.Delete(list, 0, len(list)-n)
	}
	return list
}
