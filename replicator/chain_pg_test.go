package replicator_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// chained is a world whose log is worth tampering with.
type chained struct {
	*world
	m    *mapping.Mapping
	conn *pgx.Conn
}

// walk reads the chain over the connection, and what a transaction has changed that
// is open on it.
func (w *chained) walk(opts verify.ChainOptions) *verify.ChainReport {
	w.t.Helper()
	r, err := verify.ReadChain(w.t.Context(), w.m, w.reader(), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *chained) reader() sink.Reader {
	return postgres.NewReader(w.conn.PgConn(), "walbridge", w.m.Schema)
}

// earlier says at first that the log ends where it did some time ago.
type earlier struct {
	sink.Reader
	chain sink.Chain
	asked bool
}

func (r *earlier) Position(ctx context.Context) (sink.Position, error) {
	p, err := r.Reader.Position(ctx)
	if !r.asked {
		r.asked, p.Counters.Chain = true, r.chain
	}
	return p, err
}

// number is the number of an entry.
func (w *chained) number(where string) (n int64) {
	w.t.Helper()
	err := w.conn.QueryRow(w.t.Context(), "SELECT (details->>'n')::int8 FROM audit_logs WHERE "+where+" ORDER BY 1 LIMIT 1").Scan(&n)
	if err != nil {
		w.t.Fatalf("entry with %s: %v", where, err)
	}
	return n
}

// tampered does sql, walks, and takes it back.
func (w *chained) tampered(sql string, opts verify.ChainOptions) *verify.ChainReport {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.conn.Exec(ctx, "BEGIN; "+sql); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	defer func() { _, _ = w.conn.Exec(context.WithoutCancel(ctx), "ROLLBACK") }()
	return w.walk(opts)
}

// linked has the world's bridges link their entries.
func (w *world) linked() {
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		if tune != nil {
			tune(o)
		}
		o.Compile.Audit.Chain = true
	}
}

// requireLinked walks the chain of a world whose entries have all been linked.
func (w *world) requireLinked() {
	w.t.Helper()
	c := w.opened()
	if r := c.walk(verify.ChainOptions{}); r == nil || !r.OK() || fmt.Sprint(r.Linked) != c.rows("SELECT audit_rows FROM walbridge.checkpoint") {
		w.t.Errorf("the chain: %v", r)
	}
}

// opened is a world to walk through.
func (w *world) opened() *chained {
	w.t.Helper()
	ctx := w.t.Context()
	c := &chained{world: w}
	src, err := pg.Connect(ctx, w.src, pg.Options{Side: pg.Source})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = src.Close(context.WithoutCancel(ctx)) }()
	if c.conn, err = pg.Connect(ctx, w.dst, pg.Options{Side: pg.Target}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.conn.Close(context.Background()) })
	if c.m, err = verify.Compile(ctx, w.file, mapping.CompileOptions{}, src, c.conn); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// newChained has a log in which there is something of everything: entries from
// before the chain and from while it was off, rows that were held and that moved,
// messages of users, and rows that were forgotten.
func newChained(t *testing.T, api bool) *chained {
	t.Helper()
	w := newWorld(t, `CREATE TABLE owner (id bigint PRIMARY KEY, tenant bigint, name text);
		CREATE TABLE item (id bigint PRIMARY KEY, owner_id bigint REFERENCES owner, code text, extra jsonb, price numeric(10, 3))`, `
tables:
  owners: {from: owner, tenant: [tenant], columns: [id, name], audit: {entity: owner}}
  items: {from: item, tenant: [owner.tenant], columns: [id, owner_id, code, extra, price], on_delete: keep, audit: {entity: item}}
audit_log: {table: audit_logs}
`)
	if api {
		w.overAPI()
	}
	chain := false
	var log bytes.Buffer
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		if tune != nil {
			tune(o)
		}
		o.Compile.Audit.Chain = chain
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	}
	session := func(on bool, work func(r *running)) {
		chain = on
		r := w.start()
		w.catchUp(r)
		work(r)
		w.catchUp(r)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		head := w.rows("SELECT chain_head || ':' || chain_link FROM walbridge.checkpoint WHERE chain_head > 0")
		if !strings.HasSuffix(log.String(), "audit log linked\" head="+head+"\n") && head != "" || r.status.Snapshot().Chain != head {
			t.Errorf("the head is %q, the status has %q, and the log:\n%s", head, r.status.Snapshot().Chain, log.String())
		}
	}
	session(false, func(*running) {
		w.exec(`INSERT INTO owner VALUES (1, 10, 'Ana'), (2, 20, 'Bia "B" \ ç'), (3, NULL, 'Nobody')`,
			`INSERT INTO item SELECT n, 1 + n % 3, 'x' || n, '{"b": [1.0, 2e3], "a": "\\u00e7 \" \\ "}', n / 7.0 FROM generate_series(1, 60) n`)
	})
	session(true, func(r *running) {
		w.exec(`BEGIN; SELECT pg_logical_emit_message(true, 'walbridge', '{"user_id": "007"}');
			UPDATE item SET code = E'line\n\ttab "quoted" \\ ' || chr(1) || ' ção', price = price * 1.5, extra = extra || '{"a": null, "zz": {"y": 1, "x": 1e2}}'; COMMIT`,
			`DELETE FROM item WHERE id % 10 = 0`, `UPDATE owner SET tenant = 30 WHERE id = 3`, `UPDATE owner SET name = 'Eva' WHERE id = 1`)
		w.catchUp(r)
		w.exec(`DELETE FROM item WHERE owner_id = 2`, `DELETE FROM owner WHERE id = 2`)
		w.catchUp(r)
		if got := w.ended(w.ask(replicator.Forget, `{"table": "public.owners", "key": "2", "dependents": true}`)); !strings.HasPrefix(got, "done ") {
			t.Fatal(got)
		}
	})
	session(false, func(*running) { w.exec(`UPDATE item SET code = 'off' WHERE id < 5`) })
	session(true, func(*running) {
		w.exec(`UPDATE owner SET tenant = 10 WHERE id = 3`, `UPDATE item SET code = 'on' || id WHERE id < 30`)
	})
	return w.opened()
}

// Whatever somebody does to the log, the walk names the first entry that it
// concerns; what the bridge itself does to it is found right.
func TestChain(t *testing.T) {
	t.Parallel()
	for _, api := range []bool{false, true} {
		t.Run(fmt.Sprintf("api_%t", api), func(t *testing.T) {
			t.Parallel()
			testChain(newChained(t, api))
		})
	}
}

func testChain(w *chained) {
	t := w.t
	whole := w.walk(verify.ChainOptions{})
	t.Logf("the chain: %s", whole)
	if !whole.OK() || whole.From <= 1 || whole.Forgotten == 0 || whole.Unlinked == 0 {
		t.Fatalf("the chain that nobody has touched: %s", whole)
	}
	w.requireEqual()
	w.want("what was forgotten", `SELECT count(*) FROM audit_logs WHERE details ? 'forgotten' AND (details ? 'changed' OR details->'chain' ? 'salt')`, "0")
	end, err := verify.ParseHead(fmt.Sprintf("%d:%s", whole.Head, whole.Link))
	if err != nil {
		t.Fatal(err)
	}
	middle := w.number(`details->'changed'->'code'->>1 = 'on3'`)
	entry := fmt.Sprintf(`(details->>'n')::int8 = %d`, middle)
	off := w.number(`NOT details ? 'chain' AND (details->>'n')::int8 > ` + fmt.Sprint(whole.From))
	back := middle + 10
	link := func(n int64) string {
		return fmt.Sprintf("(SELECT details->'chain'->>'link' FROM audit_logs WHERE (details->>'n')::int8 = %d)", n)
	}
	cut := fmt.Sprintf(`UPDATE walbridge.checkpoint SET audit_head = %d, chain_head = %[1]d, chain_link = %s; DELETE FROM audit_logs WHERE (details->>'n')::int8 > %[1]d`, back, link(back))
	other := end
	other.Link[0]++
	for _, tt := range []struct {
		name, sql string
		heads     []verify.Head
		first     int64
		why       string
	}{
		{"value", `UPDATE audit_logs SET details = jsonb_set(details, '{changed,code,0}', '"y"') WHERE ` + entry, nil, middle, "values"},
		{"value and its salt", `UPDATE audit_logs SET details = (details - 'changed') #- '{chain,salt}' #- '{chain,values}' WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"action", `UPDATE audit_logs SET action = 'item.created' WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"tenant", `UPDATE audit_logs SET provedor_id = 11 WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"user", `UPDATE audit_logs SET user_id = 8 WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"time", `UPDATE audit_logs SET timestamp = timestamp + interval '1 microsecond' WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"no time", `UPDATE audit_logs SET timestamp = 'infinity' WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"key", `UPDATE audit_logs SET details = jsonb_set(details, '{key,id}', '7777') WHERE ` + entry, nil, middle, "isn't as it was written"},
		{"deleted", `DELETE FROM audit_logs WHERE ` + entry, nil, middle, "missing"},
		{"disowned", `UPDATE audit_logs SET details = details || '{"by": "me"}' WHERE ` + entry, nil, middle, "missing"},
		{"link taken away", `UPDATE audit_logs SET details = details - 'chain' WHERE ` + entry, nil, middle, "lost its link"},
		{"link spoilt", `UPDATE audit_logs SET details = jsonb_set(details, '{chain,link}', '1') WHERE ` + entry, nil, middle, "link"},
		{"first ones deleted", fmt.Sprintf(`DELETE FROM audit_logs WHERE (details->>'n')::int8 BETWEEN %d AND %d`, whole.From, whole.From+2), nil, whole.From, "missing"},
		{"tail deleted", fmt.Sprintf(`DELETE FROM audit_logs WHERE (details->>'n')::int8 > %d`, whole.Head-3), nil, whole.Head - 2, "missing"},
		{"all deleted", `DELETE FROM audit_logs`, nil, whole.From, "missing"},
		{"swapped", fmt.Sprintf(`UPDATE audit_logs SET details = jsonb_set(details, '{n}', to_jsonb(%d - (details->>'n')::int8)) WHERE (details->>'n')::int8 IN (%d, %d)`, 2*middle+1, middle, middle+1),
			nil, middle, "isn't as it was written"},
		{"inserted", `INSERT INTO audit_logs SELECT gen_random_uuid(), provedor_id, user_id, action, details, timestamp FROM audit_logs WHERE ` + entry, nil, middle, ""},
		{"blanked", `UPDATE audit_logs SET details = (details - 'changed') #- '{chain,salt}' || '{"forgotten": true}' WHERE ` + entry, nil, middle, "no forget accounts"},
		{"said to be blank", `UPDATE audit_logs SET details = details || '{"forgotten": true}' WHERE ` + entry, nil, middle, "values"},
		{"more said to be forgotten", fmt.Sprintf(`UPDATE audit_logs SET details = (details - 'changed') #- '{chain,salt}' || '{"forgotten": true}' WHERE %s;
			UPDATE audit_logs SET details = jsonb_set(details, '{emptied,0}', '%d') WHERE details ? 'emptied'`, entry, middle), nil, w.number(`details ? 'emptied'`), "values of n = "},
		{"link of another", fmt.Sprintf(`UPDATE audit_logs SET details = jsonb_set(details, '{chain,link}', to_jsonb(%s)) WHERE %s`, link(middle+1), entry), nil, middle, "isn't as it was written"},
		// Whoever can write the checkpoint, too, gets away with it, but for a head
		// that was kept elsewhere.
		{"tail cut off with the checkpoint", cut, nil, 0, ""},
		{"tail cut off with the checkpoint, and a head is known", cut, []verify.Head{end}, back + 1, "once"},
		{"checkpoint says that nothing was ever linked", `UPDATE walbridge.checkpoint SET chain_head = 0, chain_from = 0, chain_link = ''`, []verify.Head{end}, 1, "once"},
		{"checkpoint begins later", fmt.Sprintf(`UPDATE walbridge.checkpoint SET chain_from = %d`, middle+1), []verify.Head{{N: middle}}, middle, "begins later"},
		{"checkpoint has another link", `UPDATE walbridge.checkpoint SET chain_link = '` + other.Link.String() + `'`, nil, whole.Head, "checkpoint"},
		{"another head was known", `SELECT`, []verify.Head{other}, whole.Head, "the head that was given"},
		{"a head where nothing is linked", `SELECT`, []verify.Head{{N: off}}, off, "once"},
		{"a head that is right", `SELECT`, []verify.Head{end}, 0, ""},
		{"somebody else's entry", `INSERT INTO audit_logs SELECT gen_random_uuid(), provedor_id, user_id, action, '{"by": "me", "n": 5}', timestamp FROM audit_logs WHERE ` + entry, nil, 0, ""},
	} {
		r := w.tampered(tt.sql, verify.ChainOptions{Heads: tt.heads})
		if r.OK() != (tt.first == 0) || r.First != tt.first || !strings.Contains(r.Why, tt.why) {
			t.Errorf("%s: %s; want n = %d: %s", tt.name, r, tt.first, tt.why)
		}
	}
	// A forget that comes while the log is gone through is accounted for behind the
	// head that it had at the beginning.
	early := &earlier{Reader: w.reader(), chain: sink.Chain{From: whole.From, Head: w.number(`details ? 'emptied'`) - 1}}
	var text string
	if err := w.conn.QueryRow(t.Context(), "SELECT "+link(early.chain.Head)).Scan(&text); err != nil {
		t.Fatal(err)
	}
	if early.chain.Link, err = sink.ParseLink(text); err != nil {
		t.Fatal(err)
	}
	if r, err := verify.ReadChain(t.Context(), w.m, early, verify.ChainOptions{}); err != nil || !r.OK() || r.Head != whole.Head {
		t.Errorf("from an earlier head: %s, %v", r, err)
	}
	// Old entries may go, if whoever asks says so.
	old := fmt.Sprintf(`DELETE FROM audit_logs WHERE (details->>'n')::int8 < %d`, middle)
	if r := w.tampered(old, verify.ChainOptions{First: middle}); !r.OK() {
		t.Errorf("from n = %d on: %s", middle, r)
	}
	next := fmt.Sprintf(`; UPDATE audit_logs SET action = 'x' WHERE (details->>'n')::int8 = %d`, middle+1)
	if r := w.tampered(old+next, verify.ChainOptions{First: middle}); r.First != middle+1 {
		t.Errorf("from n = %d on, the next one altered: %s", middle, r)
	}
}
