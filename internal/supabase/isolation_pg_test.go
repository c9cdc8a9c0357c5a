package supabase_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// While the application writes and channels pass from tenant to tenant, no query of
// a tenant sees a row or a number that isn't his in the same snapshot, and none
// writes. ISOLATION_QUERIES asks for more of them.
func TestIsolation(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml")
	queries := 200
	if s := os.Getenv("ISOLATION_QUERIES"); s != "" {
		if _, err := fmt.Sscan(s, &queries); err != nil {
			t.Fatal(err)
		}
	}
	p.apply()
	if err := demo.Seed(t.Context(), pgtest.Connect(t, p.src), demo.SeedOptions{Seed: 11, Contacts: 10, Conversations: 15, Messages: 3}); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, p.dst, "INSERT INTO conversation_alerts_thresholds SELECT n, '1 microsecond' FROM generate_series(1, 4) n")
	b := p.start()
	b.catchUp()
	pgtest.Eventually(t, "alerts", patience, func() bool { return p.value("SELECT count(*) > 0 FROM conversation_alerts") == "t" })

	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() { written <- demo.NewTraffic(p.src, demo.TrafficOptions{Seed: 11, Rate: 100}, quiet).Run(ctx) }()
	w := &witness{project: p, random: rand.New(rand.NewPCG(11, 0)), truth: pgtest.Connect(t, p.dst),
		api: pgtest.Connect(t, p.cluster.URLAs("authenticator", "", "project")), seen: map[string]int{}}
	for range queries {
		w.query()
		if t.Failed() {
			break
		}
	}
	stop()
	if err := <-written; err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	b.catchUp()
	for _, r := range p.readable() {
		if w.seen[r.name] == 0 {
			t.Errorf("no query has seen a row of %s", r.name)
		}
	}
	if moved := p.value("SELECT count(*) FROM audit_logs WHERE details->>'op' = 'move'"); moved == "0" {
		t.Error("no tenant has moved, so that isn't tested")
	}
}

// witness asks the same of the API and of the database's owner, in one snapshot.
type witness struct {
	*project
	random     *rand.Rand
	truth, api *pgx.Conn
	seen       map[string]int
	asked      int
}

func (w *witness) pick(list ...string) string { return list[w.random.IntN(len(list))] }

// query takes the next table or view, and draws a token and a condition. Its {rows} is what the
// owner has to add to see what the token's bearer is to see.
func (w *witness) query() {
	w.Helper()
	tenant := 1 + w.random.IntN(4)
	role, token, rows := "authenticated", claims(tenant), fmt.Sprintf("provedor_id = %d", tenant)
	switch w.random.IntN(8) {
	case 0:
		token, rows = w.pick("", "{}", `{"user_metadata": {"provedor_id": 1}}`, claims(`"1 OR true"`), claims("null")), "false"
	case 1:
		role = "anon"
	}
	readable := w.readable()
	table := readable[w.asked%len(readable)].name
	w.asked++
	sql := "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '') FROM (SELECT * FROM " + table + " AS r WHERE {rows}"
	if table == "conversation_alerts" {
		sql += " AND ({rows} AND EXISTS (SELECT FROM conversations AS c WHERE c.id = r.conversation_id AND c.provedor_id = r.provedor_id))"
	}
	sql += ") AS t"
	if w.random.IntN(4) == 0 && (table == "messages" || table == "csat_feedback") {
		sql += " JOIN (SELECT id AS c, status FROM conversations WHERE {rows}) AS c ON c.c = t.conversation_id"
	}
	sql += w.pick("", "", " WHERE true OR provedor_id > 0", fmt.Sprintf(" WHERE provedor_id = %d", 1+w.random.IntN(4)), fmt.Sprintf(" WHERE provedor_id <> %d OR provedor_id IS NULL", tenant))

	want, snapshot, end := w.owner(strings.ReplaceAll(sql, "{rows}", rows))
	defer end()
	sql = strings.ReplaceAll(sql, "{rows}", "true")
	got, err := w.ask(snapshot, role, token, sql)
	switch {
	case role == "anon":
		if pg.Code(err) != "42501" {
			w.Errorf("anon: %s: %s %v", sql, got, err)
		}
	case err != nil:
		w.Errorf("%s: %v", sql, err)
	case got != want:
		w.Errorf("with the claims %s\n%s\nsees  %s\nisn't %s", token, sql, got, want)
	case !strings.HasPrefix(got, "0 "):
		w.seen[table]++
	}
	if w.random.IntN(10) == 0 {
		sql := fmt.Sprintf(w.pick("UPDATE %s SET provedor_id = 1", "DELETE FROM %s", "INSERT INTO %s (provedor_id) VALUES (1)"), w.pick("contacts", "messages", "audit_logs", "conversation_alerts"))
		if got, err := w.ask(snapshot, role, token, sql); pg.Code(err) != "42501" {
			w.Errorf("%s: %s: %s %v", role, sql, got, err)
		}
	}
}

// owner asks as the owner, in a snapshot that lasts until end.
func (w *witness) owner(sql string) (got, snapshot string, end func()) {
	w.Helper()
	ctx := w.Context()
	tx, err := w.truth.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		err = tx.QueryRow(ctx, "SELECT pg_export_snapshot()").Scan(&snapshot)
	}
	if err == nil {
		err = tx.QueryRow(ctx, sql).Scan(&got)
	}
	var torn int
	if err == nil {
		err = tx.QueryRow(ctx, "SELECT count(*) FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id WHERE m.provedor_id <> c.provedor_id").Scan(&torn)
	}
	if err != nil {
		w.Fatal(err)
	}
	if torn > 0 {
		w.Errorf("%d messages have another tenant than their conversation", torn)
	}
	return got, snapshot, func() { _ = tx.Rollback(ctx) }
}

// ask asks over the API's connection, in a snapshot.
func (w *witness) ask(snapshot, role, claims, sql string) (got string, err error) {
	ctx := w.Context()
	err = pgx.BeginTxFunc(ctx, w.api, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT "+pg.QuoteLiteral(snapshot)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true)", role, claims); err != nil {
			return err
		}
		if strings.HasPrefix(sql, "SELECT") {
			return tx.QueryRow(ctx, sql).Scan(&got)
		}
		_, err := tx.Exec(ctx, sql)
		return err
	})
	return got, err
}
