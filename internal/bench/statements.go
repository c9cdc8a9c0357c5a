package bench

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
)

// resetStatements forgets what the target's server has done so far.
func (a *arena) resetStatements(ctx context.Context) error {
	if !a.opts.Statements {
		return nil
	}
	return exec(ctx, a.admin, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "SELECT pg_stat_statements_reset()")
}

// sayStatements shows what a run was made of, as the target's server saw it. The
// time of a COPY is mostly the time of waiting for its rows.
func (a *arena) sayStatements(ctx context.Context) {
	if !a.opts.Statements {
		return
	}
	rows, err := a.admin.Query(ctx, `SELECT s.calls, s.rows, s.total_exec_time, s.query FROM pg_stat_statements AS s
		JOIN pg_database AS d ON d.oid = s.dbid
		WHERE d.datname = $1 AND s.query NOT LIKE 'SELECT EXISTS (SELECT FROM %' AND s.query !~ 'hashtextextended'
		ORDER BY s.total_exec_time DESC LIMIT 15`, runDB)
	if err != nil {
		a.say("statements not read: %v", err)
		return
	}
	var calls, n int64
	var ms float64
	var query string
	_, err = pgx.ForEachRow(rows, []any{&calls, &n, &ms, &query}, func() error {
		query = strings.Join(strings.Fields(query), " ")
		a.say("  %8.0f ms %7d calls %8d rows  %.180s", ms, calls, n, query)
		return nil
	})
	if err == nil {
		err = a.sayTables(ctx)
	}
	if err != nil {
		a.say("statements not read: %v", err)
	}
}

// sayTables shows what happened to the tables. An update that isn't HOT writes
// to every index.
func (a *arena) sayTables(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, a.target.URL(runDB))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT t.relname::text, t.n_tup_ins, t.n_tup_upd, t.n_tup_hot_upd, t.n_tup_del, t.seq_scan,
			(SELECT count(*) FROM pg_index AS i WHERE i.indrelid = t.relid)
		FROM pg_stat_user_tables AS t WHERE t.n_tup_ins + t.n_tup_upd + t.n_tup_del > 0 ORDER BY 2 DESC`)
	if err != nil {
		return err
	}
	var table string
	var inserted, updated, hot, deleted, scans, indexes int64
	_, err = pgx.ForEachRow(rows, []any{&table, &inserted, &updated, &hot, &deleted, &scans, &indexes}, func() error {
		a.say("  %-26s %8d inserted %8d updated (%d HOT) %6d deleted %6d sequential scans %2d indexes",
			table, inserted, updated, hot, deleted, scans, indexes)
		return nil
	})
	return err
}
