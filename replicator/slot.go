package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// ErrNoSlot says that the source has no replication slot of that name.
var ErrNoSlot = errors.New("the source has no such replication slot")

// Slot is a replication slot as pg_replication_slots shows it.
type Slot struct {
	Name     string
	Plugin   string
	Database string
	// Temporary slots vanish with their connection; the bridge makes none.
	Temporary bool
	Active    bool
	ActivePID int32
	// Confirmed is what the bridge has confirmed: streaming starts after it.
	Confirmed cdc.LSN
	// Restart is the oldest WAL that the slot keeps; zero for a lost one.
	Restart cdc.LSN
	// Retained is the WAL in bytes that the slot keeps on the source's disk.
	Retained int64
	// WALStatus is reserved, extended, unreserved or lost.
	WALStatus string
	// SafeBytes is how much more may be written before the slot can be lost;
	// nil without max_slot_wal_keep_size.
	SafeBytes *int64
	// Invalidation says why a lost slot was lost: wal_removed, idle_timeout,
	// rows_removed, wal_level_insufficient. Before PostgreSQL 17 it is
	// wal_removed for every lost slot.
	Invalidation string
	Failover     bool
}

// Lost reports that the changes after Confirmed can't be had any more.
func (s Slot) Lost() bool { return s.WALStatus == "lost" || s.Invalidation != "" }

// Usable returns an error unless the slot can carry the stream of database.
func (s Slot) Usable(database string) error {
	drop := "SELECT pg_drop_replication_slot(" + pg.QuoteLiteral(s.Name) + "), if nothing else uses it; else give this bridge another name (WALBRIDGE_NAME)"
	switch {
	case s.Plugin != "pgoutput":
		return fault.Wrap(fault.Stop, drop, fmt.Errorf("slot %s is of the plugin %s, not pgoutput", s.Name, s.Plugin))
	case s.Database != database:
		return fault.Wrap(fault.Stop, drop, fmt.Errorf("slot %s belongs to database %s, not %s", s.Name, s.Database, database))
	case s.Lost():
		lost := &SlotLostError{Slot: s.Name, Reason: s.Invalidation}
		return outOfStep(&OutOfStepError{Reason: lost.Error(), Cause: lost})
	}
	return nil
}

// SlotActiveError says that another connection streams from the slot.
type SlotActiveError struct {
	Slot string
	// PID is its walsender, 0 if it has gone meanwhile.
	PID int32
}

func (e *SlotActiveError) Error() string {
	return fmt.Sprintf("replication slot %s is in use by another connection (walsender %d)", e.Slot, e.PID)
}

// SQLState returns object_in_use.
func (e *SlotActiveError) SQLState() string { return "55006" }

// SlotLostError says that the source has removed WAL that the slot had not
// confirmed, or has invalidated it for another reason.
type SlotLostError struct {
	Slot, Reason string
}

func (e *SlotLostError) Error() string {
	return fmt.Sprintf("replication slot %s is lost (%s): changes since its confirmed position are gone", e.Slot, e.Reason)
}

// SlotBlockedError says that a slot could not be made in time, and for whom the
// source waited: a slot begins when every transaction that was writing at its
// making has ended.
type SlotBlockedError struct {
	Slot     string
	Waited   time.Duration
	Blockers []Blocker
}

func (e *SlotBlockedError) Error() string {
	var who []string
	for _, b := range e.Blockers {
		who = append(who, b.String())
	}
	if len(who) == 0 {
		who = []string{"nobody who is still there: try again"}
	}
	return fmt.Sprintf("replication slot %s was not made within %s, no slot is left behind; the source waited for %s",
		e.Slot, e.Waited, strings.Join(who, "; "))
}

// Blocker is an open transaction that has written, in any database of the source.
type Blocker struct {
	// PID is the session's backend, 0 for a prepared transaction.
	PID int32
	// GID is the name of a prepared transaction. It stays open until somebody
	// says COMMIT PREPARED or ROLLBACK PREPARED, across restarts.
	GID string
	// XID is the transaction's, as pg_locks and pg_prepared_xacts have it.
	XID         uint32
	Database    string
	Application string
	// Age is since its begin; 0 when the role may not see it.
	Age time.Duration
}

func (b Blocker) String() string {
	age := ""
	if b.Age > 0 {
		age = " open for " + b.Age.Round(time.Second).String()
	}
	if b.PID == 0 {
		return fmt.Sprintf("prepared transaction %s (xid %d) in database %s%s (ROLLBACK PREPARED %s)", b.GID, b.XID, b.Database, age, pg.QuoteLiteral(b.GID))
	}
	return fmt.Sprintf("session %d (xid %d) in database %s%s (SELECT pg_terminate_backend(%d))", b.PID, b.XID, b.Database, age, b.PID)
}

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// CheckSlotName refuses what PostgreSQL doesn't take as the name of a slot. The
// replication commands carry it unquoted, so nothing else may come near them.
func CheckSlotName(name string) error {
	if !slotName.MatchString(name) {
		return fault.Errorf(fault.Config, "use 1 to 63 lower-case letters, digits and underscores", "slot name %q is not valid", name)
	}
	return nil
}

// SlotOptions alter CreateSlot.
type SlotOptions struct {
	// Timeout bounds the wait for open transactions; 0 means 30 s.
	Timeout time.Duration
	// Failover lets standbys keep a copy of the slot (PostgreSQL 17 or later).
	Failover bool
}

// CreateSlot makes a pgoutput slot over an ordinary connection and returns its
// consistent point: exactly the transactions that commit after it will be
// streamed. The publication must exist before, because history is read as of
// its time. On any error no slot is left behind, except when the connection
// breaks while the answer is on its way.
//
// It uses the SQL function instead of CREATE_REPLICATION_SLOT: the command's
// syntax differs by version, and only an ordinary session has a statement
// timeout, which ends the wait at the server and not just here.
func CreateSlot(ctx context.Context, conn *pgx.Conn, name string, opts SlotOptions) (cdc.LSN, error) {
	if err := CheckSlotName(name); err != nil {
		return 0, err
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 30 * time.Second
	}
	args := ""
	if opts.Failover {
		args = ", failover => true"
	}
	var point string
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Should this process be killed, the server would go on waiting and leave a
		// slot to nobody. Platforms that can't look refuse any value but 0.
		if _, err := tx.Exec(ctx, "SAVEPOINT look"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SET LOCAL client_connection_check_interval = '1s'"); err != nil {
			if _, err := tx.Exec(ctx, "ROLLBACK TO SAVEPOINT look"); err != nil {
				return err
			}
		}
		timeout := strconv.FormatInt(opts.Timeout.Milliseconds(), 10)
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('statement_timeout', $1, true)", timeout); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput'`+args+`)`, name).Scan(&point)
	})
	if fault.Code(err) == "57014" && ctx.Err() == nil {
		blockers, _ := Blockers(ctx, conn)
		return 0, fault.Wrap(fault.Stop, "end the transactions named here, then start again",
			&SlotBlockedError{Slot: name, Waited: opts.Timeout, Blockers: blockers})
	}
	if err != nil {
		return 0, fmt.Errorf("create slot %s: %w", name, pg.Safe(err))
	}
	return parseLSN(point)
}

// Blockers lists the transactions that the making of a slot has to wait for:
// every one with a transaction id, in any database. It reads pg_locks, because
// pg_stat_activity hides other roles' sessions.
func Blockers(ctx context.Context, conn *pgx.Conn) ([]Blocker, error) {
	rows, err := conn.Query(ctx, `
		SELECT l.pid, l.xid, '', coalesce(a.datname, '?'), coalesce(a.application_name, ''),
		       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS age
		FROM (SELECT pid, (pg_catalog.array_agg(transactionid ORDER BY pg_catalog.age(transactionid) DESC))[1] AS xid FROM pg_catalog.pg_locks
		      WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
		        AND pid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() GROUP BY pid) l
		LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
		UNION ALL
		SELECT 0, transaction, gid, database, '', extract(epoch FROM clock_timestamp() - prepared)::float8
		FROM pg_catalog.pg_prepared_xacts
		ORDER BY age DESC`)
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", pg.Safe(err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
		var age float64
		err = row.Scan(&b.PID, &b.XID, &b.GID, &b.Database, &b.Application, &age)
		b.Age = time.Duration(age * float64(time.Second))
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("list open transactions: %w", pg.Safe(err))
	}
	return list, nil
}

// ReadSlot reads a slot, or returns ErrNoSlot.
func ReadSlot(ctx context.Context, conn *pgx.Conn, name string) (Slot, error) {
	return readSlot(ctx, conn.PgConn(), name)
}

// readSlot uses the simple protocol, which is all that a replication connection
// understands, and reads the row as JSON, because later versions have columns
// that earlier ones lack.
func readSlot(ctx context.Context, conn *pgconn.PgConn, name string) (Slot, error) {
	if err := CheckSlotName(name); err != nil {
		return Slot{}, err
	}
	results, err := conn.Exec(ctx, `
		SELECT (pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object('retained', pg_catalog.pg_wal_lsn_diff(
		  CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END,
		  s.restart_lsn)))::text
		FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = '`+name+`'`).ReadAll()
	if err != nil {
		return Slot{}, fmt.Errorf("read slot %s: %w", name, pg.Safe(err))
	}
	if len(results) != 1 || len(results[0].Rows) == 0 {
		return Slot{}, fmt.Errorf("read slot %s: %w", name, ErrNoSlot)
	}
	return parseSlot(results[0].Rows[0][0])
}

func parseSlot(text []byte) (Slot, error) {
	var row struct {
		SlotName           string `json:"slot_name"`
		Plugin             string
		Database           string
		Temporary          bool
		Active             bool
		ActivePID          int32  `json:"active_pid"`
		Confirmed          string `json:"confirmed_flush_lsn"`
		Restart            string `json:"restart_lsn"`
		Retained           int64
		WALStatus          string `json:"wal_status"`
		SafeWALSize        *int64 `json:"safe_wal_size"`
		InvalidationReason string `json:"invalidation_reason"`
		Failover           bool
	}
	if err := json.Unmarshal(text, &row); err != nil {
		return Slot{}, fmt.Errorf("read slot: %w", err)
	}
	s := Slot{
		Name: row.SlotName, Plugin: row.Plugin, Database: row.Database, Temporary: row.Temporary,
		Active: row.Active, ActivePID: row.ActivePID, Retained: row.Retained, WALStatus: row.WALStatus,
		SafeBytes: row.SafeWALSize, Invalidation: row.InvalidationReason, Failover: row.Failover,
	}
	if s.WALStatus == "lost" && s.Invalidation == "" {
		s.Invalidation = "wal_removed"
	}
	var err, err2 error
	s.Confirmed, err = parseLSN(row.Confirmed)
	s.Restart, err2 = parseLSN(row.Restart)
	return s, errors.Join(err, err2)
}

// EndWalsender terminates walsender pid if it is still the one that streams from
// the slot, and returns when the slot is free. It is for an instance that has
// raised the epoch and takes over from one that hangs.
func EndWalsender(ctx context.Context, conn *pgx.Conn, slot string, pid int32) error {
	// The server waits for the backend's end, at most this long at once.
	const wait = 5 * time.Second
	for {
		var ended bool
		err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_terminate_backend(active_pid, $3)
			FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid = $2`,
			slot, pid, wait.Milliseconds()).Scan(&ended)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case fault.Code(err) == "42501":
			return fault.Wrap(fault.Stop, "use the role that the other instance uses, or: GRANT pg_signal_backend TO <role>",
				fmt.Errorf("end walsender %d: %w", pid, pg.Safe(err)))
		case err != nil:
			return fmt.Errorf("end walsender %d: %w", pid, pg.Safe(err))
		}
	}
}

// DropSlot removes a slot; one that isn't there is no error. With terminate it
// ends the walsender that streams from it, else that is a *SlotActiveError.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string, terminate bool) error {
	for {
		slot, err := ReadSlot(ctx, conn, name)
		switch {
		case errors.Is(err, ErrNoSlot):
			return nil
		case err != nil:
			return err
		case slot.Active && !terminate:
			return fmt.Errorf("drop slot %s: %w", name, &SlotActiveError{Slot: name, PID: slot.ActivePID})
		case slot.Active:
			if err := EndWalsender(ctx, conn, name, slot.ActivePID); err != nil {
				return err
			}
		}
		_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", name)
		switch code := fault.Code(err); {
		case err == nil, code == "42704":
			return nil
		case code == "55006":
			// Somebody attached between the two statements: look again.
		default:
			return fmt.Errorf("drop slot %s: %w", name, pg.Safe(err))
		}
	}
}

// parseLSN reads an LSN; empty, for NULL, is zero.
func parseLSN(s string) (cdc.LSN, error) {
	if s == "" {
		return 0, nil
	}
	lsn, err := pglogrepl.ParseLSN(s)
	if err != nil {
		return 0, fmt.Errorf("read LSN: %w", err)
	}
	return lsn, nil
}
