package check

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
)

// Options say what to look at.
type Options struct {
	// Name is that of the bridge: of its slot, publication and checkpoint row.
	Name string
	// Both URLs must be readable; where they lead is a matter of the checks.
	SourceURL, TargetURL         string
	SourceOptions, TargetOptions pg.Options
	// API, unless nil, is how to reach a target that has no TargetURL.
	API *rest.Options
	// MappingName and Mapping are the mapping file; Compile alters it.
	MappingName string
	Mapping     []byte
	Compile     mapping.CompileOptions
	// Manual is --prepare=manual: run won't create what is missing.
	Manual bool
	// Warnings are what the settings have to say about themselves.
	Warnings []string
	// Now is this host's clock; time.Now if nil.
	Now func() time.Time
}

// Env is what checks look at, and what they find out for those after them.
type Env struct {
	Options
	source, target *side
	sink           sink.Sink // nil until a check needs it

	file    *mapping.File    // nil if it can't be read
	mapping *mapping.Mapping // nil if it doesn't fit

	gate     []error // what CheckSource has found, if it could look
	gateRead bool
	system   *replicator.System // nil if the source doesn't say
	slot     *replicator.Slot   // nil if there is none
	refused  map[pg.TableName]bool
	missing  []string // SQL of what the target lacks, if that is known
}

// side is one of the two databases.
type side struct {
	url  string
	opts pg.Options
	conn *pgx.Conn // nil until it was reached
	// role is whom statements run as, login whom the server has let in.
	role, login string
	offset      *offset // of its clock, nil until it was measured

	// Over an API there is no URL, and api in place of conn. deaf says why it
	// answers nothing that check asks.
	apiOptions *rest.Options
	api        *rest.Sink
	deaf       string
}

// sessionLimits keep a check from waiting for somebody else's lock, and from
// writing.
var sessionLimits = map[string]string{
	"default_transaction_read_only": "on",
	"statement_timeout":             "10000",
	"lock_timeout":                  "3000",
}

func newEnv(opts Options) *Env {
	of := func(url string, o pg.Options, s pg.Side) *side {
		o.Side, o.Application, o.Settings = s, "walbridge check", sessionLimits
		return &side{url: url, opts: o}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	e := &Env{
		Options: opts, refused: map[pg.TableName]bool{},
		source: of(opts.SourceURL, opts.SourceOptions, pg.Source),
		target: of(opts.TargetURL, opts.TargetOptions, pg.Target),
	}
	e.target.apiOptions = opts.API
	return e
}

func (e *Env) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range []*side{e.source, e.target} {
		if s.conn != nil {
			_ = s.conn.Close(ctx) // nothing is lost with it
		}
	}
	if e.sink != nil {
		_ = e.sink.Close(ctx)
	}
}

// byAPI reports that the side is reached over an API.
func (s *side) byAPI() bool { return s.apiOptions != nil }

// connect opens the session.
func (s *side) connect(ctx context.Context) (err error) {
	s.conn, err = pg.Connect(ctx, s.url, s.opts)
	return err
}

// reached reports whether the database answers. A session that an earlier check
// has lost is opened again; a database that was never reached isn't tried twice.
func (s *side) reached(ctx context.Context) bool {
	if s.byAPI() {
		return s.api != nil && s.deaf == ""
	}
	if s.conn == nil {
		return false
	}
	return !s.conn.IsClosed() || s.connect(ctx) == nil
}

// ask is a pg.Ask.
func (s *side) ask(ctx context.Context, sql string, args ...string) ([]cdc.Row, error) {
	if s.byAPI() {
		return s.api.Rows(ctx, sql, args...)
	}
	return pg.AskOver(s.conn)(ctx, sql, args...)
}

// catalog reads what the side says about tables.
func (s *side) catalog(ctx context.Context, tables []pg.TableName) (*pg.Catalog, error) {
	if s.byAPI() {
		return s.api.Catalog(ctx, tables)
	}
	return pg.ReadCatalog(ctx, s.conn, tables)
}

// lacks says what keeps a check with these needs from being made, or "".
func (e *Env) lacks(ctx context.Context, needs Need) string {
	switch {
	case needs&needSource != 0 && !e.source.reached(ctx):
		return "the source can't be reached"
	case needs&needConnection != 0 && e.target.byAPI():
		return "not visible over the API"
	case needs&needTarget != 0 && !e.target.reached(ctx):
		return cmp.Or(e.target.deaf, "the target can't be reached")
	case needs&needFile != 0 && e.file == nil:
		return "the mapping file can't be read"
	case needs&needMapping == 0 || e.mapping != nil:
		return ""
	case e.source.conn == nil:
		return "without the source, the mapping can't be compared with it"
	case e.file == nil:
		return "the mapping file can't be read"
	}
	return "the mapping doesn't fit"
}

// openSink connects the sink that the bridge would use. Of it only what reads is
// called here.
func (e *Env) openSink(ctx context.Context) (err error) {
	if e.target.byAPI() {
		e.sink = e.target.api
	}
	if e.sink == nil {
		e.sink, err = postgres.Open(ctx, postgres.Options{URL: e.TargetURL, Name: e.Name, InsecureTLS: e.target.opts.InsecureTLS}, discard)
	}
	return err
}

// sourceTables are the tables that the bridge follows; of a mapping that doesn't
// fit, those that its file names.
func (e *Env) sourceTables() []pg.TableName {
	var list []pg.TableName
	switch {
	case e.mapping != nil:
		for _, s := range e.mapping.Sources {
			list = append(list, pg.TableName{Schema: s.Schema, Name: s.Name})
		}
	case e.file != nil:
		list = e.file.SourceTables()
	}
	return list
}

// errRollback ends a transaction that must leave nothing behind.
var errRollback = errors.New("rolled back as intended")

// try plans a statement in a read-only transaction that is rolled back: the
// server checks every right that the statement needs, and doesn't run it.
func try(ctx context.Context, conn *pgx.Conn, sql string) error {
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "EXPLAIN "+sql); err != nil {
			return err
		}
		return errRollback
	})
	if errors.Is(err, errRollback) {
		return nil
	}
	return pg.Safe(err)
}

// discard takes what the parts that are tried here would log: it is the findings
// that count.
var discard = slog.New(slog.DiscardHandler)
