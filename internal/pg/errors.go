package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
)

// safeError has a text that may be printed, and the cause for errors.As.
type safeError struct {
	text string
	err  error
}

func (e *safeError) Error() string { return e.text }
func (e *safeError) Unwrap() error { return e.err }

// Safe wraps err so that its text can be logged: severity, SQLSTATE, table,
// column and constraint of a server's error, never its detail, hint or context,
// which hold rows, nor its message, unless it can only hold names. The cause
// stays reachable; printing that instead prints what this hides. Errors that
// come from no server pass as they are. Safe(nil) is nil.
func Safe(err error) error {
	var already *safeError
	if err == nil || errors.As(err, &already) {
		return err
	}
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		var connect *pgconn.ConnectError
		var parse *pgconn.ParseConfigError
		switch {
		case errors.As(err, &connect):
			return &safeError{text: "connect: " + reason(err), err: err}
		case errors.As(err, &parse):
			return &safeError{text: "the URL can't be read", err: err}
		}
		return err
	}
	return &safeError{text: describe(server), err: err}
}

// Code returns the SQLSTATE that err carries, or "".
func Code(err error) string { return fault.Code(err) }

// describe renders the fields of a server's error that hold names only.
func describe(e *pgconn.PgError) string {
	var b strings.Builder
	severity := e.SeverityUnlocalized // ERROR whatever lc_messages says
	if severity == "" {
		severity = e.Severity
	}
	fmt.Fprintf(&b, "%s: ", strings.ToLower(severity))
	if message := plainMessage(e); message != "" {
		b.WriteString(message)
	} else {
		b.WriteString(meaning(e.Code))
	}
	fmt.Fprintf(&b, " (SQLSTATE %s", e.Code)
	if e.TableName != "" {
		table := e.TableName
		if e.SchemaName != "" {
			table = e.SchemaName + "." + table
		}
		fmt.Fprintf(&b, ", table %s", table)
	}
	if e.ColumnName != "" {
		fmt.Fprintf(&b, ", column %s", e.ColumnName)
	}
	if e.ConstraintName != "" {
		fmt.Fprintf(&b, ", constraint %s", e.ConstraintName)
	}
	b.WriteString(")")
	return b.String()
}

// plainMessage returns the server's message where it is made of names and never
// of values: errors of connecting, of missing objects and of rights. Messages of
// classes 22 and 23 quote values. A message that a function raised may hold
// anything under any code.
func plainMessage(e *pgconn.PgError) string {
	if e.Routine == "exec_stmt_raise" {
		return ""
	}
	switch e.Code {
	case "28000", "28P01", "3D000", "3F000", // connecting
		"42501", "42P01", "42703", "42704", "42883", "42P07", "42710", "42701", "42804", "42846", "42809", "42P17", // names and types
		"53300", "53400", "55000", "55006", "55P02", "0A000", "08P01", // limits and states
		"57P01", "57P02", "57P03":
		message := strings.Join(strings.Fields(e.Message), " ")
		const limit = 200
		if len(message) > limit {
			message = strings.ToValidUTF8(message[:limit], "") + "…"
		}
		return message
	}
	return ""
}

// meaning says in a few words what a SQLSTATE is, for messages that can't show
// the server's own.
func meaning(code string) string {
	switch code {
	case "22P02", "22P03":
		return "a value is not of the column's type"
	case "22001":
		return "a value is too long for its column"
	case "22003":
		return "a number is out of its column's range"
	case "22007", "22008":
		return "a date or time is out of range"
	case "22P05", "22021":
		return "a character has no place in the database's encoding"
	case "21000":
		return "one statement meets a row twice"
	case "23502":
		return "a column that must not be null is"
	case "23503":
		return "a foreign key leads nowhere"
	case "23505":
		return "a unique value is there already"
	case "23514":
		return "a check constraint is violated"
	case "23P01":
		return "an exclusion constraint is violated"
	case "25006":
		return "the server or the session is read-only"
	case "40001", "40P01":
		return "another transaction was in the way"
	case "42601":
		return "a statement is not understood"
	case "44000":
		return "a view's check option is violated"
	case "53100":
		return "the disk is full"
	case "53200":
		return "out of memory"
	case "55P03":
		return "a lock was not to be had in time"
	case "57014":
		return "a statement took too long, or was cancelled"
	case "25P03", "25P04":
		return "a transaction took too long"
	case "P0001":
		return "a function or trigger raised an error"
	}
	switch {
	case strings.HasPrefix(code, "08"):
		return "the connection broke"
	case strings.HasPrefix(code, "22"):
		return "a value is refused"
	case strings.HasPrefix(code, "23"):
		return "a constraint is violated"
	case strings.HasPrefix(code, "53"):
		return "the server is out of a resource"
	case strings.HasPrefix(code, "58"):
		return "the server's system failed"
	case strings.HasPrefix(code, "XX"):
		return "an internal error of the server"
	}
	return "the server reports an error"
}

// connectError says where a connection was to lead and why it wasn't made.
func connectError(side Side, end Endpoint, err error) error {
	text := fmt.Sprintf("connect to %s at %s as %s: %s", side, end.Address(), end.User, reason(err))
	safe := &safeError{text: text, err: err}
	// A pooler refuses startup parameters that it doesn't know as a protocol
	// violation, which says nothing about poolers.
	if Code(err) == "08P01" {
		return fault.Wrap(fault.Stop,
			fmt.Sprintf("the %s URL seems to lead to a pooler; it must lead to PostgreSQL itself", side), safe)
	}
	if hint := connectHint(side, end, err); hint != "" {
		return fault.Wrap(fault.ClassOf(err), hint, safe)
	}
	return safe
}

// connectHint says what to look at where no SQLSTATE says it.
func connectHint(side Side, end Endpoint, err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT):
		return fmt.Sprintf("check that PostgreSQL runs there and listens on it: pg_isready -h %s -p %d", end.Host, end.Port)
	case errors.As(err, &dns):
		return fmt.Sprintf("check the host's name in the %s URL", side)
	case errors.Is(err, syscall.ENETUNREACH) && side == Target:
		return "a Supabase project's direct host has an IPv6 address only; without IPv6 use the session pooler (port 5432 of the pooler's host)"
	}
	return ""
}

// reason names the cause of a failed connect. The driver's texts list every
// address that was tried; the first real cause is enough.
func reason(err error) string {
	var (
		server *pgconn.PgError
		dns    *net.DNSError
		op     *net.OpError
	)
	switch {
	case errors.As(err, &server):
		return describe(server)
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), pgconn.Timeout(err):
		return "no answer in time: the host is down, or a firewall drops the packets"
	case errors.As(err, &dns):
		return "no such host: " + dns.Name
	case errors.As(err, &op):
		return op.Err.Error()
	}
	// What remains is the driver's own about TLS and authentication. Of its
	// chain only the innermost text is taken, which holds no part of the URL.
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			var joined interface{ Unwrap() []error }
			if errors.As(err, &joined) && len(joined.Unwrap()) > 0 {
				inner = joined.Unwrap()[0]
			}
		}
		if inner == nil || inner == err {
			return strings.Join(strings.Fields(err.Error()), " ")
		}
		err = inner
	}
}
