package replicator_test

import (
	"context"
	"errors"
	"testing"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// A bridge that dies between two pages of what is to be forgotten leaves the rest to
// the next one, and a reply that is lost has nothing counted or noted twice.
func TestForget_Restart(t *testing.T) {
	t.Parallel()
	second, died := make(chan struct{}), make(chan struct{})
	s := &steps{
		before: func(n int64) error {
			if n == 2 {
				close(second)
				<-died
				return fault.Wrap(fault.Retry, "", errors.New("killed"))
			}
			return nil
		},
		after: func(n int64) error {
			if n == 3 || n == 5 {
				return &sink.UnknownError{Err: fault.Wrap(fault.Retry, "", errors.New("the reply was lost"))}
			}
			return nil
		},
	}
	w := newWorld(t, `CREATE TABLE owner (id bigint PRIMARY KEY, tenant bigint, name text);
		CREATE TABLE item (id bigint PRIMARY KEY, owner_id bigint REFERENCES owner, code text)`, `
tables:
  owners: {from: owner, tenant: [tenant], columns: [id, name], audit: {entity: owner}}
  items: {from: item, tenant: [owner.tenant], columns: [id, owner_id, code], on_delete: keep, audit: {entity: item}}
audit_log: {table: audit_logs}
`)
	w.tune = func(o *replicator.Options) {
		open := o.OpenSink
		o.OpenSink = func(ctx context.Context) (sink.Sink, error) {
			snk, err := open(ctx)
			return &stepSink{Sink: snk, steps: s}, err
		}
	}
	w.exec(`INSERT INTO owner VALUES (1, 10, 'stays'), (2, 20, 'MARKER')`, `INSERT INTO item SELECT n, 1 + n % 2, 'MARKER' FROM generate_series(1, 2400) n`)
	r := w.start()
	w.catchUp(r)
	w.exec(`UPDATE item SET code = code || n FROM generate_series(1, 1) n WHERE owner_id = 2`, `DELETE FROM item WHERE owner_id = 2`, `DELETE FROM owner WHERE id = 2`)
	w.catchUp(r)
	id := w.ask(replicator.Forget, `{"table": "public.owners", "key": "2", "dependents": true}`)
	<-second
	r.cancel()
	close(died)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.want("the first page is erased", "SELECT count(*) FILTER (WHERE owner_id = 1), count(*), (SELECT state FROM walbridge.requests) FROM items", "1200 | 1400 | running")
	r = w.start()
	if got, want := w.ended(id), `done | {"rows":1200,"held":0,"paths":1,"entries":2401,"waiting":0,"dependents":1200,"tenants":["20"]} | `; got != want {
		t.Errorf("the request is %s, want %s", got, want)
	}
	w.want("rows", "SELECT count(*), count(*) FILTER (WHERE owner_id = 1) FROM items", "1200 | 1200")
	w.want("values in the log", "SELECT count(*) FROM audit_logs WHERE details::text LIKE '%MARKER%'", "0")
	w.want("entries about it", "SELECT action, provedor_id FROM audit_logs WHERE details->>'op' = 'forget'", "owner.forgotten | 20")
	w.want("the log's numbers", "SELECT count(*) = max((details->>'n')::int), count(DISTINCT details->>'n') = count(*) FROM audit_logs", "t | t")
	w.catchUp(r)
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
