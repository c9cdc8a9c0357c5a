package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/supabase"
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
	readers, err := supabase.New(ctx, target, m, o.Name)
	if err != nil {
		return nil, err
	}
	s.Statements = append(append(s.Statements, statements...), readers.Statements...)
	s.Notes = append(notes, readers.Notes...)
	s.Closing = []string{s.password()}
	if readers.API {
		s.Closing = append(s.Closing, fmt.Sprintf("Over Supabase's session pooler the user is %s.<project>.", o.Role),
			"Users of the API read the rows of the tenant that their token names, in app_metadata or by the access token\nhook walbridge_api.access_token_hook: docs/supabase.md says how to give them one.")
	}
	return s, nil
}
