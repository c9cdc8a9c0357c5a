package verify_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// journal notes every row of the mapped tables that anybody writes at the target.
const journal = `
CREATE TABLE public.journal (what text);
CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.journal VALUES (TG_TABLE_NAME || ' ' || CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END);
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON public.contacts FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON public.conversations FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON public.messages FOR EACH ROW EXECUTE FUNCTION public.note();
CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON public.csat_feedback FOR EACH ROW EXECUTE FUNCTION public.note();`

// A damage is done by somebody else at the target.
type damage struct {
	name, sql, table string
	want             verify.Counts // that the table shows beyond what is right
	// touched are the rows that the repair writes, as the journal notes them; %s
	// is what the query key returns.
	touched, key string
}

const message = "(SELECT min(id) FROM public.messages)"

var damages = []damage{
	{name: "missing", table: "public.messages", want: verify.Counts{Missing: 1}, touched: "messages %s",
		key: "SELECT " + message, sql: "DELETE FROM public.messages WHERE id = " + message},
	{name: "changed", table: "public.messages", want: verify.Counts{Different: 1}, touched: "messages %s",
		key: "SELECT " + message, sql: "UPDATE public.messages SET content = content || ' ' WHERE id = " + message},
	{name: "null", table: "public.messages", want: verify.Counts{Different: 1}, touched: "messages %s",
		key: "SELECT " + message, sql: "UPDATE public.messages SET content = NULL WHERE id = " + message},
	{name: "wrong tenant", table: "public.conversations", want: verify.Counts{Different: 1}, touched: "conversations %s",
		key: "SELECT min(id) FROM public.conversations",
		sql: "UPDATE public.conversations SET provedor_id = provedor_id + 1 WHERE id = (SELECT min(id) FROM public.conversations)"},
	{name: "another tenant's message", table: "public.messages", want: verify.Counts{Different: 1}, touched: "messages %s",
		key: "SELECT " + message, sql: "UPDATE public.messages SET provedor_id = provedor_id + 1 WHERE id = " + message},
	{name: "extra", table: "public.messages", want: verify.Counts{Extra: 1}, touched: "messages 9000000", key: "SELECT ''",
		sql: `INSERT INTO public.messages (id, conversation_id, content, message_type, is_from_customer, created_at, provedor_id)
			SELECT 9000000, conversation_id, content, message_type, is_from_customer, created_at, provedor_id FROM public.messages WHERE id = ` + message},
	{name: "changed under a converted key", table: "public.csat_feedback", want: verify.Counts{Different: 1}, touched: "csat_feedback %s",
		key: "SELECT min(id::text) FROM public.csat_feedback",
		sql: "UPDATE public.csat_feedback SET rating_value = 99 WHERE id = (SELECT min(id::text)::uuid FROM public.csat_feedback)"},
	{name: "missing under a converted key", table: "public.csat_feedback", want: verify.Counts{Missing: 1}, touched: "csat_feedback %s",
		key: "SELECT min(id::text) FROM public.csat_feedback",
		sql: "DELETE FROM public.csat_feedback WHERE id = (SELECT min(id::text)::uuid FROM public.csat_feedback)"},
	{name: "extra under a converted key", table: "public.csat_feedback", want: verify.Counts{Extra: 1},
		touched: "csat_feedback 00000000-0000-4000-8000-000000000000", key: "SELECT ''",
		sql: `INSERT INTO public.csat_feedback SELECT (jsonb_populate_record(f, '{"id": "00000000-0000-4000-8000-000000000000"}')).*
			FROM public.csat_feedback AS f ORDER BY id LIMIT 1`},
	{name: "stale path value", table: "paths public.conversations_contact", want: verify.Counts{Different: 1}, key: "SELECT ''",
		sql: `UPDATE walbridge.path_values SET vals = array_replace(vals, vals[1], '99') WHERE source = 'public.conversations_contact'
			AND key = (SELECT min(key) FROM walbridge.path_values WHERE source = 'public.conversations_contact' AND vals[1] IS NOT NULL)`},
	{name: "held row that could go", table: "public.messages", want: verify.Counts{Different: 1}, touched: "messages %s", key: "SELECT " + message,
		sql: `WITH gone AS (DELETE FROM public.messages WHERE id = ` + message + ` RETURNING *)
			INSERT INTO walbridge.held (bridge, "table", key, vals, reason, since) SELECT 'walbridge', 'public.messages', id::text,
				ARRAY[id::text, conversation_id::text, contact_id::text, content, message_type, is_from_customer::text, file_url, file_name, file_size::text,
					external_id, additional_attributes::text, created_at::text, NULL], 'tenant', '0/1' FROM gone;
			UPDATE walbridge.checkpoint SET held_rows = held_rows + 1`},
}

// keptDamages are those of rows that stay when the source's are deleted.
var keptDamages = []damage{
	{name: "kept and not with its parents", table: "public.messages", want: verify.Counts{Different: 1}, touched: "messages %s",
		key: "SELECT min(key) FROM walbridge.deleted",
		sql: "UPDATE public.messages SET provedor_id = provedor_id + 1 WHERE id = (SELECT min(key)::int8 FROM walbridge.deleted)"},
	// Only the mark goes.
	{name: "marked as deleted", table: "public.messages", want: verify.Counts{Different: 1},
		sql: `INSERT INTO walbridge.deleted (bridge, "table", key, lsn) SELECT 'walbridge', 'public.messages', ` + liveMessage + `::text, '0/1'`},
}

const liveMessage = "(SELECT max(id) FROM public.messages AS m WHERE NOT EXISTS (SELECT FROM walbridge.deleted AS d WHERE d.key = m.id::text))"

// Every damage is found, mended by the running bridge with an entry, and nothing
// else is touched.
func TestRun_Repair(t *testing.T) {
	t.Parallel()
	newLive(t, mapping.Delete).repair(damages)
}

func TestRun_RepairKept(t *testing.T) {
	t.Parallel()
	w := newLive(t, mapping.Keep)
	pgtest.Exec(t, w.source, "DELETE FROM public.conversations_message WHERE id IN (SELECT id FROM public.conversations_message ORDER BY id LIMIT 3)")
	w.catchUp()
	w.repair(keptDamages)
}

func (w *live) repair(damages []damage) {
	pgtest.Exec(w.T, w.target, journal)
	base := counts(w.verify(verify.Options{}))
	w.conn(pg.Target, func(conn *pgx.Conn) {
		for _, d := range damages {
			w.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) { w.repairOne(t, conn, d, base) })
		}
		entries, err := verify.Entries(w.Context(), w.m, conn, "")
		if err != nil || !entries.OK() {
			w.Errorf("the audit log after all repairs: %v, %v", entries, err)
		}
	})
}

func (w *live) repairOne(t *testing.T, conn *pgx.Conn, d damage, base map[string]verify.Counts) {
	touched := d.touched
	if strings.Contains(touched, "%s") {
		touched = fmt.Sprintf(touched, pgtest.QueryValue(t, w.target, d.key))
	}
	pgtest.Exec(t, w.target, d.sql, "TRUNCATE public.journal")
	found := w.verify(verify.Options{})
	for name, got := range counts(found) {
		want := base[name]
		if name == d.table {
			want = d.want
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("found in %s (-want +got):\n%s\n%s", name, diff, found)
		}
	}
	const repairs = "SELECT count(*) FROM public.audit_logs WHERE details->>'by' = 'walbridge' AND details->>'op' = 'repair'"
	before := pgtest.QueryValue(t, w.target, repairs)
	mended := w.verify(verify.Options{Repair: verify.Repairer(request.Over(conn), verify.DefaultName)})
	if total := mended.Total(); !mended.Equal() || total.Mended != 1 || total.Unsettled > 0 {
		t.Errorf("after the repair:\n%s", mended)
	}
	if got := pgtest.QueryValue(t, w.target, "SELECT coalesce(string_agg(DISTINCT what, ', '), '') FROM public.journal"); got != touched {
		t.Errorf("the repair has touched %q, want %q", got, touched)
	}
	if after := pgtest.QueryValue(t, w.target, repairs); touched != "" && after == before {
		t.Error("the repair has left no entry")
	}
	if again := w.verify(verify.Options{}); !again.Equal() || again.Total().Mended > 0 {
		t.Errorf("after it:\n%s", again)
	}
}

// counts are what is wrong, by table.
func counts(r *verify.Report) map[string]verify.Counts {
	all := map[string]verify.Counts{}
	for _, table := range r.Tables {
		c := table.Total()
		all[table.Name] = verify.Counts{Missing: c.Missing, Different: c.Different, Extra: c.Extra, Foreign: c.Foreign, Unsettled: c.Unsettled}
	}
	return all
}

// Values of a table that paths only pass can't be mended row by row, so the bridge
// isn't asked. A resync mends them.
func TestRun_RepairOfPathsAlone(t *testing.T) {
	t.Parallel()
	w := newLive(t, mapping.Keep)
	pgtest.Exec(t, w.target, `UPDATE walbridge.path_values SET vals[1] = '99' WHERE source = 'public.conversations_inbox' AND vals[1] IS NOT NULL`)
	asked := 0
	r := w.verify(verify.Options{Repair: func(context.Context, string, []sink.Key) error { asked++; return nil }})
	if r.Equal() || asked > 0 {
		t.Errorf("asked %d times:\n%s", asked, r)
	}
	w.conn(pg.Target, func(conn *pgx.Conn) {
		r, err := request.Ask(t.Context(), request.Over(conn), verify.DefaultName, request.Resync, request.ResyncArgs{})
		if err == nil {
			_, err = r.Wait(t.Context(), func(string) {})
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if r := w.verify(verify.Options{}); !r.Equal() {
		t.Errorf("after a resync:\n%s", r)
	}
}
