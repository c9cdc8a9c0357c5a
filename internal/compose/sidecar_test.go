package compose

import (
	"fmt"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// The bridge joins a stack that is there by a second file: what is written before
// and after arrives, and nothing of the stack is made anew.
func TestSidecar(t *testing.T) {
	s := newStack(t, "sidecar", "testdata/existing/docker-compose.yml")
	s.up()
	s.waitHealthy("source", "target")
	before := s.one("source")
	contact := func(id int) {
		pgtest.Exec(t, s.source, fmt.Sprintf(`INSERT INTO conversations_contact
			(id, name, phone, additional_attributes, created_at, updated_at, provedor_id) VALUES (%d, 'n', '%[1]d', '{}', now(), now(), 7)`, id))
	}
	pgtest.Exec(t, s.source, `INSERT INTO core_provedor (id, nome, created_at, updated_at, is_active) VALUES (7, 'n', now(), now(), true)`)
	contact(1)

	sidecar := s.with(root + "/docker-compose.sidecar.yml")
	sidecar.env = append(sidecar.env, "WALBRIDGE_SOURCE_URL_FILE="+s.secrets+"/source_url", "WALBRIDGE_TARGET_URL_FILE="+s.secrets+"/target_url")
	sidecar.up("--no-deps", "walbridge")
	if s.one("source") != before {
		t.Error("the sidecar has replaced the database's container")
	}
	s.waitHealthy("walbridge")
	contact(2)
	pgtest.Eventually(t, "both contacts at the target", bound, func() error {
		got := pgtest.QueryValue(t, s.target, `SELECT coalesce(to_regclass('public.contacts')::text, '')`)
		if got != "" {
			got = pgtest.QueryValue(t, s.target, `SELECT coalesce(string_agg(id || ':' || provedor_id, ' ' ORDER BY id), '') FROM contacts`)
		}
		if want := "1:7 2:7"; got != want {
			return fmt.Errorf("it has %q, want %q", got, want)
		}
		return nil
	})
	// The project is taken away by the files that it was made of.
	s.files, s.env = sidecar.files, sidecar.env
}

// What the sidecar lacks is said at once, with what to set.
func TestSidecar_MissingEnvironment(t *testing.T) {
	s := newStack(t, "missing", "testdata/existing/docker-compose.yml")
	_, err := s.with(root+"/docker-compose.sidecar.yml").compose("config", "--quiet")
	requireText(t, err, "WALBRIDGE_SOURCE_URL_FILE", "export it as the path of a file with postgres://user:password@db:5432/niochat")
}
