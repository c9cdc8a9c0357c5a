package postgres

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/sink"
)

// Requests returns the open requests.
func (s *Sink) Requests(ctx context.Context) ([]sink.Request, error) {
	var open []sink.Request
	err := s.query(ctx, "read requests", op{
		sql: `SELECT id, kind, args, state, progress, error FROM walbridge.requests
			WHERE bridge = $1 AND state IN ('new', 'running') ORDER BY id`,
		args: [][]byte{arg(s.name)},
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			open = append(open, sink.Request{
				ID: d.int64(), Kind: d.text(), Args: d.text(),
				State: sink.RequestState(d.text()), Progress: d.text(), Error: d.text(),
			})
			return d.err
		}),
	})
	return open, err
}

// updateRequest changes an open request of $1 with the id $2.
const updateRequest = `UPDATE walbridge.requests AS r SET state = $3, progress = $4, error = $5, updated_at = now()
	WHERE r.bridge = $1 AND r.id = $2::int8 AND r.state IN ('new', 'running')`

func (s *Sink) requestArgs(r *sink.Request) [][]byte {
	return [][]byte{arg(s.name), argInt(r.ID), arg(string(r.State)), arg(r.Progress), arg(r.Error)}
}

// Report records state, progress and error of a request. The checkpoint row is
// locked for it, so that nobody can take the bridge over in between.
func (s *Sink) Report(ctx context.Context, epoch int64, r sink.Request) error {
	mine, found := false, false
	err := s.query(ctx, "record request", op{
		sql: `WITH k AS MATERIALIZED (SELECT FROM walbridge.checkpoint AS k WHERE k.name = $1 AND k.epoch = $6::int8 FOR SHARE),
			u AS (` + updateRequest + ` AND EXISTS (SELECT FROM k) RETURNING 1)
			SELECT EXISTS (SELECT FROM k), EXISTS (SELECT FROM u)`,
		args: append(s.requestArgs(&r), argInt(epoch)),
		read: one(func(v [][]byte) error {
			mine, found = string(v[0]) == "t", string(v[1]) == "t"
			return nil
		}),
	})
	switch {
	case err != nil:
		return err
	case !mine:
		return s.notMine(ctx, "record request")
	case !found:
		return fmt.Errorf("record request: %w", sink.ErrNoRequest)
	}
	return nil
}

// applyRequests records requests with the rows that they changed.
func (t *tx) applyRequests(_ context.Context, w *sink.Writes) error {
	for i := range w.Requests {
		t.add(op{
			sql:   "WITH u AS (" + updateRequest + " RETURNING 1) SELECT walbridge.expect_rows(1, (SELECT count(*) FROM u))",
			args:  t.s.requestArgs(&w.Requests[i]),
			table: "walbridge.requests",
			want:  1,
		})
	}
	return nil
}
