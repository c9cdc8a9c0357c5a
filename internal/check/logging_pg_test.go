package check_test

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// A server that would log what the bridge writes is named with the setting, and
// what the finding says mends it.
func TestRun_Logging(t *testing.T) {
	t.Parallel()
	p := newPair(t, unchanging(t), "logging")
	admin := p.cluster.URL(p.target)
	for _, tt := range []struct{ set, says string }{
		{"log_statement = 'mod'", "log_statement = mod"},
		{"log_min_duration_statement = 250", "log_min_duration_statement = 250ms"},
		{"log_min_duration_sample = 0", "log_min_duration_sample = 0"},
		{"log_transaction_sample_rate = 0.5", "log_transaction_sample_rate = 0.5"},
		{"log_parameter_max_length_on_error = -1", "log_parameter_max_length_on_error = -1"},
		{"log_statement = 'ddl'", ""},
		{"log_duration = on", ""},
	} {
		pgtest.Exec(t, admin, "ALTER DATABASE logging_source SET "+tt.set, "ALTER DATABASE logging_target SET "+tt.set)
		r := p.check(t)
		if tt.says == "" {
			if list := others(r); list != nil {
				t.Errorf("%s: found %q", tt.set, list)
			}
		} else {
			for _, part := range []check.Part{check.Source, check.Target} {
				if f := one(t, r, part, "logging"); f.Severity != check.Warning || !strings.HasSuffix(f.What, tt.says) {
					t.Errorf("%s: %+v", tt.set, f)
				}
			}
			fix := strings.TrimPrefix(one(t, r, check.Target, "logging").Fix, "as a superuser: ")
			pgtest.Exec(t, admin, fix)
			if list := others(p.check(t)); list != nil {
				t.Errorf("%s: still found %q after %s", tt.set, list, fix)
			}
		}
		pgtest.Exec(t, admin, "ALTER DATABASE logging_source RESET ALL", "ALTER DATABASE logging_target RESET ALL", "ALTER ROLE postgres RESET ALL")
	}
}
