package pg_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, url string
		opts      pg.Options
		want      pg.Endpoint // Warnings are counted only
		warnings  int
		err       string // part of the error, if any
	}{
		{name: "django", url: "postgres://app:hunter@127.0.0.1:5432/niochat",
			want: pg.Endpoint{Host: "127.0.0.1", Port: 5432, Database: "niochat", User: "app", TLS: pg.Local}},
		{name: "postgis scheme and django parameters", url: "postgis://app:hunter@localhost/niochat?conn_max_age=600",
			want: pg.Endpoint{Host: "localhost", Port: 5432, Database: "niochat", User: "app", TLS: pg.Local}},
		{name: "unix socket", url: "postgres://app@/niochat?host=/run/postgresql",
			want: pg.Endpoint{Host: "/run/postgresql", Port: 5432, Database: "niochat", User: "app", TLS: pg.Local}},
		{name: "compose service", url: "postgres://app:hunter@db/niochat",
			want:     pg.Endpoint{Host: "db", Port: 5432, Database: "niochat", User: "app", TLS: pg.Plain},
			warnings: 1},
		{name: "compose service, trusted", url: "postgres://app:hunter@db/niochat", opts: pg.Options{InsecureTLS: true},
			want: pg.Endpoint{Host: "db", Port: 5432, Database: "niochat", User: "app", TLS: pg.Plain}},
		{name: "public source", url: "postgres://app:hunter@db.example.com/niochat?sslmode=disable",
			want:     pg.Endpoint{Host: "db.example.com", Port: 5432, Database: "niochat", User: "app", TLS: pg.Plain},
			warnings: 1},
		{name: "verified source", url: "postgres://app:hunter@db.example.com/niochat?sslmode=verify-full",
			want: pg.Endpoint{Host: "db.example.com", Port: 5432, Database: "niochat", User: "app", TLS: pg.VerifiedHost}},
		{name: "system roots", url: "postgres://app:hunter@db.example.com/niochat?sslrootcert=system",
			want: pg.Endpoint{Host: "db.example.com", Port: 5432, Database: "niochat", User: "app", TLS: pg.VerifiedHost}},

		{name: "target without sslmode gets no plain-text fallback", opts: pg.Options{Side: pg.Target},
			url:      "postgresql://postgres.ref:hunter@aws-0-sa-east-1.pooler.supabase.com:5432/postgres",
			want:     pg.Endpoint{Host: "aws-0-sa-east-1.pooler.supabase.com", Port: 5432, Database: "postgres", User: "postgres.ref", TLS: pg.Encrypted},
			warnings: 1},
		{name: "target in plain text", opts: pg.Options{Side: pg.Target},
			url: "postgres://postgres:hunter@db.ref.supabase.co/postgres?sslmode=disable", err: "in plain text"},
		{name: "target that may be plain text", opts: pg.Options{Side: pg.Target},
			url: "postgres://postgres:hunter@db.ref.supabase.co/postgres?sslmode=allow", err: "in plain text"},
		{name: "target in plain text, trusted", opts: pg.Options{Side: pg.Target, InsecureTLS: true},
			url:  "postgres://postgres:hunter@db.ref.supabase.co/postgres?sslmode=disable",
			want: pg.Endpoint{Host: "db.ref.supabase.co", Port: 5432, Database: "postgres", User: "postgres", TLS: pg.Plain}},
		{name: "target in a private network", opts: pg.Options{Side: pg.Target},
			url:      "postgres://postgres:hunter@10.0.0.7/postgres?sslmode=disable",
			want:     pg.Endpoint{Host: "10.0.0.7", Port: 5432, Database: "postgres", User: "postgres", TLS: pg.Plain},
			warnings: 1},
		{name: "the second host counts, too", opts: pg.Options{Side: pg.Target},
			url:      "postgres://postgres:hunter@localhost:5432,10.0.0.7:5432/postgres",
			want:     pg.Endpoint{Host: "localhost", Port: 5432, Database: "postgres", User: "postgres", TLS: pg.Plain},
			warnings: 1},

		{name: "source through supabase's pooler", url: "postgres://postgres.ref:hunter@aws-0-eu.pooler.supabase.com:5432/postgres",
			err: "doesn't pass replication on"},
		{name: "source at a pooler's port", url: "postgres://app:hunter@127.0.0.1:6432/niochat",
			want:     pg.Endpoint{Host: "127.0.0.1", Port: 6432, Database: "niochat", User: "app", TLS: pg.Local},
			warnings: 1},
		{name: "target through the transaction pooler", opts: pg.Options{Side: pg.Target},
			url: "postgres://postgres.ref:hunter@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true", err: "transaction pooler"},

		{name: "empty", url: " ", err: "it is empty"},
		{name: "no scheme", url: "app:hunter@127.0.0.1/niochat", err: "it has no scheme"},
		{name: "keyword form", url: "host=127.0.0.1 password=hunter", err: "it has no scheme"},
		{name: "another scheme", url: "mysql://app:hunter@127.0.0.1/niochat", err: "its scheme is not postgres://"},
		{name: "the API's address", url: "https://hunter.supabase.co", err: "it is an address of the API"},
		{name: "no host", url: "postgres:///niochat", err: "it has no host"},
		{name: "no database", url: "postgres://app:hunter@127.0.0.1/", err: "it has no database"},
		{name: "no port number", url: "postgres://app:hunter@127.0.0.1:abc/niochat", err: "can't be told apart"},
		{name: "password with @ and #", url: "postgres://app:hun#ter@127.0.0.1/niochat", err: "can't be told apart"},
		{name: "password with /", url: "postgres://app:hunter/2@127.0.0.1/niochat", err: "can't be told apart"},
		{name: "sslmode", url: "postgres://app:hunter@db/niochat?sslmode=always", err: "not a PostgreSQL URL"},
		{name: "timeout", url: "postgres://app:hunter@db/niochat?connect_timeout=hunter", err: "connect_timeout"},
		{name: "no such certificate", url: "postgres://app:hunter@db/niochat?sslmode=verify-full&sslrootcert=/nowhere/ca.crt", err: "/nowhere/ca.crt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := pg.Inspect(tt.url, tt.opts)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("Inspect() error = %v, want one with %q", err, tt.err)
				}
				if class := fault.ClassOf(err); class != fault.Config {
					t.Errorf("class = %s, want config", class)
				}
				if fault.HintOf(err) == "" {
					t.Error("the error has no hint")
				}
				if strings.Contains(err.Error()+fault.HintOf(err), "hun") {
					t.Errorf("the error shows the password: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("Inspect() error = %v", err)
			}
			if len(got.Warnings) != tt.warnings {
				t.Errorf("warnings = %q, want %d", got.Warnings, tt.warnings)
			}
			got.Warnings = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Inspect() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	tests := []struct{ url, want string }{
		{"postgres://app:hunter@db:5433/niochat?sslmode=require&password=hunter", "postgres://app@db:5433/niochat"},
		{"postgresql://db/niochat", "postgres://db/niochat"},
		{"postgres://app:hunter@/niochat?host=/run/postgresql&password=hunter", "postgres://app@/niochat?host=/run/postgresql"},
		{"postgres://app:hun/ter@db/niochat", "(unreadable URL)"},
		{"hunter", "(unreadable URL)"},
	}
	for _, tt := range tests {
		if got := pg.Redact(tt.url); got != tt.want {
			t.Errorf("Redact(%q) = %q, want %q", tt.url, got, tt.want)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	if got, want := pg.Quote("public", `a"b; --`), `"public"."a""b; --"`; got != want {
		t.Errorf("Quote() = %s, want %s", got, want)
	}
	if got, want := pg.QuoteLiteral("it's \\ a\x00b"), `'it''s \ ab'`; got != want {
		t.Errorf("QuoteLiteral() = %s, want %s", got, want)
	}
}

// FuzzInspect holds that no error about a URL shows its password.
func FuzzInspect(f *testing.F) {
	for _, url := range []string{
		"postgres://app:%s@db/niochat", "postgres://app:%s/x@db/niochat", "postgres://app@%s:5432/db?password=%s",
		"%s", "postgres://%s", "postgres://a:%s@b@c:x/d", "host=a password=%s", "postgres://a:b@c/d?sslmode=%s&sslrootcert=",
	} {
		f.Add(url)
	}
	const password = "hunter2hunter2"
	f.Fuzz(func(t *testing.T, form string) {
		if strings.Contains(form, "sslrootcert") || strings.Contains(form, "sslkey") || strings.Contains(form, "sslcert") || strings.Contains(form, "service") {
			t.Skip("names of files are shown")
		}
		url := strings.ReplaceAll(form, "%s", password)
		for _, side := range []pg.Side{pg.Source, pg.Target} {
			end, err := pg.Inspect(url, pg.Options{Side: side})
			if err != nil && strings.Contains(err.Error(), password) && end.Host == "" && !strings.Contains(err.Error(), "plain text to") {
				t.Errorf("Inspect(%q) shows the password: %v", url, err)
			}
		}
	})
}
