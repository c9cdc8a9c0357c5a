package postgres_test

import (
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// indexed says whether the contacts have the index of their name.
func (b *bridge) indexed() bool {
	b.Helper()
	return pgtest.QueryValue(b.T, b.admin, "SELECT count(*) FROM pg_indexes WHERE indexname = 'walbridge_contacts_name'") == "1"
}

// newLate is a bridge whose indexes may come late.
func newLate(t *testing.T) (b *bridge, schema *sink.Schema) {
	t.Helper()
	url, admin := newDB(t, newCluster(t))
	pgtest.Exec(t, admin, "CREATE ROLE stranger")
	b = newBridge(t, url, admin)
	pgtest.Exec(t, admin, "DROP TABLE contacts")
	schema = chatSchema()
	b.contacts.Source, b.contacts.Indexes = "public.source", [][]int{{2}}
	schema.Tables, schema.LateIndexes = []*sink.Table{b.contacts}, true
	install(t, b.s, schema, false)
	if b.indexed() {
		t.Fatal("the index is there before anything has been copied")
	}
	return b, schema
}

func progress(done bool) *sink.Writes {
	return &sink.Writes{Copied: []sink.CopyProgress{{Source: "public.source", Done: done}}}
}

// Indexes come in the batch that ends the copy, and only if that is committed.
// Until then an Install of any session leaves them out, and afterwards none does.
func TestLateIndexes(t *testing.T) {
	t.Parallel()
	b, schema := newLate(t)
	b.must(b.insert(upTo(300)...))
	b.must(progress(false))
	install(t, b.s, schema, false)
	if b.indexed() {
		t.Fatal("the index is there before the copy has ended")
	}
	tx := b.begin(sink.TxOptions{})
	if err := tx.Apply(t.Context(), progress(true)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.indexed() {
		t.Fatal("the index is there after a batch that was rolled back")
	}
	b.must(progress(true))
	if !b.indexed() {
		t.Fatal("the index isn't there after the copy")
	}
	pgtest.Exec(t, b.admin, "DROP INDEX walbridge_contacts_name")
	install(t, b.s, schema, false)
	if !b.indexed() {
		t.Fatal("Install leaves out an index of a table that has been copied")
	}
}

// What looks for rows by an index doesn't wait for it.
func TestLateIndexes_Recompute(t *testing.T) {
	t.Parallel()
	b, schema := newLate(t)
	node := schema.Nodes[0]
	b.contacts.Derived = []sink.Derived{{Column: 1, From: []sink.Lookup{{Column: 2, Steps: []sink.Step{{Node: node}}}}}}
	tx := b.begin(sink.TxOptions{})
	if _, err := tx.Recompute(t.Context(), &sink.Recompute{Table: b.contacts, Node: node, Keys: []sink.Key{"1"}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), sink.Progress{LSN: b.lsn}); err != nil {
		t.Fatal(err)
	}
	if !b.indexed() {
		t.Error("rows were looked for without the index")
	}
}

// A table of somebody else's gets its indexes at once, or the bridge stops before
// it has begun.
func TestLateIndexes_OfAnotherOwner(t *testing.T) {
	t.Parallel()
	b, schema := newLate(t)
	pgtest.Exec(t, b.admin, "ALTER TABLE contacts OWNER TO stranger")
	if _, err := b.s.Install(t.Context(), schema, false); err == nil {
		t.Error("Install passes over an index that it will not be able to make")
	}
}
