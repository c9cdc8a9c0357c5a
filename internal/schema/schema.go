// Package schema makes the SQL that prepares both ends of a bridge for roles that
// have no rights but those that the bridge needs, and runs it.
package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

// The roles, unless others are asked for.
const (
	SourceRole = "walbridge_cdc"
	TargetRole = "walbridge_writer"
)

// Options say for what bridge a script is.
type Options struct {
	// Name is the bridge's, and that of its publication and slot.
	Name string
	// Role is the bridge's role on this side.
	Role string
	// File is the mapping; Compile alters it.
	File    *mapping.File
	Compile mapping.CompileOptions
}

// maxRole leaves room for what is appended to a role's name in those of policies:
// PostgreSQL cuts longer names off.
const maxRole = 63 - len(" update")

// CheckRole refuses what can't be the name of the bridge's role.
func CheckRole(role string) error {
	if role == "" || len(role) > maxRole || strings.Contains(role, "\x00") || strings.HasPrefix(role, "pg_") || role == "public" || role == "none" {
		return fault.Errorf(fault.Config, fmt.Sprintf("use 1 to %d bytes that don't begin with pg_", maxRole), "%q can't be the name of a role", role)
	}
	return nil
}

// Script is what one side needs.
type Script struct {
	Side     pg.Side
	Role     string
	Database string
	// Notes are what no statement here changes and somebody has to see to.
	Notes []string
	// Statements belong into one transaction.
	Statements []pg.Statement
	// Slot, if not empty, is made behind the transaction, in which PostgreSQL
	// makes none.
	Slot string
	// Closing is said at the end.
	Closing []string
}

// inspectDatabase asks for the database's name, and whether everybody may connect.
const inspectDatabase = `SELECT pg_catalog.current_database(), EXISTS (
	SELECT FROM pg_catalog.pg_database AS d, pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS a
	WHERE d.datname = pg_catalog.current_database() AND a.grantee = 0 AND a.privilege_type = 'CONNECT')`

// begin starts a script with the role, and with its right to connect where the
// database isn't open to everybody.
func begin(ctx context.Context, conn *pgx.Conn, side pg.Side, role, attributes, about string) (*Script, error) {
	s := &Script{Side: side, Role: role}
	var open bool
	if err := conn.QueryRow(ctx, inspectDatabase).Scan(&s.Database, &open); err != nil {
		return nil, fmt.Errorf("inspect the %s's database: %w", side, pg.Safe(err))
	}
	s.Statements = []pg.Statement{{
		About:  about,
		SQL:    "CREATE ROLE " + pg.Quote(role) + " " + attributes,
		Unless: "SELECT FROM pg_catalog.pg_roles WHERE rolname = " + pg.QuoteLiteral(role),
	}}
	if !open {
		s.Statements = append(s.Statements, pg.Statement{SQL: "GRANT CONNECT ON DATABASE " + pg.Quote(s.Database) + " TO " + pg.Quote(role)})
	}
	return s, nil
}

// password says how the role gets one. It never passes through here.
func (s *Script) password() string {
	return fmt.Sprintf("A new role has no password yet. In psql, which sends nothing but a hash of it:\n  \\password %s\nThe bridge then connects as %[1]s (WALBRIDGE_%s_URL, or a file named by WALBRIDGE_%[2]s_URL_FILE).",
		s.Role, strings.ToUpper(s.Side.String()))
}

// SQL returns all statements as a server takes them, without comments.
func (s *Script) SQL() []string {
	var list []string
	for _, st := range s.Statements {
		list = append(list, st.String())
	}
	if s.Slot != "" {
		list = append(list, slotSQL(s.Slot))
	}
	return list
}

// slotSQL makes a slot that isn't there.
func slotSQL(name string) string {
	n := pg.QuoteLiteral(name)
	return "SELECT pg_catalog.pg_create_logical_replication_slot(" + n + ", 'pgoutput')\n" +
		"WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = " + n + ")"
}

// WriteTo prints the script for psql and for SQL editors.
func (s *Script) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	b.WriteString(pg.Comment(fmt.Sprintf("walbridge schema %s: what database %s needs for a bridge that connects as %s.\nIt may run again at any time.", s.Side, s.Database, s.Role)))
	for _, note := range s.Notes {
		b.WriteString("\n" + pg.Comment("NOTE: "+note))
	}
	b.WriteString("\nBEGIN;\n")
	for _, st := range s.Statements {
		if st.About != "" {
			b.WriteString("\n" + pg.Comment(st.About))
		}
		b.WriteString(st.String() + ";\n")
	}
	b.WriteString("\nCOMMIT;\n")
	if s.Slot != "" {
		b.WriteString("\n" + pg.Comment("The slot, for --prepare=manual. From now on the source keeps WAL for it: start the bridge soon.") + slotSQL(s.Slot) + ";\n")
	}
	for _, text := range s.Closing {
		b.WriteString("\n" + pg.Comment(text))
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// WriteApplied says that the script has run, and what is left to do.
func (s *Script) WriteApplied(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Applied to the %s: database %s is ready for a bridge that connects as %s.\n", s.Side, s.Database, s.Role)
	for _, note := range s.Notes {
		b.WriteString("\nNOTE: " + note + "\n")
	}
	for _, text := range s.Closing {
		b.WriteString("\n" + text + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Apply runs the script over a session of its own: all of it or nothing.
func (s *Script) Apply(ctx context.Context, url string, opts pg.Options) error {
	var refused *pgconn.Notice
	opts.Application = "walbridge schema"
	// Whoever comes later waits behind us, so we wait for no lock for long. An
	// index may take its time.
	opts.Settings = map[string]string{"lock_timeout": "10s", "statement_timeout": "0"}
	// A GRANT or REVOKE that the role has no right to is a mere warning.
	opts.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Code == "01006" || n.Code == "01007" {
			refused = n
		}
	}
	conn, err := pg.Connect(ctx, url, opts)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, st := range s.Statements {
			_, err := tx.Exec(ctx, st.String(), pgx.QueryExecModeSimpleProtocol)
			if err == nil && refused != nil {
				err = &refusedError{code: refused.Code, text: refused.Message}
			}
			if err != nil {
				return fmt.Errorf("%s: %w", st.FirstLine(), pg.Safe(err))
			}
		}
		return nil
	})
	if err != nil {
		return s.explain(conn.Config().User, err)
	}
	return s.makeSlot(ctx, conn)
}

func (s *Script) makeSlot(ctx context.Context, conn *pgx.Conn) error {
	if s.Slot == "" {
		return nil
	}
	if _, err := replicator.ReadSlot(ctx, conn, s.Slot); !errors.Is(err, replicator.ErrNoSlot) {
		return err
	}
	_, err := replicator.CreateSlot(ctx, conn, s.Slot, replicator.SlotOptions{})
	return err
}

// refusedError is a warning of the server that counts as an error here.
type refusedError struct{ code, text string }

func (e *refusedError) Error() string    { return fmt.Sprintf("%s (SQLSTATE %s)", e.text, e.code) }
func (e *refusedError) SQLState() string { return e.code }

// explain says that nothing has changed, and what mends it.
func (s *Script) explain(user string, err error) error {
	hint := ""
	switch code := pg.Code(err); code {
	case "42501", "01006", "01007":
		hint = fmt.Sprintf("as a role that may: walbridge schema %s --apply --admin-url-file FILE, where the file holds its URL; or have somebody run what walbridge schema %[1]s prints", s.Side)
		if s.Side == pg.Source {
			hint += ". It has to own the tables and to be allowed to make roles that replicate; a superuser is"
		}
	case "55P03":
		hint = "another session holds the table: try again"
	}
	changed := ""
	if pg.Code(err) != "" { // else the connection broke, perhaps in COMMIT
		changed = "; nothing was changed"
	}
	err = fmt.Errorf("apply to the %s as role %s: %w%s", s.Side, user, err, changed)
	return fault.Wrap(fault.Stop, hint, err)
}
