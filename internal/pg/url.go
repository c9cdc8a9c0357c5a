package pg

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	neturl "net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
)

// Endpoint is where a URL leads: what may be shown of it.
type Endpoint struct {
	Host     string
	Port     uint16
	Database string
	User     string
	// TLS is how far the connection is protected.
	TLS TLS
	// Warnings are for the operator.
	Warnings []Warning
}

// Warning is something questionable about a URL, and what to do about it.
type Warning struct{ What, Fix string }

func (w Warning) String() string { return w.What + ": " + w.Fix }

// RefusedError says that a URL can be read, but that the bridge doesn't go where
// it leads: to a pooler that can't serve it, or out over the network in plain
// text.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

func refuse(hint, format string, args ...any) error {
	return fault.Wrap(fault.Config, hint, &RefusedError{fmt.Sprintf(format, args...)})
}

// Address returns host:port, or the directory of a unix socket.
func (e Endpoint) Address() string {
	if strings.HasPrefix(e.Host, "/") {
		return e.Host
	}
	return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
}

// Inspect checks a URL without connecting. Its errors are of class fault.Config
// and never contain the URL.
func Inspect(url string, opts Options) (Endpoint, error) {
	_, end, err := parse(url, opts)
	return end, err
}

const urlForm = "postgres://user:password@host:5432/database"

// schemes that Django's URL helpers accept for PostgreSQL, so that DATABASE_URL
// can be given as it is.
var schemes = map[string]bool{
	"postgres": true, "postgresql": true, "psql": true, "pgsql": true, "postgis": true, "postgres+psycopg": true,
}

// foreign are URL parameters of Django's URL helpers and of client libraries.
// The server would refuse them as settings that it doesn't know.
var foreign = map[string]bool{
	"conn_max_age": true, "conn_health_checks": true, "atomic_requests": true, "autocommit": true,
	"disable_server_side_cursors": true, "ssl_require": true, "engine": true, "test_name": true,
	"pgbouncer": true, "connection_limit": true, "pool_timeout": true, "schema": true, "sslcompression": true,
}

func badURL(format string, args ...any) error {
	return fault.Errorf(fault.Config, "the form is "+urlForm, format, args...)
}

// parse reads a URL and applies everything that both kinds of session share.
func parse(url string, opts Options) (*pgx.ConnConfig, Endpoint, error) {
	clean, timeout, err := normalize(url)
	if err != nil {
		return nil, Endpoint{}, fmt.Errorf("read %s URL: %w", opts.Side, err)
	}
	cfg, err := pgx.ParseConfig(clean)
	if err != nil {
		// The driver quotes the URL, masking what it takes for the password. A
		// guess is not enough here; only a file that can't be read is passed on.
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, Endpoint{}, fmt.Errorf("read %s URL: %w", opts.Side, badURL("%v", path))
		}
		return nil, Endpoint{}, fmt.Errorf("read %s URL: %w", opts.Side,
			badURL("not a PostgreSQL URL: check host, port and parameters, and percent-encode special characters of the password"))
	}
	end := Endpoint{Host: cfg.Host, Port: cfg.Port, Database: cfg.Database, User: cfg.User}
	if err := checkPooler(&end, opts.Side); err != nil {
		return nil, Endpoint{}, err
	}
	if err := checkTLS(cfg, &end, opts); err != nil {
		return nil, Endpoint{}, err
	}

	if timeout == 0 {
		timeout = opts.ConnectTimeout
	}
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	cfg.ConnectTimeout = timeout
	cfg.DialFunc = pgconn.DialFunc(dial(timeout))
	if opts.DialFunc != nil {
		cfg.DialFunc = opts.DialFunc
	}
	cfg.OnNotice = opts.OnNotice
	cfg.RuntimeParams["application_name"] = "walbridge"
	if opts.Application != "" {
		cfg.RuntimeParams["application_name"] = opts.Application
	}
	return cfg, end, nil
}

// normalize checks a URL's form and leaves out what only other clients know. It
// returns the connect_timeout that the URL gives, or 0.
func normalize(url string) (clean string, timeout time.Duration, err error) {
	url = strings.TrimSpace(url)
	scheme, rest, ok := strings.Cut(url, "://")
	switch {
	case url == "":
		return "", 0, badURL("it is empty")
	case !ok:
		return "", 0, badURL("it has no scheme")
	case strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"):
		return "", 0, badURL("it is an address of the API, not of the database")
	case !schemes[strings.ToLower(scheme)]:
		// The scheme isn't shown: of a malformed URL it may hold anything.
		return "", 0, badURL("its scheme is not postgres://")
	}
	// url.Parse refuses what the driver would read as something else: a
	// password with '/', '?', '#' or '@' turns into a host or a path.
	u, err := neturl.Parse("postgres://" + rest)
	if err != nil || strings.Contains(u.Host, "@") {
		return "", 0, badURL("host, port or password can't be told apart: percent-encode special characters of the password (@ is %%40, / is %%2F, # is %%23)")
	}
	query := u.Query()
	for name := range query {
		if foreign[strings.ToLower(name)] {
			query.Del(name)
		}
	}
	if s := query.Get("connect_timeout"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return "", 0, badURL("connect_timeout is no number of seconds")
		}
		timeout = time.Duration(n) * time.Second
	}
	if u.Host == "" && query.Get("host") == "" {
		return "", 0, badURL("it has no host")
	}
	if strings.Trim(u.Path, "/") == "" && query.Get("dbname") == "" && query.Get("database") == "" {
		return "", 0, badURL("it has no database")
	}
	u.RawQuery = query.Encode()
	u.Fragment = ""
	return u.String(), timeout, nil
}

// checkPooler recognises poolers by where they live. The host of Supabase's is
// sure; a port alone is a guess and only warned about.
func checkPooler(end *Endpoint, side Side) error {
	supabase := strings.HasSuffix(strings.ToLower(end.Host), "pooler.supabase.com")
	transaction := end.Port == 6543 || end.Port == 6432
	switch {
	case side == Source && supabase:
		return refuse(
			"use the direct connection: postgres://postgres:password@db.<project>.supabase.co:5432/postgres",
			"source URL leads to Supabase's pooler, which doesn't pass replication on")
	case side == Target && supabase && end.Port == 6543:
		return refuse(
			"use port 5432 of the same host (session pooler), or the direct connection",
			"target URL leads to Supabase's transaction pooler, where sessions don't keep their settings")
	case side == Source && transaction:
		end.Warnings = append(end.Warnings, Warning{
			fmt.Sprintf("port %d is usual for a pooler, and poolers don't pass replication on", end.Port),
			"the source URL must lead to PostgreSQL itself",
		})
	case side == Target && transaction:
		end.Warnings = append(end.Warnings, Warning{
			fmt.Sprintf("port %d is usual for a transaction pooler, where sessions don't keep their settings", end.Port),
			"the target URL must lead to PostgreSQL itself or to a session pooler",
		})
	}
	return nil
}

// Redact returns url without passwords, for messages: scheme, user, host, port
// and database. What can't be read is "(unreadable URL)".
func Redact(url string) string {
	clean, _, err := normalize(url)
	if err != nil {
		return "(unreadable URL)"
	}
	u, err := neturl.Parse(clean)
	if err != nil {
		return "(unreadable URL)"
	}
	out := neturl.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.User != nil && u.User.Username() != "" {
		out.User = neturl.User(u.User.Username())
	}
	if host := u.Query().Get("host"); u.Host == "" {
		out.RawQuery = "host=" + host
	}
	return out.String()
}

// private reports a host that is not reached over a public network: an address
// of this machine or of a private range, or a name without a dot or under a
// suffix that only private name servers answer.
func private(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || Loopback(host) {
		return true
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsPrivate() || addr.IsLinkLocalUnicast()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, suffix := range []string{".internal", ".local", ".lan", ".home.arpa", ".svc"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return !strings.Contains(host, ".")
}

// Loopback reports a host name or address that is this machine's alone.
func Loopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost")
}
