package postgrest

import "github.com/walbridge/walbridge/internal/pgtest"

// Owner is the role of a project that stands for Supabase's postgres: no superuser,
// but the owner of the database and of what is made in public.
const Owner = "project"

// project is what a new project has beside Roles.
const project = `
CREATE ROLE supabase_auth_admin LOGIN NOINHERIT;
CREATE ROLE project LOGIN CREATEROLE REPLICATION BYPASSRLS;
GRANT anon, authenticated, service_role TO project;`

// Project starts a cluster with a database like a new Supabase project's, and
// returns it with the URL of its owner.
func Project(tb pgtest.TB, opts ...pgtest.Option) (c *pgtest.Cluster, owner string) {
	tb.Helper()
	c = pgtest.Start(tb, opts...)
	pgtest.Exec(tb, c.URL("postgres"), Roles, project, "CREATE DATABASE project OWNER project")
	pgtest.Exec(tb, c.URL("project"), Roles, `ALTER SCHEMA public OWNER TO project;
		REVOKE CREATE ON SCHEMA public FROM PUBLIC;
		CREATE PUBLICATION supabase_realtime;
		ALTER PUBLICATION supabase_realtime OWNER TO project;
		ALTER DEFAULT PRIVILEGES FOR ROLE project IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
		ALTER DEFAULT PRIVILEGES FOR ROLE project IN SCHEMA public GRANT ALL ON ROUTINES TO anon, authenticated, service_role;
		ALTER DEFAULT PRIVILEGES FOR ROLE project IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role`)
	return c, c.URLAs(Owner, "", "project")
}
