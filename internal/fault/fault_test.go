package fault_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
)

func state(code string) error { return &pgconn.PgError{Severity: "ERROR", Code: code} }

func TestClassOf(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	tests := []struct {
		name string
		err  error
		want fault.Class
	}{
		{"nil", nil, fault.Stop},
		{"unknown", errors.New("boom"), fault.Stop},
		{"connection exception", state("08006"), fault.Retry},
		{"protocol violation", state("08P01"), fault.Stop},
		{"serialization failure", state("40001"), fault.Retry},
		{"deadlock", state("40P01"), fault.Retry},
		{"disk full", state("53100"), fault.Retry},
		{"too many connections", state("53300"), fault.Retry},
		{"lock not available", state("55P03"), fault.Retry},
		{"slot in use", state("55006"), fault.Retry},
		{"slot lost", state("55000"), fault.Stop},
		{"statement timeout", state("57014"), fault.Retry},
		{"shutdown", state("57P01"), fault.Retry},
		{"crash", state("57P02"), fault.Retry},
		{"starting up", state("57P03"), fault.Retry},
		{"database dropped", state("57P04"), fault.Stop},
		{"idle session", state("57P05"), fault.Retry},
		{"read only", state("25006"), fault.Retry},
		{"idle in transaction", state("25P03"), fault.Retry},
		{"in failed transaction", state("25P02"), fault.Stop},
		{"not null", state("23502"), fault.Reject},
		{"unique", state("23505"), fault.Reject},
		{"too long", state("22001"), fault.Reject},
		{"undefined table", state("42P01"), fault.Stop},
		{"forbidden", state("42501"), fault.Stop},
		{"password", state("28P01"), fault.Stop},
		{"raised", state("P0001"), fault.Stop},
		{"internal", state("XX000"), fault.Stop},
		{"short code", state("5"), fault.Stop},
		{"wrapped code", fmt.Errorf("apply: %w", state("40001")), fault.Retry},
		{"joined code", errors.Join(errors.New("a"), state("40001")), fault.Retry},
		{"explicit before code", fault.Wrap(fault.Stop, "", state("40001")), fault.Stop},
		{"outermost explicit", fault.Wrap(fault.Config, "", fault.Wrap(fault.Retry, "", io.EOF)), fault.Config},
		{"no file", &os.PathError{Op: "open", Path: "x", Err: syscall.ENOENT}, fault.Stop},
		{"no socket yet", &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.ENOENT)}, fault.Retry},
		{"reset", fmt.Errorf("read: %w", syscall.ECONNRESET), fault.Retry},
		{"eof", io.EOF, fault.Retry},
		{"cut", fmt.Errorf("receive: %w", io.ErrUnexpectedEOF), fault.Retry},
		{"refused", refused, fault.Retry},
		{"no such host", &net.DNSError{Name: "db", IsNotFound: true}, fault.Retry},
		{"closed", net.ErrClosed, fault.Retry},
		{"driver closed", fmt.Errorf("query: %w", pgconn.ErrConnClosed), fault.Retry},
		{"deadline", context.DeadlineExceeded, fault.Retry},
		{"canceled", fmt.Errorf("query: %w", context.Canceled), fault.Canceled},
		{"certificate", x509.UnknownAuthorityError{}, fault.Stop},
		{"certificate in network error", &net.OpError{Op: "remote error", Err: x509.HostnameError{}}, fault.Stop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := fault.ClassOf(tt.err); got != tt.want {
				t.Errorf("ClassOf(%v) = %s, want %s", tt.err, got, tt.want)
			}
		})
	}
}

func TestHintOf(t *testing.T) {
	t.Parallel()
	inner := fault.Wrap(fault.Stop, "inner", io.EOF)
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"nil", nil, ""},
		{"none", io.EOF, ""},
		{"own", fault.Wrap(fault.Stop, "outer", inner), "outer"},
		{"kept under a wrapper without one", fault.Wrap(fault.Stop, "", fmt.Errorf("x: %w", inner)), "inner"},
		{"of the code", fault.Wrap(fault.Stop, "", state("3D000")), "check the database's name at the end of the URL"},
		{"own before the code", fault.Wrap(fault.Stop, "own", state("3D000")), "own"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := fault.HintOf(tt.err); got != tt.want {
				t.Errorf("HintOf(%v) = %q, want %q", tt.err, got, tt.want)
			}
		})
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	if err := fault.Wrap(fault.Stop, "hint", nil); err != nil {
		t.Errorf("Wrap(nil) = %v, want nil", err)
	}
	err := error(&fault.Error{Class: fault.Retry, Op: "open slot", Hint: "wait", Err: io.EOF})
	if got, want := err.Error(), "open slot: EOF"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is not in the chain")
	}
	err = fault.Errorf(fault.Config, "", "read %s: %w", "file", io.EOF)
	if got, want := err.Error(), "read file: EOF"; got != want || !errors.Is(err, io.EOF) {
		t.Errorf("Errorf() = %q, want %q around io.EOF", got, want)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{"57014": true, "25P03": true, "53200": true, "53100": false, "40001": false} {
		if got := fault.TooLarge(fmt.Errorf("apply: %w", state(code))); got != want {
			t.Errorf("TooLarge(%s) = %t, want %t", code, got, want)
		}
	}
	if fault.TooLarge(nil) {
		t.Error("TooLarge(nil) = true")
	}
}
