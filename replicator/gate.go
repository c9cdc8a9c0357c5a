package replicator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// SourceError is one thing that keeps a source from being streamed. It comes
// with a hint (fault.HintOf) that mends it.
type SourceError struct {
	// Check names it for programs: version, standby, wal_level, replication,
	// slots, senders, synchronous.
	Check  string
	Reason string
}

func (e *SourceError) Error() string { return e.Reason }

// minVersion is the oldest server_version_num that the bridge works with: the
// option "messages" of pgoutput came with PostgreSQL 14.
const minVersion = 140000

// sourceFacts is what CheckSource reads.
type sourceFacts struct {
	version     int
	standby     bool
	walLevel    string
	role        string
	replication bool
	slots       int // in use, without ours
	maxSlots    int
	senders     int // in use, without ours
	maxSenders  int
	synchronous string
}

// CheckSource reads whether the source can be streamed by this role under the
// bridge's name and slot. It changes nothing. It returns everything that it
// finds, each as an error with a *SourceError in it and a hint; err is only for
// a check that couldn't be made.
func CheckSource(ctx context.Context, conn *pgx.Conn, name, slot string) (found []error, err error) {
	var f sourceFacts
	err = conn.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'), current_user::text,
		       r.rolreplication OR r.rolsuper OR EXISTS (
		         SELECT FROM pg_roles m WHERE m.rolname = 'rds_replication' AND pg_has_role(current_user, m.oid, 'MEMBER')),
		       (SELECT count(*) FROM pg_replication_slots WHERE slot_name <> $1), current_setting('max_replication_slots')::int,
		       (SELECT count(*) FROM pg_stat_replication
		        WHERE pid IS DISTINCT FROM (SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1)),
		       current_setting('max_wal_senders')::int, current_setting('synchronous_standby_names')
		FROM pg_roles r WHERE r.rolname = current_user`, slot).
		Scan(&f.version, &f.standby, &f.walLevel, &f.role, &f.replication,
			&f.slots, &f.maxSlots, &f.senders, &f.maxSenders, &f.synchronous)
	if err != nil {
		return nil, fmt.Errorf("read source settings: %w", pg.Safe(err))
	}
	return f.problems(name), nil
}

func (f sourceFacts) problems(name string) (found []error) {
	add := func(check, hint, format string, args ...any) {
		found = append(found, fault.Wrap(fault.Stop, hint, &SourceError{Check: check, Reason: fmt.Sprintf(format, args...)}))
	}
	if f.version < minVersion {
		add("version", "upgrade the source", "the source runs PostgreSQL %d; 14 or later is needed", f.version/10000)
	}
	if f.standby {
		add("standby", "give the URL of the primary", "the source is a standby")
	}
	if f.walLevel != "logical" {
		add("wal_level", "ALTER SYSTEM SET wal_level = 'logical'; and restart the source once (RDS: rds.logical_replication = 1 in the parameter group)",
			"wal_level is %s, so the WAL doesn't hold what is needed", f.walLevel)
	}
	if !f.replication {
		add("replication", "ALTER ROLE "+pg.Quote(f.role)+" REPLICATION; (RDS: GRANT rds_replication TO "+pg.Quote(f.role)+";)",
			"role %s may not replicate", f.role)
	}
	if f.slots >= f.maxSlots {
		add("slots", fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; and restart the source, or drop a slot that nobody uses", f.maxSlots+2),
			"all %d replication slots are in use", f.maxSlots)
	}
	if f.senders >= f.maxSenders {
		add("senders", fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; and restart the source", f.maxSenders+2),
			"all %d walsenders are in use", f.maxSenders)
	}
	if err := standbyError(f.synchronous, name); err != nil {
		found = append(found, err)
	}
	return found
}

// standbyError refuses a synchronous_standby_names that selects the bridge.
func standbyError(names, bridge string) error {
	if !selectsStandby(names, bridge) {
		return nil
	}
	return fault.Wrap(fault.Stop, "name the real standbys: ALTER SYSTEM SET synchronous_standby_names = '…'; SELECT pg_reload_conf();",
		&SourceError{Check: "synchronous", Reason: fmt.Sprintf(
			"synchronous_standby_names takes the bridge for a standby (it is %q, the bridge is %s): every commit of the application would wait for the target", names, bridge)})
}

// selectsStandby reports whether synchronous_standby_names matches a walsender
// whose application_name is name: by name, regardless of case, or by *. All
// walsenders count there, those of logical slots too.
func selectsStandby(setting, name string) bool {
	// FIRST 2 (a, b), ANY 2 (a, b), 2 (a, b) and a, b.
	if i, quote := strings.IndexByte(setting, '('), strings.IndexByte(setting, '"'); i >= 0 && (quote < 0 || i < quote) {
		setting = setting[i+1:]
	}
	for setting != "" {
		var word string
		if word, setting = nextName(setting); word == "*" || strings.EqualFold(word, name) && word != "" {
			return true
		}
	}
	return false
}

// nextName cuts the first name off a list; quoted names double their quotes.
func nextName(list string) (name, rest string) {
	list = strings.TrimLeft(list, " \t\n,()")
	if !strings.HasPrefix(list, `"`) {
		i := strings.IndexAny(list, " \t\n,()")
		if i < 0 {
			i = len(list)
		}
		return list[:i], list[i:]
	}
	var b strings.Builder
	for i := 1; i < len(list); i++ {
		if list[i] != '"' {
			b.WriteByte(list[i])
			continue
		}
		if i+1 == len(list) || list[i+1] != '"' {
			return b.String(), list[i+1:]
		}
		b.WriteByte('"')
		i++
	}
	return b.String(), ""
}

// SynchronousState returns how the source counts the bridge's walsender:
// "async", or "sync", "potential" or "quorum" when its commits may wait for the
// bridge. It is "" while there is no walsender, or when the role may not see it.
func SynchronousState(ctx context.Context, conn *pgx.Conn, name string) (string, error) {
	var state string
	err := conn.QueryRow(ctx, `SELECT coalesce(max(sync_state), '') FROM pg_catalog.pg_stat_replication
		WHERE application_name = $1`, name).Scan(&state)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read synchronous state: %w", pg.Safe(err))
	}
	return state, nil
}
