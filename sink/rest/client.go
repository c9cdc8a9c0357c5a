package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
)

const (
	// patience is how long a request may take: the gateway gives up after 60 s.
	patience = 70 * time.Second
	// minBody is the least bound of a request's body.
	minBody = 16 << 10
	// maxReply bounds what is read of a reply.
	maxReply = 512 << 20
	// calm is the time between two requests after an answer that only a person
	// can change, longest what a server may ask us to wait.
	calm    = 2 * time.Second
	longest = time.Minute
)

// client sends requests to the functions of one project.
type client struct {
	http     *http.Client
	endpoint string
	host     string
	key      func() (string, error)
	agent    string
	// now is the key in use, notBefore when the next request may go out.
	now       string
	notBefore time.Time
}

func newClient(opts Options) (*client, error) {
	base, err := config.CheckProjectURL(opts.URL)
	if err != nil {
		return nil, err
	}
	key, err := opts.Key()
	if err != nil {
		return nil, fmt.Errorf("read the API key: %w", err)
	}
	if err := config.CheckAPIKey(key); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxConnsPerHost = 4
	return &client{
		http: &http.Client{
			Transport: transport,
			// The key goes to this host and to no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		endpoint: base.JoinPath("rest/v1/rpc").String() + "/",
		host:     base.Host,
		key:      opts.Key,
		agent:    "walbridge/" + opts.Version,
		now:      key,
	}, nil
}

// The functions at the target.
const (
	writing = "walbridge"
	reading = "walbridge_read"
)

// call sends body to a function and returns the reply's. final marks a request whose effect
// stays: when no answer comes, nobody knows whether it has any.
func (c *client) call(ctx context.Context, function string, body []byte, final bool) ([]byte, error) {
	reply, err := c.attempt(ctx, function, body, final)
	if !errors.Is(err, errKey) {
		return reply, err
	}
	key, e := c.key()
	if e != nil || key == c.now || config.CheckAPIKey(key) != nil {
		return nil, err
	}
	c.now, c.notBefore = key, time.Time{}
	return c.attempt(ctx, function, body, final)
}

func (c *client) attempt(ctx context.Context, function string, body []byte, final bool) ([]byte, error) {
	if err := c.wait(ctx); err != nil {
		return nil, &callError{text: "wait for the API", err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+function, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Profile", "public")
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("apikey", c.now)
	if !strings.HasPrefix(c.now, "sb_") {
		// A legacy key is a token, which PostgREST wants to see; the newer ones are
		// none, and it would refuse them.
		req.Header.Set("Authorization", "Bearer "+c.now)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // its text has the address, which is known
		}
		return nil, c.refused(fmt.Sprintf("ask the API at %s", c.host), err, final && !unsent(err))
	}
	defer func() { _ = resp.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, c.refused(fmt.Sprintf("read the answer of the API at %s", c.host), err, final)
	}
	if resp.StatusCode == http.StatusOK && json.Valid(reply) {
		return reply, nil
	}
	a := answer{function: function, status: resp.StatusCode, retryAfter: retryAfter(resp.Header), body: reply, host: c.host, final: final}
	err = a.err()
	if a.retryAfter > 0 {
		c.notBefore = time.Now().Add(a.retryAfter)
	} else if fault.ClassOf(err) != fault.Retry && !serverError(err) {
		c.notBefore = time.Now().Add(calm)
	}
	return nil, err
}

// wait lets time pass where the server has asked for it, or where asking again at
// once would change nothing.
func (c *client) wait(ctx context.Context) error {
	d := time.Until(c.notBefore)
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// refused is an error of the network.
func (c *client) refused(what string, err error, unknown bool) error {
	e := &callError{text: what, err: err, unknown: unknown}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		c.notBefore = time.Now().Add(calm)
		return fault.Wrap(fault.Stop, "check SUPABASE_URL: the dashboard shows it under Project settings, Data API; a deleted project has none", e)
	}
	return e
}

// unsent reports that a request can't have reached the server.
func unsent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, longest)
}

// callError is a request without an answer that can be used.
type callError struct {
	text    string
	err     error
	unknown bool
}

func (e *callError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

func (e *callError) Unwrap() error { return e.err }

// Unknown implements postgres.OutcomeError.
func (e *callError) Unknown() bool { return e.unknown }

// databaseError is what PostgREST passes on of the database's.
func databaseError(code string) error {
	return &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code}
}
