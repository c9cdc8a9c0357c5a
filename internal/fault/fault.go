// Package fault sorts errors by what the bridge does about them and carries the
// word to the operator that goes with each. Classes follow from SQLSTATEs and Go
// error types, never from the text of a message: texts change with the server's
// version and language.
package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// Class says what the bridge does about an error.
type Class uint8

const (
	// Stop waits for a person. It is the zero value, because retrying what
	// nobody has thought about repeats the harm.
	Stop Class = iota
	// Retry goes away by itself: try again, with backoff, for ever.
	Retry
	// Reject concerns one row or value that the target refuses.
	Reject
	// Config is a mistake in what the operator wrote: the process exits with 2.
	Config
	// Canceled is no fault: the bridge was asked to stop.
	Canceled
)

// String returns the class's name as logs and metrics show it.
func (c Class) String() string {
	switch c {
	case Stop:
		return "stop"
	case Retry:
		return "retry"
	case Reject:
		return "reject"
	case Config:
		return "config"
	case Canceled:
		return "canceled"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Error is an error whose class, or whose remedy, is known where it happened.
type Error struct {
	Class Class
	// Op is what was being done, as a verb and its object ("open slot"); it may
	// be empty.
	Op string
	// Hint is the command, the SQL or the setting that mends it; it may be empty.
	// It is not part of the text: logs print it under a key of its own.
	Hint string
	Err  error
}

func (e *Error) Error() string {
	if e.Op == "" {
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Wrap gives err a class and a hint. It returns nil for nil.
func Wrap(class Class, hint string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Hint: hint, Err: err}
}

// Errorf makes an error of a class; its format takes %w.
func Errorf(class Class, hint, format string, args ...any) error {
	return &Error{Class: class, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// ClassOf returns the class of err: the outermost *Error in its chain decides,
// then the SQLSTATE, then the kind of failure. What is unknown is Stop.
func ClassOf(err error) Class {
	var explicit *Error
	if errors.As(err, &explicit) {
		return explicit.Class
	}
	if code := Code(err); code != "" {
		return classOfCode(code)
	}
	switch {
	case err == nil:
		return Stop
	case errors.Is(err, context.Canceled):
		return Canceled
	case badCertificate(err):
		return Stop
	case transient(err):
		return Retry
	}
	return Stop
}

// HintOf returns the outermost hint in err's chain, else one that follows from
// its SQLSTATE, else "".
func HintOf(err error) string {
	// A wrapper without a hint must not hide the one that it wraps.
	for next := err; next != nil; {
		var e *Error
		if !errors.As(next, &e) {
			break
		}
		if e.Hint != "" {
			return e.Hint
		}
		next = e.Err
	}
	if hint := hintOfCode(Code(err)); hint != "" {
		return hint
	}
	if badCertificate(err) {
		return "give the server's CA with sslrootcert=/path/ca.crt in the URL (Supabase: Project settings, Database, SSL certificate)"
	}
	return ""
}

// Code returns the SQLSTATE that err carries, or "".
func Code(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}

// TooLarge reports that a batch may have failed for its size alone: the server
// gave up on it for its duration or for memory, and half of it may pass.
func TooLarge(err error) bool {
	switch Code(err) {
	case "57014", "25P03", "25P04", "53200":
		return true
	}
	return false
}

// transient reports failures of the network, which say nothing about the work.
// A bare errno counts only if it is one of a socket: an unreadable file has one,
// too, and doesn't mend itself.
func transient(err error) bool {
	var (
		op      *net.OpError
		dns     *net.DNSError
		network net.Error
	)
	if errors.As(err, &op) || errors.As(err, &dns) {
		return true
	}
	for _, gone := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.DeadlineExceeded, pgconn.ErrConnClosed,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE,
		syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return errors.As(err, &network) && network.Timeout() || pgconn.SafeToRetry(err)
}

// badCertificate reports a server that is not who the URL says, which no retry
// makes it.
func badCertificate(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) ||
		errors.As(err, &hostname) || errors.As(err, &invalid)
}
