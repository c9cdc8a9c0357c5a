package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// Remains is what a target's private schema has of one bridge.
type Remains struct {
	// Installed reports that there is a private schema.
	Installed bool
	// Rows are the bridge's in the private tables, Held those in walbridge.held.
	Rows, Held int64
	// Holder and LeaseLeft are those of its lease.
	Holder    string
	LeaseLeft time.Duration
	// Shared reports that other bridges have rows, too.
	Shared bool
}

// LeaseError says that a bridge is at work, so that its rows must stay.
type LeaseError struct {
	Name, Holder string
}

func (e *LeaseError) Error() string {
	return fmt.Sprintf("bridge %s is at work: %s holds its lease at the target", e.Name, e.Holder)
}

// FindRemains reads what the private schema has of bridge name, and changes
// nothing.
func FindRemains(ctx context.Context, conn *pgx.Conn, name string) (Remains, error) {
	r, _, err := findRemains(ctx, conn, name, "")
	if err != nil {
		return Remains{}, fmt.Errorf("look for what bridge %s has at the target: %w", name, pg.Safe(err))
	}
	return r, nil
}

// RemoveRemains removes the rows and the indexes of bridge name from the private
// schema, and the schema itself when nobody else has a row in it. It reports
// whether the schema is gone: it stays, too, when something outside depends on
// it. While a bridge holds the lease nothing is removed, and the error is a
// *LeaseError. Tables outside the private schema are never touched.
func RemoveRemains(ctx context.Context, conn *pgx.Conn, name string) (r Remains, gone bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, sql := range []string{noTimeout, "SET LOCAL lock_timeout = '10s'", installLock} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var owned []bridgeTable
		if r, owned, err = findRemains(ctx, tx, name, " FOR UPDATE"); err != nil || !r.Installed {
			return err
		}
		if r.LeaseLeft > 0 {
			return &LeaseError{Name: name, Holder: r.Holder}
		}
		if err := untend(ctx, tx, name); err != nil {
			return err
		}
		for _, t := range owned {
			if _, err := tx.Exec(ctx, "DELETE FROM "+t.sql()+" WHERE "+pg.Quote(t.column)+" = $1", name); err != nil {
				return err
			}
		}
		if !r.Shared {
			gone, err = dropPrivate(ctx, tx)
		}
		if err == nil && !gone {
			err = dropOwn(ctx, tx, name)
		}
		return err
	})
	if err != nil {
		return Remains{}, false, fmt.Errorf("remove what bridge %s has at the target: %w", name, pg.Safe(err))
	}
	return r, gone, nil
}

// querier is a connection or a transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// bridgeTable is a private table and its column with the bridge's name.
type bridgeTable struct{ name, column string }

func (t bridgeTable) sql() string { return pg.Quote("walbridge", t.name) }

// findRemains takes the tables from the catalog, so that it knows those that
// later versions have. lock is appended to the query of the checkpoint row.
func findRemains(ctx context.Context, q querier, name, lock string) (Remains, []bridgeTable, error) {
	rows, err := q.Query(ctx, `
		SELECT c.relname::text, a.attname::text
		FROM pg_catalog.pg_class AS c
		JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND NOT a.attisdropped
		WHERE n.nspname = 'walbridge' AND c.relkind = 'r'
		  AND a.attname = CASE WHEN c.relname = 'checkpoint' THEN 'name' ELSE 'bridge' END
		ORDER BY 1`)
	if err != nil {
		return Remains{}, nil, err
	}
	owned, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t bridgeTable, err error) {
		err = row.Scan(&t.name, &t.column)
		return t, err
	})
	var r Remains
	if err == nil {
		err = q.QueryRow(ctx, "SELECT pg_catalog.to_regnamespace('walbridge') IS NOT NULL").Scan(&r.Installed)
	}
	if err != nil {
		return Remains{}, nil, err
	}
	for _, t := range owned {
		if t.name == "checkpoint" {
			if err := r.readLease(ctx, q, name, lock); err != nil {
				return Remains{}, nil, err
			}
		}
		var mine int64
		var others bool
		column := pg.Quote(t.column)
		err := q.QueryRow(ctx, "SELECT count(*) FILTER (WHERE "+column+" = $1), count(*) FILTER (WHERE "+column+" <> $1) > 0 FROM "+t.sql(), name).
			Scan(&mine, &others)
		if err != nil {
			return Remains{}, nil, err
		}
		r.Rows += mine
		r.Shared = r.Shared || others
		if t.name == "held" {
			r.Held = mine
		}
	}
	return r, owned, nil
}

func (r *Remains) readLease(ctx context.Context, q querier, name, lock string) error {
	var left int64
	err := q.QueryRow(ctx, `
		SELECT k.holder, coalesce(extract(epoch FROM k.lease_until - clock_timestamp()) * 1000000, 0)::int8
		FROM walbridge.checkpoint AS k WHERE k.name = $1`+lock, name).Scan(&r.Holder, &left)
	r.LeaseLeft = time.Duration(left) * time.Microsecond
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// privateObjects list what the private schema consists of, and what goes with it,
// as DROP takes it.
var privateObjects = []string{
	// What sink/rest has in another schema: of no use without its statements.
	`SELECT 'FUNCTION ' || pg_catalog.string_agg(p.oid::pg_catalog.regprocedure::text, ', ') FROM pg_catalog.pg_proc AS p
		WHERE p.oid IN (pg_catalog.to_regprocedure('public.walbridge(json)'), pg_catalog.to_regprocedure('public.walbridge_read(json)'))
			AND pg_catalog.to_regclass('walbridge.statements') IS NOT NULL`,
	`SELECT 'TABLE ' || pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, ', ') FROM pg_catalog.pg_class AS c
		WHERE c.relnamespace = 'walbridge'::pg_catalog.regnamespace AND c.relkind = 'r'`,
	`SELECT 'FUNCTION ' || pg_catalog.string_agg(p.oid::pg_catalog.regprocedure::text, ', ') FROM pg_catalog.pg_proc AS p
		WHERE p.pronamespace = 'walbridge'::pg_catalog.regnamespace AND p.prokind = 'f'`,
}

// dropPrivate drops the private schema with what is in it, but for nothing that
// somebody has made on top of it: without CASCADE the server refuses that.
func dropPrivate(ctx context.Context, tx pgx.Tx) (gone bool, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		// So that all names are qualified.
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = ''"); err != nil {
			return err
		}
		for _, list := range privateObjects {
			var what *string
			if err := tx.QueryRow(ctx, list).Scan(&what); err != nil {
				return err
			}
			if what == nil {
				continue
			}
			if _, err := tx.Exec(ctx, "DROP "+*what+" RESTRICT"); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DROP SCHEMA walbridge RESTRICT")
		return err
	})
	switch fault.Code(err) {
	case "2BP01", "42501":
		// Something depends on it, or it belongs to somebody else.
		return false, nil
	}
	return err == nil, err
}

// untend undoes what Tend and the target's scheduler do for the bridge.
func untend(ctx context.Context, tx pgx.Tx, name string) error {
	var quieted, function, cron bool
	err := tx.QueryRow(ctx, `SELECT pg_catalog.to_regclass('walbridge.quieted') IS NOT NULL, pg_catalog.to_regproc($1) IS NOT NULL, pg_catalog.to_regclass('cron.job') IS NOT NULL`,
		"walbridge."+tendName(name)).Scan(&quieted, &function, &cron)
	if err != nil {
		return err
	}
	if quieted && function {
		var some bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM walbridge.quieted WHERE bridge = $1)", name).Scan(&some); err != nil {
			return err
		}
		if some { // over the function, because the publication may be its owner's only
			if _, err := tx.Exec(ctx, "SELECT walbridge."+tendName(name)+"(k.epoch, false) FROM walbridge.checkpoint AS k WHERE k.name = $1", name); err != nil {
				return err
			}
		}
	}
	if !cron {
		return nil
	}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT cron.unschedule(j.jobid) FROM cron.job AS j WHERE j.command = $1", RaiseAlerts(name))
		return err
	})
	if fault.Code(err) == "42501" { // its jobs are none of this role's
		return nil
	}
	return err
}

// dropOwn drops the functions and indexes that are for this bridge alone. Of a
// bridge that has no rows they cost nothing, so a role that may not is no error.
func dropOwn(ctx context.Context, tx pgx.Tx, name string) error {
	rows, err := tx.Query(ctx, `
		SELECT i.indexrelid::pg_catalog.regclass::text
		FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
		WHERE c.relnamespace = 'walbridge'::pg_catalog.regnamespace
		  AND pg_catalog.strpos(pg_catalog.pg_get_expr(i.indpred, i.indrelid), 'bridge = ' || pg_catalog.quote_literal($1::text) || '::text') > 0`, name)
	if err != nil {
		return err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	drop := []string{fmt.Sprintf("DROP FUNCTION IF EXISTS walbridge.%s(int8, bool), walbridge.%s(), walbridge.%s(int8, text, text[])", tendName(name), raiseName(name), eraseName(name))}
	if len(indexes) > 0 {
		drop = append(drop, "DROP INDEX "+strings.Join(indexes, ", "))
	}
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		for _, sql := range drop {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if fault.Code(err) == "42501" {
		return nil
	}
	return err
}
