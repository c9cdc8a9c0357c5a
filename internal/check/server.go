package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/replicator"
)

// gateChecks are those of replicator.CheckSource, by their names there.
var gateChecks = []struct{ check, why string }{
	{"version", "The options of pgoutput that the bridge needs came with PostgreSQL 14."},
	{"standby", "Slot, publication and heartbeats are written to the primary."},
	{"wal_level", "Only at the level logical does the WAL hold what tells rows apart."},
	{"replication", "Only a role with REPLICATION may open a replication connection."},
	{"slots", "The bridge needs one slot for itself."},
	{"senders", "Each replication connection is a walsender, the bridge's too."},
	{"synchronous", "The application would stand still whenever the bridge or the target does."},
}

// gateCheck picks what CheckSource has found under one name. It is asked once, by
// the first of these checks.
func gateCheck(name, why string) func(context.Context, *Env) ([]Finding, error) {
	return func(ctx context.Context, e *Env) (found []Finding, err error) {
		if name == gateChecks[0].check {
			if e.gate, err = replicator.CheckSource(ctx, e.source.conn, e.Name, e.Name); err != nil {
				return nil, err
			}
			e.gateRead = true
		}
		if !e.gateRead {
			return nil, unmadeError("the source's settings can't be read")
		}
		for _, err := range e.gated(name) {
			found = append(found, Finding{Severity: Error, What: err.Error(), Why: why, Fix: fault.HintOf(err)})
		}
		return found, nil
	}
}

// gated returns what CheckSource has found under a name.
func (e *Env) gated(name string) (list []error) {
	for _, err := range e.gate {
		var problem *replicator.SourceError
		if errors.As(err, &problem) && problem.Check == name {
			list = append(list, err)
		}
	}
	return list
}

// walKeepCheck: the slot keeps WAL while the bridge is away. Either that ends
// somewhere, and the slot with it, or it ends when the disk is full.
func walKeepCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	var keepMB, idleSeconds int64
	err = e.source.conn.QueryRow(ctx, `
		SELECT (SELECT setting::int8 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
		       coalesce((SELECT setting::int8 * CASE unit WHEN 'min' THEN 60 ELSE 1 END FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), 0)`).
		Scan(&keepMB, &idleSeconds)
	if err != nil {
		return nil, fmt.Errorf("read max_slot_wal_keep_size: %w", err)
	}
	if keepMB < 0 {
		found = append(found, Finding{
			Severity: Warning, What: "max_slot_wal_keep_size is unlimited",
			Why: "While the bridge is away the source keeps all WAL for it. When the disk is full, the application stops.",
			Fix: "ALTER SYSTEM SET max_slot_wal_keep_size = '…GB'; SELECT pg_reload_conf(); (a part of the disk that is free; beyond it the slot is lost and the first copy is made again)",
		})
	} else {
		found = append(found, Finding{
			Severity: Info, What: fmt.Sprintf("max_slot_wal_keep_size is %s", size(keepMB<<20)),
			Why: "The source's disk is safe. A bridge that is away for more WAL than that loses its slot and copies again.",
		})
	}
	if idleSeconds > 0 {
		found = append(found, Finding{
			Severity: Warning, What: fmt.Sprintf("idle_replication_slot_timeout is %s", time.Duration(idleSeconds)*time.Second),
			Why: "A bridge that is away for longer loses its slot and copies again.",
			Fix: "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();",
		})
	}
	return found, nil
}

// shortTimeout is what a pause of the network or of a busy host easily exceeds.
const shortTimeout = 5 * time.Second

func senderTimeoutCheck(ctx context.Context, e *Env) ([]Finding, error) {
	var ms int64
	err := e.source.conn.QueryRow(ctx, "SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout'").Scan(&ms)
	if err != nil {
		return nil, fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	return senderTimeout(time.Duration(ms) * time.Millisecond), nil
}

func senderTimeout(timeout time.Duration) []Finding {
	const fix = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();"
	switch {
	case timeout == 0:
		return []Finding{{Severity: Warning, What: "wal_sender_timeout is 0", Fix: fix,
			Why: "A bridge whose host has vanished holds the slot until TCP notices, and another one can't take over until then."}}
	case timeout < shortTimeout:
		return []Finding{{Severity: Warning, What: fmt.Sprintf("wal_sender_timeout is %s", timeout), Fix: fix,
			Why: "Any pause of the network or of the bridge's host ends the stream, which then begins anew."}}
	}
	return nil
}

// slotCheck looks at the bridge's slot, if it is there.
func slotCheck(ctx context.Context, e *Env) ([]Finding, error) {
	slot, err := replicator.ReadSlot(ctx, e.source.conn, e.Name)
	if errors.Is(err, replicator.ErrNoSlot) {
		f := Finding{Severity: Info, What: fmt.Sprintf("there is no slot %s yet", e.Name), Why: "run makes it."}
		if e.Manual {
			f.Severity, f.Why = Warning, "With --prepare=manual, run doesn't make it."
			f.Fix = "SELECT pg_create_logical_replication_slot(" + pg.QuoteLiteral(e.Name) + ", 'pgoutput'); once the publication exists"
		}
		return []Finding{f}, nil
	}
	if err != nil {
		return nil, err
	}
	e.slot = &slot
	var database string
	if err := e.source.conn.QueryRow(ctx, "SELECT current_database()::text").Scan(&database); err != nil {
		return nil, fmt.Errorf("read database: %w", err)
	}
	return slotFindings(slot, database), nil
}

func slotFindings(slot replicator.Slot, database string) []Finding {
	if err := slot.Usable(database); err != nil {
		f := failed(err)
		f.Why = "The bridge can't stream from it."
		return []Finding{f}
	}
	f := Finding{Severity: Info, What: fmt.Sprintf("slot %s keeps %s of WAL on the source's disk (%s)", slot.Name, size(slot.Retained), slot.WALStatus)}
	if slot.SafeBytes != nil {
		f.What += fmt.Sprintf("; %s more and it can be lost", size(max(*slot.SafeBytes, 0)))
	}
	if slot.Active {
		f.What += fmt.Sprintf("; walsender %d streams from it", slot.ActivePID)
	}
	switch slot.WALStatus {
	case "unreserved":
		f.Severity = Error
		f.Why = "The next checkpoint of the source may remove WAL that the bridge needs: the slot is then lost, and the first copy is made again."
		f.Fix = "start the bridge now, or: ALTER SYSTEM SET max_slot_wal_keep_size = '…GB'; SELECT pg_reload_conf();"
	case "extended":
		f.Severity = Warning
		f.Why = "The bridge is further behind than max_wal_size."
		f.Fix = "see that the bridge runs: walbridge run; if it does, that the target keeps up"
	}
	return []Finding{f}
}

// longOpen is how long run waits for open transactions when it makes the slot.
const longOpen = 30 * time.Second

// transactionsCheck: a slot begins when every transaction that was writing at its
// making has ended; a prepared one ends when somebody says so.
func transactionsCheck(ctx context.Context, e *Env) ([]Finding, error) {
	blockers, err := replicator.Blockers(ctx, e.source.conn)
	if err != nil {
		return nil, err
	}
	return blocking(blockers, e.slot != nil), nil
}

func blocking(blockers []replicator.Blocker, slotExists bool) (found []Finding) {
	for _, b := range blockers {
		f := Finding{Severity: Warning, Why: "The making of the slot waits until it ends."}
		if slotExists {
			f.Why = "The slot has to keep the WAL from its beginning on until it ends."
		}
		switch {
		case b.PID == 0:
			f.What = fmt.Sprintf("prepared transaction %s in database %s has been open for %s", b.GID, b.Database, b.Age.Round(time.Second))
			f.Fix = fmt.Sprintf("in that database: COMMIT PREPARED %s; or ROLLBACK PREPARED %[1]s;", pg.QuoteLiteral(b.GID))
			if !slotExists {
				f.Severity = Error
				f.Why += " Nothing ends it by itself, a restart included."
			}
		case b.Age >= longOpen:
			f.What = fmt.Sprintf("session %d in database %s has had a transaction open for %s", b.PID, b.Database, b.Age.Round(time.Second))
			f.Fix = fmt.Sprintf("let it end, or: SELECT pg_terminate_backend(%d);", b.PID)
		case b.Age == 0:
			f.Severity = Info
			f.What = fmt.Sprintf("session %d has a transaction open, and the role may not see for how long", b.PID)
			f.Fix = "GRANT pg_read_all_stats TO the role, to see it"
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

// size prints bytes for people.
func size(n int64) string {
	const unit = 1024
	switch {
	case n >= unit*unit*unit:
		return fmt.Sprintf("%.1f GB", float64(n)/(unit*unit*unit))
	case n >= unit*unit:
		return fmt.Sprintf("%.1f MB", float64(n)/(unit*unit))
	}
	return fmt.Sprintf("%d kB", (n+unit-1)/unit)
}
