package replicator_test

import (
	"testing"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapping"
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
