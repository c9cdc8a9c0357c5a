package check

import (
	"context"
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// loggingCheck: the bridge's statements carry rows as parameters, and keys at the
// source. Where PostgreSQL logs statements, it logs those with them (PostgreSQL
// manual, Error Reporting and Logging, log_parameter_max_length).
func loggingCheck(of func(*Env) *side) func(context.Context, *Env) ([]Finding, error) {
	return func(ctx context.Context, e *Env) ([]Finding, error) {
		s := of(e)
		logged, err := pg.Ask(s.ask).One(ctx, selectLogging)
		if err != nil {
			return nil, fmt.Errorf("read what is logged: %w", err)
		}
		settings, silenced := logged[0], logged[1] == "t"
		onError := strings.Contains(settings, "log_parameter_max_length_on_error")
		if settings == "" || silenced && !onError {
			return nil, nil
		}
		f := Finding{
			Severity: Warning, What: fmt.Sprintf("the %s logs statements with their parameters: %s", s.opts.Side, settings),
			Why: "The rows that the bridge writes would stand in the server's log, of all tenants, and stay there when they have been erased from the tables.",
			Fix: fmt.Sprintf("as a superuser: ALTER ROLE %s SET log_parameter_max_length = 0;", pg.Quote(s.login)),
		}
		if onError {
			f.Fix += fmt.Sprintf(" ALTER ROLE %s SET log_parameter_max_length_on_error = 0;", pg.Quote(s.login))
		}
		if s == e.source {
			f.Why = "The keys that the bridge asks for would stand in the server's log, and so do the values in the application's own statements."
		}
		return []Finding{f}, nil
	}
}

const selectLogging = `SELECT coalesce(pg_catalog.string_agg(pg_catalog.format('%s = %s', name, pg_catalog.current_setting(name)), ', ' ORDER BY name), ''), pg_catalog.current_setting('log_parameter_max_length') = '0'
	FROM pg_catalog.pg_settings
	WHERE name = 'log_statement' AND setting IN ('mod', 'all')
	  OR name = 'log_min_duration_statement' AND setting::int >= 0
	  OR name = 'log_min_duration_sample' AND setting::int >= 0 AND pg_catalog.current_setting('log_statement_sample_rate')::float8 > 0
	  OR name = 'log_transaction_sample_rate' AND setting::float8 > 0
	  OR name = 'log_parameter_max_length_on_error' AND setting <> '0'`
