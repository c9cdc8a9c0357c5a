// Package rest is the sink over a Supabase project's REST API: PostgREST, which
// runs each request in a transaction of its own, and no other.
//
// The statements are those of sink/postgres, written over a session of another
// kind. Their texts stand in the private schema (walbridge.statements), put there
// by whoever runs what Script returns; a request names them and carries their
// parameters, every value as the text that the direct connection would send. One
// function executes them, and nothing else: whoever has the key can't make it run
// SQL of his own.
//
// A batch is collected here and sent when it is committed:
//
//	Begin, Apply …   kept
//	Load             a request that executes what is kept and the question, and
//	                 takes all of it back; without what is kept, if the answer
//	                 doesn't depend on it
//	Commit           a request that executes what is kept, for good
//
// Every request begins with the comparison of the checkpoint, which locks its row.
// Between a batch's requests no lock is held, and none is needed: the rows that the
// bridge alone writes can't have changed while the checkpoint is where it was, for
// only a commit changes them and every commit moves it or raises the epoch. What
// others write to the tables meets the batch as it does over a connection, where
// READ COMMITTED sees it between two statements: an update of a row that is gone
// fails. What a statement has answered about its own effect (how many rows a move
// took where) is part of the audit log by then; the commit executes it again and
// fails if the answer is another one.
//
// What doesn't fit into one request is put into walbridge.stage beforehand, and
// executed by the request that commits.
package rest

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Options say where the project is, and whose bridge it is.
type Options struct {
	// URL is the project's, as https://<ref>.supabase.co.
	URL string
	// Key returns the key; it is asked again when the gateway refuses the one before,
	// because keys are rotated.
	Key func() (string, error)
	// Name is the bridge's.
	Name string
	// MaxBody bounds a request's body in bytes.
	MaxBody int
	// Version goes into the User-Agent.
	Version string
}

// Sink implements sink.Sink.
type Sink struct {
	*postgres.Sink
	session *session
}

var (
	_ sink.Sink      = (*Sink)(nil)
	_ sink.Bounded   = (*Sink)(nil)
	_ request.Target = (*Sink)(nil)
)

// Open makes a sink and asks the project whether it knows the key and has the
// function.
func Open(ctx context.Context, opts Options, log *slog.Logger) (*Sink, error) {
	c, err := newClient(opts)
	if err != nil {
		return nil, err
	}
	s := &session{client: c, name: opts.Name, limit: opts.MaxBody, max: opts.MaxBody, rows: firstRows, log: log}
	if err := s.ping(ctx); err != nil {
		return nil, fmt.Errorf("open target: %w", err)
	}
	return &Sink{Sink: postgres.Over(s, postgres.Options{Name: opts.Name}, log), session: s}, nil
}

// Bound implements sink.Bounded.
func (s *Sink) Bound() int { return s.session.rows }

// Rows implements request.Target.
func (s *Sink) Rows(ctx context.Context, sql string, args ...string) ([]cdc.Row, error) {
	return s.session.texts(ctx, sql, args...)
}

// Reads makes sure of the function that only reads, as Open does of the other one.
func (s *Sink) Reads(ctx context.Context) error { return s.session.pingReading(ctx) }

// Knows reports whether the target has all of some statements.
func (s *Sink) Knows(ctx context.Context, sql ...string) (bool, error) {
	var texts []*postgres.Template
	for _, text := range sql {
		texts = append(texts, plain(text))
	}
	missing, err := s.session.lacking(ctx, texts)
	return len(missing) == 0, err
}

// Install looks at what there is; nothing can be made over the API.
func (s *Sink) Install(ctx context.Context, schema *sink.Schema, dry bool) ([]string, error) {
	missing, err := s.Sink.Install(ctx, schema, dry)
	if err != nil {
		return missing, err
	}
	unknown, err := s.session.lacking(ctx, append(s.Statements(schema), ownStatements()...))
	if err != nil {
		return missing, fmt.Errorf("install: %w", err)
	}
	if len(unknown) > 0 {
		what, err := s.session.strangers(ctx, schema)
		if err != nil {
			return missing, fmt.Errorf("install: %w", err)
		}
		if what == "" {
			what = fmt.Sprintf("statements that this one needs (%d)", len(unknown))
		}
		return missing, fault.Errorf(fault.Stop, SchemaHint,
			"the target was prepared for another mapping or by another version of walbridge: its functions don't know %s", what)
	}
	if len(missing) > 0 && !dry {
		return missing, fault.Errorf(fault.Stop, SchemaHint,
			"the target lacks something that can't be made over the API: %s", pg.Statement{SQL: missing[0]}.FirstLine())
	}
	return missing, nil
}
