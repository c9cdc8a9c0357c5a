package check

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/replicator"
)

func settingsCheck(_ context.Context, e *Env) (found []Finding, err error) {
	for _, text := range e.Warnings {
		found = append(found, Finding{Severity: Warning, What: text, Fix: "docs/configuration.md lists every setting"})
	}
	return found, nil
}

// urlCheck looks at where a URL leads, before anybody goes there: poolers, and
// how far the connection is protected.
func urlCheck(of func(*Env) *side) func(context.Context, *Env) ([]Finding, error) {
	return func(_ context.Context, e *Env) (found []Finding, err error) {
		end, err := pg.Inspect(of(e).url, of(e).opts)
		if err != nil {
			return nil, err
		}
		for _, w := range end.Warnings {
			found = append(found, Finding{Severity: Warning, What: w.What, Fix: w.Fix})
		}
		return found, nil
	}
}

// connectCheck opens the session that the other checks of a side use.
func connectCheck(of func(*Env) *side) func(context.Context, *Env) ([]Finding, error) {
	return func(ctx context.Context, e *Env) (found []Finding, err error) {
		s := of(e)
		end, err := pg.Inspect(s.url, s.opts)
		if err != nil {
			return nil, unmadeError("the URL is refused")
		}
		if err := s.connect(ctx); err != nil {
			return nil, err
		}
		server, err := s.identify(ctx)
		if err != nil {
			return nil, err
		}
		return []Finding{{Severity: Info, What: fmt.Sprintf("%s at %s, as %s (%s)", server, end.Address(), s.role, end.TLS)}}, nil
	}
}

const selectIdentity = "SELECT current_setting('server_version'), current_database()::text, current_user::text, session_user::text"

// identify finds out whom statements run as, and describes the server.
func (s *side) identify(ctx context.Context) (string, error) {
	is, err := pg.Ask(s.ask).One(ctx, selectIdentity)
	if err != nil {
		return "", fmt.Errorf("read version: %w", pg.Safe(err))
	}
	s.role, s.login = is[2], is[3]
	return fmt.Sprintf("PostgreSQL %s, database %s", is[0], is[1]), nil
}

// streamCheck opens a replication connection as the bridge would. Poolers, and
// access rules, may refuse it where they let an ordinary session in.
func streamCheck(ctx context.Context, e *Env) ([]Finding, error) {
	if len(e.gated("replication")) > 0 {
		return nil, unmadeError("the role may not replicate")
	}
	stream, err := replicator.OpenStream(ctx, replicator.StreamConfig{
		URL: e.SourceURL, Name: e.source.opts.Application, Slot: e.Name, Publication: e.Name,
		InsecureTLS: e.source.opts.InsecureTLS,
	}, discard)
	if err != nil {
		f := failed(err)
		f.Why = "Changes come over a replication connection, and over nothing else."
		if f.Fix == "" {
			f.Fix = "the source URL must lead to PostgreSQL itself, and pg_hba.conf must let the role in from here"
		}
		return []Finding{f}, nil
	}
	defer func() { _ = stream.Close() }()
	system, err := stream.Identify(ctx)
	if err != nil {
		return nil, err
	}
	e.system = &system
	return nil, nil
}

const selectStandby = "SELECT pg_catalog.pg_is_in_recovery()"

// standbyCheck: a standby takes no writes. The source's is among gateChecks.
func standbyCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	standby, err := pg.Ask(e.target.ask).One(ctx, selectStandby)
	if err != nil {
		return nil, fmt.Errorf("look whether it is a standby: %w", err)
	}
	if standby[0] == "t" {
		found = append(found, Finding{Severity: Error, What: "the target is a standby", Why: "A standby takes no writes.",
			Fix: "give the URL of the primary"})
	}
	return found, nil
}

const selectEncoding = "SELECT pg_catalog.current_setting('server_encoding')"

// encodingCheck: values travel as UTF-8, whatever the databases store.
func encodingCheck(of func(*Env) *side) func(context.Context, *Env) ([]Finding, error) {
	return func(ctx context.Context, e *Env) ([]Finding, error) {
		s := of(e)
		is, err := pg.Ask(s.ask).One(ctx, selectEncoding)
		if err != nil {
			return nil, fmt.Errorf("read encoding: %w", err)
		}
		encoding := is[0]
		f := Finding{Severity: Warning, What: "the database's encoding is " + encoding}
		switch {
		case encoding == "UTF8":
			return nil, nil
		case encoding == "SQL_ASCII":
			f.Why = "The server doesn't know what its bytes mean: a text that isn't valid UTF-8 can't be passed on, and its row is held."
			f.Fix = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0; and move the data there"
		case s.opts.Side == pg.Source:
			f.Severity = Info
			f.Why = "The server converts texts to UTF-8 on their way."
		default:
			f.Why = "A character that " + encoding + " doesn't have, an emoji for instance, is refused, and its row is held."
			f.Fix = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0; and use that as the target"
		}
		return []Finding{f}, nil
	}
}
