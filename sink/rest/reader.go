package rest

import (
	"context"
	"log/slog"
	"slices"
	"strconv"

	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// OpenReader makes a reader of what the bridge has written to the project. schema
// is the one that the target was prepared for; of another the target doesn't know
// the statements, and says so when one is asked.
func OpenReader(ctx context.Context, opts Options, schema *sink.Schema, log *slog.Logger) (sink.Reader, error) {
	s, err := Open(ctx, opts, log)
	if err != nil {
		return nil, err
	}
	return postgres.ReaderOver(&snapshots{s.session}, opts.Name, schema, log), nil
}

// snapshots is a session whose every Run is one snapshot.
type snapshots struct{ *session }

// Run implements postgres.Session. A single statement is a snapshot by itself, and
// may be one that only the volatile function can run: the checkpoint's lock is
// tried. Several are a request to the other function.
func (s *snapshots) Run(ctx context.Context, statements []*postgres.Statement) (*postgres.Statement, error) {
	if len(statements) == 1 {
		return s.alone(ctx, statements)
	}
	all := make([]*entry, len(statements))
	for i, st := range statements {
		var err error
		if all[i], err = encode(st); err != nil {
			return st, err
		}
	}
	b := append(make([]byte, 0, size(all)+256), `{"head":[`...)
	b = append(quote(b, strconv.AppendInt(nil, Version, 10)), ',')
	b = append(quote(b, []byte(s.name)), `],"ops":`...)
	b = append(append(b, join(all)...), '}')
	body, err := s.client.call(ctx, reading, b, false)
	if err != nil {
		return nil, err
	}
	return s.answered(body, slices.Clip(all))
}
