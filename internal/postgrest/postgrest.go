// Package postgrest is a stand-in for the API of a Supabase project: the gateway
// with its keys and PostgREST behind it, as far as the bridge and its tests call
// them, over a real PostgreSQL.
//
//	POST /rest/v1/rpc/<function>   arguments as one JSON object
//	GET  /rest/v1/rpc/<function>   arguments in the query
//	GET  /rest/v1/<table>          select, eq and its like, order, limit, offset
//
// Each request is one transaction, with the role and the claims of its key or
// token, the role's own settings and those of the function that PostgREST hoists
// (PostgREST documentation, "Transactions"). Errors have PostgREST's status and
// body ("Errors"). Faults make the failures that a network and a gateway add.
package postgrest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
)

// Options say which database is served, and to whom.
type Options struct {
	// URL leads to the database as a role that may SET ROLE to those of the keys:
	// authenticator, as Roles makes it.
	URL string
	// Secret signs the tokens that are accepted.
	Secret string
	// Schemas are the exposed ones, the first being the default: public if empty.
	Schemas []string
	// MaxRows bounds what a table read returns, 1000 if zero.
	MaxRows int
	// MaxBody bounds a request's body in bytes; a larger one is 413. Without a
	// bound if zero.
	MaxBody int64
	// MaxTime is what the gateway waits for an answer, 60 s if zero.
	MaxTime time.Duration
}

// Keys are a project's: the legacy ones, which are tokens, and the newer ones,
// which only the gateway understands.
type Keys struct {
	Anon, ServiceRole   string
	Publishable, Secret string
}

// Server is an http.Handler.
type Server struct {
	opts Options
	keys Keys

	http *http.Server

	mu       sync.Mutex
	idle     []*pgx.Conn
	closed   bool
	faults   []Fault
	revoked  map[string]bool
	requests []Request
}

// Request is what the server remembers of one request.
type Request struct {
	Method, Path string
	// Bytes is the length of the body.
	Bytes  int
	Status int
	At     time.Time
}

// New makes a server. Nothing is connected before the first request.
func New(opts Options) *Server {
	if len(opts.Schemas) == 0 {
		opts.Schemas = []string{"public"}
	}
	if opts.MaxRows == 0 {
		opts.MaxRows = 1000
	}
	if opts.MaxTime == 0 {
		opts.MaxTime = time.Minute
	}
	s := &Server{opts: opts}
	s.keys = Keys{
		Anon:        s.Token(map[string]any{"role": "anon", "iss": "supabase"}),
		ServiceRole: s.Token(map[string]any{"role": "service_role", "iss": "supabase"}),
		Publishable: "sb_publishable_" + digest("publishable", opts.Secret),
		Secret:      "sb_secret_" + digest("secret", opts.Secret),
	}
	return s
}

// Keys returns the keys that the gateway accepts.
func (s *Server) Keys() Keys { return s.keys }

// Revoke makes the gateway refuse a key.
func (s *Server) Revoke(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revoked == nil {
		s.revoked = make(map[string]bool)
	}
	s.revoked[key] = true
}

func (s *Server) isRevoked(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revoked[key]
}

// Requests returns what has been asked so far, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Listen serves on a free port of the loopback interface until Close. url is what
// SUPABASE_URL would be.
func (s *Server) Listen() (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen: %w", err)
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: s.opts.MaxTime, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.http.Serve(l) }() // returns when Close is called
	return "http://" + l.Addr().String(), nil
}

// Close stops listening and ends the connections.
func (s *Server) Close() {
	if s.http != nil {
		_ = s.http.Close()
	}
	s.mu.Lock()
	idle := s.idle
	s.idle, s.closed = nil, true
	s.mu.Unlock()
	for _, conn := range idle {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = conn.Close(ctx)
		cancel()
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.MaxTime)
	defer cancel()
	body, answer := s.receive(w, r)
	fault := s.nextFault(r)
	if answer == nil {
		answer = fault.before()
	}
	if answer == nil {
		answer = s.answer(ctx, r, body)
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Bytes: len(body), Status: answer.status, At: time.Now()})
	s.mu.Unlock()
	fault.send(w, r, answer)
}

// receive reads the body.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) ([]byte, *response) {
	in := io.Reader(r.Body)
	if s.opts.MaxBody > 0 {
		in = http.MaxBytesReader(w, r.Body, s.opts.MaxBody)
	}
	body, err := io.ReadAll(in)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, problem(http.StatusBadRequest, "PGRST102", "the body can't be read")
	}
	return body, nil
}

// response is a whole answer.
type response struct {
	status int
	header http.Header
	body   []byte
}

func respond(status int, contentType string, body []byte) *response {
	h := http.Header{}
	h.Set("Content-Type", contentType)
	return &response{status: status, header: h, body: body}
}

func (s *Server) answer(ctx context.Context, r *http.Request, body []byte) *response {
	path, ok := strings.CutPrefix(r.URL.Path, "/rest/v1/")
	if !ok {
		return respond(http.StatusNotFound, "application/json", []byte(`{"message":"no Route matched with those values"}`))
	}
	who, refused := s.authenticate(r)
	if refused != nil {
		return refused
	}
	schema, refused := s.schemaOf(r)
	if refused != nil {
		return refused
	}
	name, rpc := strings.CutPrefix(path, "rpc/")
	q := &query{s: s, r: r, who: who, schema: schema, name: name, body: body}
	switch read := r.Method == http.MethodGet || r.Method == http.MethodHead; {
	case rpc && (read || r.Method == http.MethodPost):
		return q.call(ctx)
	case !rpc && read:
		return q.read(ctx)
	}
	return problem(http.StatusMethodNotAllowed, "PGRST117", "Unsupported HTTP method: "+r.Method)
}

// schemaOf is the schema that a request names by its profile.
func (s *Server) schemaOf(r *http.Request) (string, *response) {
	header := "Accept-Profile"
	if r.Method == http.MethodPost {
		header = "Content-Profile"
	}
	asked := r.Header.Get(header)
	if asked == "" {
		return s.opts.Schemas[0], nil
	}
	for _, schema := range s.opts.Schemas {
		if schema == asked {
			return schema, nil
		}
	}
	return "", problem(http.StatusNotAcceptable, "PGRST106",
		fmt.Sprintf("Invalid schema: %s", asked))
}

// query is one request on its way to the database.
type query struct {
	s            *Server
	r            *http.Request
	who          identity
	schema, name string
	body         []byte
}

// run runs f in the request's transaction and makes the answer of what it
// returns; settings are added to the transaction's own.
func (q *query) run(ctx context.Context, settings map[string]string, f func(tx pgx.Tx) (*response, error)) *response {
	conn, err := q.s.connection(ctx)
	if err != nil {
		return q.failed(err)
	}
	defer q.s.giveBack(conn)
	opts := pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	if q.r.Method != http.MethodPost {
		opts.AccessMode = pgx.ReadOnly
	}
	var answer *response
	err = pgx.BeginTxFunc(ctx, conn, opts, func(tx pgx.Tx) error {
		if err := q.prepare(ctx, tx, settings); err != nil {
			return err
		}
		var err error
		answer, err = f(tx)
		return err
	})
	if err != nil {
		return q.failed(err)
	}
	return answer
}

func (s *Server) connection(ctx context.Context) (*pgx.Conn, error) {
	if conn := s.idleConnection(); conn != nil {
		return conn, nil
	}
	cfg, err := pgx.ParseConfig(s.opts.URL)
	if err != nil {
		return nil, fmt.Errorf("read the URL of the stand-in's database: %w", pg.Safe(err))
	}
	return pgx.ConnectConfig(ctx, cfg)
}

func (s *Server) idleConnection() *pgx.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.idle)
	if n == 0 {
		return nil
	}
	conn := s.idle[n-1]
	s.idle = s.idle[:n-1]
	return conn
}

func (s *Server) giveBack(conn *pgx.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
		return
	}
	s.idle = append(s.idle, conn)
}

// roleSettings are what ALTER ROLE … SET says of a role. PostgREST applies them,
// because SET ROLE doesn't.
const roleSettings = `SELECT pg_catalog.split_part(c, '=', 1), pg_catalog.substr(c, pg_catalog.strpos(c, '=') + 1)
	FROM pg_catalog.pg_roles AS r, pg_catalog.unnest(r.rolconfig) AS c WHERE r.rolname = $1`

// prepare gives the transaction its role, its claims and its settings.
func (q *query) prepare(ctx context.Context, tx pgx.Tx, settings map[string]string) error {
	rows, err := tx.Query(ctx, roleSettings, q.who.role)
	if err != nil {
		return err
	}
	batch := &pgx.Batch{}
	set := func(name, value string) {
		batch.Queue("SELECT pg_catalog.set_config($1, $2, true)", name, value)
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		set(name, value)
		return nil
	})
	if err != nil {
		return err
	}
	set("search_path", pg.Quote(q.schema)+", extensions")
	set("request.jwt.claims", q.who.claims)
	set("request.method", q.r.Method)
	set("request.path", q.r.URL.Path)
	for name, value := range settings {
		set(name, value)
	}
	set("role", q.who.role)
	return tx.SendBatch(ctx, batch).Close()
}
