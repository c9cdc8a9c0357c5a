package pg_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

func TestSafe(t *testing.T) {
	t.Parallel()
	// Every field that can hold a row's values holds this word.
	const row = "Maria"
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"nil", nil, ""},
		{"not a server's", errors.New("boom"), "boom"},
		{"unique", &pgconn.PgError{Severity: "ERRO", SeverityUnlocalized: "ERROR", Code: "23505", Message: row, Detail: row, Hint: row, Where: row,
			InternalQuery: row, SchemaName: "public", TableName: "contacts", ConstraintName: "contacts_pkey"},
			"error: a unique value is there already (SQLSTATE 23505, table public.contacts, constraint contacts_pkey)"},
		{"not null", &pgconn.PgError{Severity: "ERROR", Code: "23502", Message: row, Detail: row, TableName: "contacts", ColumnName: "name"},
			"error: a column that must not be null is (SQLSTATE 23502, table contacts, column name)"},
		{"bad value", &pgconn.PgError{Severity: "ERROR", Code: "22P02", Message: row, Where: row},
			"error: a value is not of the column's type (SQLSTATE 22P02)"},
		{"class only", &pgconn.PgError{Severity: "ERROR", Code: "22012", Message: row},
			"error: a value is refused (SQLSTATE 22012)"},
		{"raised", &pgconn.PgError{Severity: "ERROR", Code: "P0001", Message: row},
			"error: a function or trigger raised an error (SQLSTATE P0001)"},
		{"raised under another's code", &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: row, Routine: "exec_stmt_raise"},
			"error: the server reports an error (SQLSTATE 42501)"},
		{"names only", &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: "permission denied for table\ncontacts", Detail: row},
			"error: permission denied for table contacts (SQLSTATE 42501)"},
		{"wrapped", fmt.Errorf("apply: %w", &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: row}),
			"error: another transaction was in the way (SQLSTATE 40001)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := pg.Safe(tt.err)
			if tt.err == nil {
				if err != nil {
					t.Fatalf("Safe(nil) = %v", err)
				}
				return
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("Safe() = %q, want %q", got, tt.want)
			}
			if !errors.Is(err, tt.err) {
				t.Error("the cause is not in the chain")
			}
			if got, want := pg.Code(err), fault.Code(tt.err); got != want {
				t.Errorf("Code() = %q, want %q", got, want)
			}
			if again := pg.Safe(fmt.Errorf("more: %w", err)); again.Error() != "more: "+tt.want && strings.Contains(again.Error(), row) {
				t.Errorf("Safe twice = %q", again)
			}
		})
	}
}

func TestConnect_Refused(t *testing.T) {
	t.Parallel()
	// A port that was just free refuses connections.
	addr := boundAddress(t)

	_, err := pg.Connect(context.Background(), "postgres://app:hunter2@"+addr+"/niochat", pg.Options{})
	if err == nil {
		t.Fatal("connected to a closed port")
	}
	if got, want := err.Error(), "connect to source at "+addr+" as app: connect: connection refused"; got != want {
		t.Errorf("error = %q, want %q", got, want)
	}
	if got := fault.ClassOf(err); got != fault.Retry {
		t.Errorf("class = %s, want retry", got)
	}
	if got := fault.HintOf(err); !strings.Contains(got, "pg_isready") {
		t.Errorf("hint = %q", got)
	}
}

func TestConnect_Canceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := pg.ConnectReplication(ctx, "postgres://app:hunter2@127.0.0.1:1/niochat", pg.Options{})
	if got := fault.ClassOf(err); got != fault.Canceled {
		t.Errorf("class of %v = %s, want canceled", err, got)
	}
}

// boundAddress is an address whose port nobody listens on. It stays bound, so that
// no other test gets it.
func boundAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(name.(*syscall.SockaddrInet4).Port)
}
