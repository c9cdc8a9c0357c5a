package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink/postgres"
)

func TestRemoveRemains(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	conn := pgtest.Connect(t, url)
	if r, err := postgres.FindRemains(t.Context(), conn, "bridge"); err != nil || r != (postgres.Remains{}) {
		t.Fatalf("FindRemains() without a private schema = %+v, %v", r, err)
	}
	s := open(t, url, "bridge")
	install(t, s, chatSchema(), false)
	cp, err := s.Acquire(t.Context(), "somebody", time.Hour, false)
	if err != nil {
		t.Fatal(err)
	}

	// A bridge may have begun since somebody looked.
	var lease *postgres.LeaseError
	if _, _, err := postgres.RemoveRemains(t.Context(), conn, "bridge"); !errors.As(err, &lease) || lease.Holder != "somebody" {
		t.Errorf("RemoveRemains() under a lease = %v", err)
	}
	if err := s.Release(t.Context(), cp.Epoch); err != nil {
		t.Fatal(err)
	}
	r, err := postgres.FindRemains(t.Context(), conn, "bridge")
	if want := (postgres.Remains{Installed: true, Rows: 1}); err != nil || r != want {
		t.Errorf("FindRemains() = %+v, %v, want %+v", r, err, want)
	}

	// A role that owns nothing there removes the rows and leaves the rest.
	pgtest.Exec(t, c.URL("postgres"), "CREATE ROLE writer LOGIN")
	pgtest.Exec(t, url, "GRANT USAGE ON SCHEMA walbridge TO writer; GRANT ALL ON ALL TABLES IN SCHEMA walbridge TO writer")
	writer := pgtest.Connect(t, strings.Replace(url, owner, "writer", 1))
	if r, gone, err := postgres.RemoveRemains(t.Context(), writer, "bridge"); err != nil || gone || r.Rows != 1 {
		t.Errorf("RemoveRemains() by another role = %+v, %t, %v", r, gone, err)
	}
	if got := pgtest.QueryValue(t, admin, "SELECT count(*) FROM walbridge.checkpoint"); got != "0" {
		t.Errorf("%s checkpoints are left", got)
	}

	if _, gone, err := postgres.RemoveRemains(t.Context(), conn, "bridge"); err != nil || !gone {
		t.Errorf("RemoveRemains() = %t, %v", gone, err)
	}
	if _, gone, err := postgres.RemoveRemains(t.Context(), conn, "bridge"); err != nil || gone {
		t.Errorf("RemoveRemains() of nothing = %t, %v", gone, err)
	}
}
