package postgres

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// SQLSTATEs that the functions of the private schema raise.
const (
	codeFenced  = "WB001"
	codeStale   = "WB002"
	codeMissing = "WB003"
	codeNoRow   = "WB004"
)

// errStale stands for a *sink.StaleError whose row has still to be read.
var errStale = errors.New("the target's checkpoint is elsewhere")

// explain turns the error of one op into what the contract promises. Nothing of
// the server's texts is kept: they quote values.
func explain(o *op, err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return err
	}
	switch server.Code {
	case codeFenced:
		return sink.ErrFenced
	case codeNoRow:
		return sink.ErrNoCheckpoint
	case codeStale:
		return errStale
	case codeMissing:
		// The message is expect_rows's own: the count.
		got, _ := strconv.ParseInt(server.Message, 10, 64)
		return &sink.MissingError{Table: o.table, Want: o.want, Got: got}
	}
	if o.lock && notInstalled(err) {
		return fmt.Errorf("%w: %w", sink.ErrNoCheckpoint, pg.Safe(err))
	}
	refused := strings.HasPrefix(server.Code, "22") || strings.HasPrefix(server.Code, "23")
	switch {
	case refused && o.entries && server.Code == "23505":
		return fault.Wrap(fault.Stop,
			"entries never repeat: look for another bridge with the same history that writes to this audit table",
			pg.Safe(err))
	case refused && o.table != "":
		return &sink.RejectError{Table: o.table, Code: server.Code, Constraint: server.ConstraintName}
	case refused:
		return fault.Wrap(fault.Stop, "", pg.Safe(err))
	}
	return pg.Safe(err)
}

// lost reports an error after which the outcome of a statement that was sent is
// open: the connection broke, or the server (or a pooler in between, which may
// speak for a server that has committed) ended the session.
func lost(err error) bool {
	var outcome OutcomeError
	if errors.As(err, &outcome) {
		return outcome.Unknown()
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return true
	}
	severity := server.SeverityUnlocalized
	return severity == "FATAL" || severity == "PANIC" ||
		strings.HasPrefix(server.Code, "08") || strings.HasPrefix(server.Code, "57P")
}

// notInstalled reports that the private schema, or a part of it, isn't there.
func notInstalled(err error) bool {
	switch pg.Code(err) {
	case "3F000", "42P01", "42883":
		return true
	}
	return false
}
