package schema

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/supabase"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
)

// aboutOwner is said at the end of scripts for the API.
const aboutOwner = "Run it as the role that owns the tables (in the SQL editor that is postgres): the function writes with\nits owner's rights, and row security doesn't bind the owner."

// API makes the script for a target that the bridge reaches over Supabase's API.
// target is a connection of somebody who may make all this; if it is nil, nothing is
// known of the target, and the readers' side is left out.
func API(ctx context.Context, source, target *pgx.Conn, opts postgres.Options, o Options) (*Script, error) {
	m, _, err := compile(ctx, o, source, target)
	if err != nil {
		return nil, err
	}
	s := &Script{Side: pg.Target, Role: rest.ServiceRole, Database: "postgres", Closing: []string{aboutOwner}}
	if target == nil {
		s.Statements = rest.Script(o.Name, postgres.BlindAPIScript(o.Name, m.Schema), check.Statements()...)
		s.Notes = []string{"Nobody has looked at the target for this. Tables that are there keep their columns, their rights and their\nrow security. The SQL for the API's users (policies, views, Realtime) comes with a database connection:\nwalbridge schema target --admin-url-file FILE"}
		return s, nil
	}
	s.Database = target.Config().Database
	a, err := postgres.NewAPIScript(ctx, opts, m.Schema)
	if err != nil {
		return nil, err
	}
	readers, err := supabase.New(ctx, target, m, o.Name)
	if err != nil {
		return nil, err
	}
	s.Statements = append(rest.Script(o.Name, a, check.Statements()...), readers.Statements...)
	s.Notes = readers.Notes
	return s, nil
}
