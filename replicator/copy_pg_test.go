package replicator_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

const manyMessages = `INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, is_from_customer, updated_at)
	SELECT 1000 + i, 'text', 'm' || i, now(), 10, '{}', true, now() FROM generate_series(1, 2500) AS i`

// install makes the target's tables before a bridge comes.
func (w *world) install() {
	w.t.Helper()
	ctx := w.t.Context()
	conn, err := pg.Connect(ctx, w.src, pg.Options{Side: pg.Source})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	src, err := pg.ReadCatalog(ctx, conn, w.file.SourceTables())
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := mapping.Compile(w.file, src, &pg.Catalog{}, w.options().Compile)
	if err != nil {
		w.t.Fatal(err)
	}
	snk, err := w.options().OpenSink(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := snk.Install(ctx, m.Schema, false); err != nil {
		w.t.Fatal(err)
	}
	if err := snk.Close(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// Another writer puts a row into a table that was empty when its copy began. The
// piece that has the same row is held against the target, and the copy goes on.
func TestCopy_RowThatIsThere(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.exec(seed, manyMessages)
	w.install()
	pgtest.Exec(t, w.dst, `CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.messages (id, provedor_id, content) VALUES (2000, 1, 'other') ON CONFLICT DO NOTHING;
			RETURN NULL;
		END $$`, "CREATE TRIGGER other AFTER INSERT ON public.contacts EXECUTE FUNCTION other()")
	r := w.start()
	w.catchUp(r)
	w.want("copied", "SELECT count(*), count(*) FILTER (WHERE content = 'm' || id - 1000) FROM public.messages", "2501 | 2500")
	w.want("counted", "SELECT rows, tenants FROM walbridge.copies WHERE source = 'public.conversations_message'", `2502 | {"1": 2501}`)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A copy that was stopped goes on by COPY, because the target has nothing behind the
// last key.
func TestCopy_GoesOn(t *testing.T) {
	t.Parallel()
	w := newNioChat(t)
	w.tune = func(o *replicator.Options) { o.CopyRows = 200 }
	w.exec(seed, strings.Replace(manyMessages, "2500", "20000", 1))
	r := w.start()
	pgtest.Eventually(t, "the copy to have begun", patience, func() bool {
		s := r.status.Snapshot()
		return slices.ContainsFunc(s.Copy, func(c status.Copy) bool { return c.Table == "public.conversations_message" && c.Done > 0 })
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	const copied = "SELECT coalesce(max(rows), 0) FROM walbridge.copies WHERE source = 'public.conversations_message' AND NOT done"
	if w.rows(copied) == "0" {
		t.Fatal("the copy was stopped before it began, or after its end")
	}
	pgtest.Exec(t, w.dst, "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
	r = w.start()
	w.catchUp(r)
	w.want("copied", "SELECT count(*), count(*) FILTER (WHERE content = 'm' || id - 1000) FROM public.messages", "20001 | 20000")
	// What is compared is written by COPY, too, but in its text form.
	if !regexp.MustCompile(`COPY "public"\."messages" .* WITH \(FORMAT binary\)`).MatchString(w.target.Log()) {
		t.Error("the copy went on by comparison")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
