package postgrest

import "github.com/walbridge/walbridge/internal/pgtest"

// Start serves database db of cluster on a loopback port until the test ends, with
// roles as in Roles. url is what SUPABASE_URL would be.
func Start(tb pgtest.TB, cluster *pgtest.Cluster, db string, opts Options) (s *Server, url string) {
	tb.Helper()
	pgtest.Exec(tb, cluster.URL(db), Roles)
	if opts.URL == "" {
		opts.URL = cluster.URLAs("authenticator", "", db)
	}
	if opts.Secret == "" {
		opts.Secret = "a secret of at least 32 characters, for tests"
	}
	s = New(opts)
	url, err := s.Listen()
	if err != nil {
		tb.Fatalf("start the stand-in for PostgREST: %v", err)
	}
	tb.Cleanup(s.Close)
	return s, url
}
