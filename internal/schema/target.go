package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Target makes the script for the target, which opts lead to. The columns' types
// come from the source; the target may be empty.
func Target(ctx context.Context, source, target *pgx.Conn, opts postgres.Options, o Options) (*Script, error) {
	m, _, err := compile(ctx, o, source, target)
	if err != nil {
		return nil, err
	}
	// NOSUPERUSER and NOBYPASSRLS are the defaults, and on Supabase only a
	// superuser may say them.
	s, err := begin(ctx, target, pg.Target, o.Role, "LOGIN NOINHERIT",
		"The bridge's role: no superuser, subject to row security.")
	if err != nil {
		return nil, err
	}
	statements, notes, err := postgres.Script(ctx, opts, o.Role, m.Schema)
	if err != nil {
		return nil, err
	}
	s.Statements = append(s.Statements, statements...)
	s.Notes = notes
	s.Closing = []string{s.password()}
	api, err := hasAPI(ctx, target)
	if err != nil {
		return nil, err
	}
	if api {
		s.Closing = append(s.Closing, fmt.Sprintf("Over Supabase's session pooler the user is %s.<project>.", o.Role),
			"Nobody reads the tables over the API yet. Write policies for authenticated that compare the tenant\nwith a claim that users can't edit (app_metadata), and grant it SELECT.")
	}
	return s, nil
}

// hasAPI reports whether the target has the roles of Supabase's API.
func hasAPI(ctx context.Context, conn *pgx.Conn) (has bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticated')").Scan(&has)
	if err != nil {
		return false, fmt.Errorf("inspect roles: %w", pg.Safe(err))
	}
	return has, nil
}
