package compose

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
)

// ask asks a container's bridge how it is, over the port that is published.
func (s *stack) ask(container string) (status.Snapshot, error) {
	out, err := docker.run(s.t.Context(), "port", container, "8787/tcp")
	if err != nil {
		return status.Snapshot{}, err
	}
	addr, _, _ := strings.Cut(out, "\n")
	return web.Ask(s.t.Context(), "http://"+addr)
}

// leader is the bridge's container that follows the source, and what it says.
func (s *stack) leader() (string, status.Snapshot, error) {
	var errs []error
	for _, c := range s.service("bridge") {
		n, err := s.ask(c)
		switch {
		case err != nil:
			errs = append(errs, err)
		case n.State == status.Streaming:
			return c, n, nil
		default:
			errs = append(errs, fmt.Errorf("bridge %.12s is %s (%v)", c, n.State, n.LastError))
		}
	}
	return "", status.Snapshot{}, errors.Join(append(errs, errors.New("no bridge streams"))...)
}

// waitState waits until a container's bridge is in a state.
func (s *stack) waitState(container string, want status.Phase) {
	s.t.Helper()
	pgtest.Eventually(s.t, "the bridge to be "+string(want), bound, func() error {
		n, err := s.ask(container)
		if err == nil && n.State != want {
			err = fmt.Errorf("it is %s (%v)", n.State, n.LastError)
		}
		return err
	})
}

// waitWork waits until the application has written something more. The source may
// be on its way back meanwhile.
func (s *stack) waitWork() {
	s.t.Helper()
	newest := func() (id int64, err error) {
		conn, err := pgx.Connect(s.t.Context(), s.source)
		if err != nil {
			return 0, err
		}
		defer conn.Close(context.WithoutCancel(s.t.Context()))
		err = conn.QueryRow(s.t.Context(), `SELECT coalesce(max(id), 0) FROM conversations_message`).Scan(&id)
		return id, err
	}
	before := int64(-1)
	pgtest.Eventually(s.t, "the application to write", bound, func() error {
		id, err := newest()
		switch {
		case err != nil:
			return err
		case before < 0:
			before = id
		case id > before:
			return nil
		}
		return errors.New("no new message")
	})
}

// requireEqual stops the application, waits until the target has all that it wrote,
// compares both sides, and starts it again.
func (s *stack) requireEqual() {
	s.t.Helper()
	for _, c := range s.service("app") {
		s.docker("stop", "--time", "30", c)
	}
	lsn, err := pglogrepl.ParseLSN(pgtest.QueryValue(s.t, s.source, `SELECT pg_current_wal_flush_lsn()`))
	if err != nil {
		s.t.Fatal(err)
	}
	pgtest.Eventually(s.t, "the target to catch up", bound, func() error {
		_, n, err := s.leader()
		if err == nil && (n.LagBytes != 0 || n.Source < lsn) {
			err = fmt.Errorf("it is at %s of %s", n.Checkpoint, lsn)
		}
		return err
	})
	text, err := configs.Read(configs.Default)
	if err != nil {
		s.t.Fatal(err)
	}
	f, err := mapping.Parse(configs.Default, text)
	if err != nil {
		s.t.Fatal(err)
	}
	rows, entries, err := demo.Compare(s.t.Context(), f, s.source, s.target, verify.Options{Keys: 5})
	if err != nil {
		s.t.Fatal(err)
	}
	switch total := rows.Total(); {
	case !rows.Equal() || total.Foreign > 0:
		s.t.Errorf("the target differs from the source:\n%s", rows)
	case total.Equal == 0:
		s.t.Errorf("the comparison proves nothing:\n%s", rows)
	}
	if entries == nil || !entries.OK() {
		s.t.Errorf("the audit log is not whole: %s", entries)
	}
	for _, c := range s.service("app") {
		s.docker("start", c)
	}
}
