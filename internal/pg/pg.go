// Package pg connects to PostgreSQL the way every part of the bridge relies on:
// with pinned session settings, so that values travel as the same text whatever
// a role or a database has configured; with keepalives, so that a dead peer is
// noticed; and with errors that can be printed, because the server's own carry
// rows.
package pg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
)

// Side says which end of the bridge a connection leads to.
type Side uint8

const (
	// Source is the application's database. Its settings are pinned in the
	// startup packet: a walsender formats values under the settings that it
	// starts with and takes no SET that would help.
	Source Side = iota
	// Target is the Supabase database. Its settings are pinned by SET after
	// connecting, because poolers refuse startup parameters that they don't know.
	Target
)

func (s Side) String() string {
	if s == Target {
		return "target"
	}
	return "source"
}

// Options are what a connection needs beside its URL. The zero value is good for
// the source.
type Options struct {
	Side Side
	// Application is the application_name, "walbridge" if empty.
	Application string
	// Settings are pinned on top of the usual ones, for instance search_path.
	Settings map[string]string
	// ConnectTimeout bounds the connecting to one address. 10 s if zero;
	// connect_timeout in the URL goes before it.
	ConnectTimeout time.Duration
	// InsecureTLS says that the network is trusted: no warning, and no refusal
	// of a plain-text target.
	InsecureTLS bool
	// OnNotice gets the server's notices. PostgreSQL 18 reports a missing
	// publication as one and goes on without the changes.
	OnNotice pgconn.NoticeHandler
	// DialFunc replaces the dialer, for tests that cut the wire.
	DialFunc pgconn.DialFunc
}

// pinned are the settings that the text of values depends on, or that decide
// whether statements mean what they say. Without them ALTER DATABASE … SET
// datestyle turns 4 March into 3 April without an error.
var pinned = map[string]string{
	"client_encoding":    "UTF8",
	"datestyle":          "ISO",
	"intervalstyle":      "postgres",
	"extra_float_digits": "3",
	"timezone":           "UTC",
	"bytea_output":       "hex",
	// Amounts of money are read and written in the currency's own decimals.
	"lc_monetary": "C",
	// Without array_nulls the array {NULL} is one of the text NULL, and under
	// xmloption = document a fragment of XML is no value (8.14.1.5, 19.13.1).
	"array_nulls": "on",
	"xmloption":   "content",
	// It changes the text of regtype and its like.
	"quote_all_identifiers":         "off",
	"default_transaction_read_only": "off",
	// QuoteLiteral relies on it.
	"standard_conforming_strings": "on",
	// The peer, too, has to notice that we are gone: a half-open session would
	// keep the slot, or the lock on the checkpoint, for two hours.
	"tcp_keepalives_idle":     "15",
	"tcp_keepalives_interval": "5",
	"tcp_keepalives_count":    "4",
	"tcp_user_timeout":        "30000",
}

// onlySource: with row security on, a copy by a role that is subject to it reads
// nothing and reports no error. With it off, the server refuses instead. All SQL
// that the bridge runs here is its own and fully qualified.
var onlySource = map[string]string{
	"row_security": "off",
	"search_path":  "pg_catalog",
}

// onlyTarget: what has been confirmed to the source must survive a crash of the
// target, whatever its database says. The search path is left alone, because
// triggers that the target's owner wrote may depend on it; the bridge's own SQL
// is fully qualified.
var onlyTarget = map[string]string{
	"synchronous_commit": "on",
}

// settings merges what is pinned for one connection.
func (o Options) settings() map[string]string {
	all := maps.Clone(pinned)
	if o.Side == Target {
		maps.Copy(all, onlyTarget)
	} else {
		maps.Copy(all, onlySource)
	}
	maps.Copy(all, o.Settings)
	return all
}

// Connect opens an ordinary session. Its errors are safe to print and carry a
// class and a hint (package fault).
func Connect(ctx context.Context, url string, opts Options) (*pgx.Conn, error) {
	cfg, end, err := parse(url, opts)
	if err != nil {
		return nil, err
	}
	if opts.Side == Target {
		set := setStatements(opts.settings())
		cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			_, err := conn.Exec(ctx, set).ReadAll()
			return err
		}
		// A statement that was prepared under a name isn't there any more when a
		// pooler gives the next transaction another session.
		if cfg.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
			cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
	} else {
		maps.Copy(cfg.RuntimeParams, opts.settings())
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(opts.Side, end, err)
	}
	return conn, nil
}

// ConnectReplication opens a walsender session on the source
// (replication=database, protocol-replication). It speaks the simple query
// protocol only.
func ConnectReplication(ctx context.Context, url string, opts Options) (*pgconn.PgConn, error) {
	opts.Side = Source
	cfg, end, err := parse(url, opts)
	if err != nil {
		return nil, err
	}
	maps.Copy(cfg.RuntimeParams, opts.settings())
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		safe := connectError(opts.Side, end, err)
		if Code(err) == "42501" {
			return nil, fault.Wrap(fault.Stop, fmt.Sprintf("as a superuser: ALTER ROLE %s REPLICATION; (managed services have their own way, as GRANT rds_replication)", Quote(end.User)), safe)
		}
		return nil, safe
	}
	return conn, nil
}

// setStatements renders settings as one simple query, so that pinning costs one
// round trip.
func setStatements(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := QuoteLiteral(settings[name])
		if name == "search_path" {
			value = settings[name] // a list of identifiers, not one literal
		}
		fmt.Fprintf(&b, "SET %s = %s;", Quote(name), value)
	}
	return b.String()
}

// Quote returns a name, qualified if it has several parts, quoted for SQL.
func Quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// QuoteLiteral returns s as an SQL string literal. It needs
// standard_conforming_strings=on, which every session here has; replication
// commands know no other kind of literal.
func QuoteLiteral(s string) string {
	s = strings.ReplaceAll(s, "\x00", "") // no text of PostgreSQL holds one
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
