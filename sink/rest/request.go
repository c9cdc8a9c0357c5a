package rest

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink/postgres"
)

// What becomes of what a request does.
const (
	try    = "try"
	commit = "commit"
)

// request sends one request: first, what st has of the transaction, and ops. It
// hands the results out and says which statement failed.
func (s *session) request(ctx context.Context, mode string, st stage, first *entry, ops []*entry) (*postgres.Statement, error) {
	b := append(make([]byte, 0, size(ops)+256), `{"head":[`...)
	ids, parts := st.head()
	for i, part := range []string{strconv.Itoa(Version), s.name, mode, st.batch, ids, parts} {
		if i > 0 {
			b = append(b, ',')
		}
		b = quote(b, []byte(part))
	}
	b = append(b, `],"first":`...)
	var begin []*entry
	if first != nil {
		begin = []*entry{first}
	}
	all := slices.Concat(begin, s.done[:st.entries()], ops)
	b = append(append(b, join(begin)...), `,"ops":`...)
	b = append(append(b, join(ops)...), '}')

	body, err := s.client.call(ctx, writing, b, mode == commit && first != nil)
	if err != nil {
		return nil, err
	}
	failed, err := s.answered(body, all)
	if errors.Is(err, errReply) && failed == nil {
		err = &callError{text: "read the reply", err: err, unknown: mode == commit && first != nil}
	}
	return failed, err
}

// answered hands the results of a reply out to what was asked.
func (s *session) answered(body []byte, all []*entry) (*postgres.Statement, error) {
	r, err := readReply(body)
	if err != nil {
		return nil, err
	}
	if r.Error != nil {
		return at(all, r.Op), s.failure(r.Error)
	}
	for _, got := range r.Results {
		if got.Op < 1 || got.Op > len(all) || all[got.Op-1].st.Read == nil {
			return nil, errReply
		}
		e := all[got.Op-1]
		e.rows = got.Rows
		rows := &result{rows: got.Rows}
		if err := errors.Join(e.st.Read(rows), rows.err()); err != nil {
			return e.st, err
		}
	}
	return nil, nil
}

// at is the statement of the entry at position i, from 1 on, nil if there is none.
func at(all []*entry, i int) *postgres.Statement {
	if i < 1 || i > len(all) {
		return nil
	}
	return all[i-1].st
}

// SQLSTATEs that the function raises, beside those of package postgres.
const (
	codeMissing   = "WB003"
	codeChanged   = "WB005"
	codeStatement = "WB006"
	codeVersion   = "WB007"
)

// failure makes an error of what a statement failed with.
func (s *session) failure(e *replyError) error {
	server := &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: e.Code, Message: e.Message,
		SchemaName: e.Schema, TableName: e.Table, ColumnName: e.Column, ConstraintName: e.Constraint}
	switch e.Code {
	case codeChanged:
		return fault.Wrap(fault.Retry, "", &callError{text: "the target changed while a batch was put together"})
	case codeStatement:
		return s.hopeless(SchemaHint, &callError{
			text: "the target was prepared for another bridge, another mapping or by another version of walbridge", err: errStatement})
	case codeVersion:
		return s.hopeless(SchemaHint, &callError{text: "the function public.walbridge at the target is of another version"})
	case "42501":
		return s.hopeless("give the function to the role that owns the tables, as in: ALTER FUNCTION public.walbridge(json) OWNER TO postgres", server)
	}
	return server
}

// serverError reports an error that the database itself has raised.
func serverError(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server)
}

func code(err error) string { return fault.Code(err) }

// errStatement marks answers that a statement isn't known.
var errStatement = errors.New("it doesn't know a statement")

// hopeless is an error that asking again at once won't change.
func (s *session) hopeless(hint string, err error) error {
	s.client.notBefore = time.Now().Add(calm)
	return fault.Wrap(fault.Stop, hint, err)
}
