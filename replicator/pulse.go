package replicator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// HeartbeatPrefix marks the bridge's heartbeats among the logical messages.
const HeartbeatPrefix = "walbridge.heartbeat"

// ErrSourceShutdown says that the source has ended the pulse's session, as it
// does with every ordinary session when it shuts down. Walsenders hear nothing:
// they wait until all is confirmed, and the source with them.
var ErrSourceShutdown = fault.Errorf(fault.Retry, "", "the source is shutting down")

// PulseConfig says what a Pulse does. Interval is 10 s if zero.
type PulseConfig struct {
	URL string
	// Name is the bridge's, in its heartbeats and as application_name.
	Name        string
	Interval    time.Duration
	InsecureTLS bool
	// Publication must stay as it was with its Tables when Catalogs was read;
	// without that nobody looks.
	Publication string
	Tables      []TableName
	Catalogs    string // Catalogs.ID
}

// Beat is one heartbeat and what the source said with it.
type Beat struct {
	Token string
	// LSN is where the message lies in the WAL, before the record of its commit.
	LSN cdc.LSN
	At  time.Time
	// Flush is the end of the source's flushed WAL.
	Flush cdc.LSN
}

// Pulse is an ordinary session on the source. It writes a heartbeat into the WAL
// every interval: a transactional logical message with a token, which returns
// through the stream. It proves that the stream is alive and that it is the same
// history as before, and it lets the slot advance while the published tables are
// idle. Between heartbeats it listens for the end of the server.
type Pulse struct {
	cfg  PulseConfig
	log  *slog.Logger
	conn *pgx.Conn // belongs to Run, like seen and marks
	// seen is the last look at the catalogs, marks the heartbeats that it doesn't
	// vouch for yet.
	seen  *Catalogs
	marks []mark

	mu      sync.Mutex
	wake    context.CancelFunc // ends the wait between heartbeats, nil while awake
	waiting []*emission
	ended   error // why Run has ended
	last    Beat
	tokens  map[string]bool
	order   []string
	// vouched is the last heartbeat that has been vouched for.
	vouchedToken string
	vouchedLSN   cdc.LSN
}

// emission is a message that another goroutine asked for.
type emission struct {
	prefix, content string
	lsn             cdc.LSN
	err             error
	done            chan struct{}
}

// OpenPulse connects to the source. Heartbeats begin with Run.
func OpenPulse(ctx context.Context, cfg PulseConfig, log *slog.Logger) (*Pulse, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = 10 * time.Second
	}
	conn, err := pg.Connect(ctx, cfg.URL, pg.Options{
		Side: pg.Source, Application: cfg.Name, InsecureTLS: cfg.InsecureTLS,
		Settings: map[string]string{
			// A heartbeat must not wait for a standby, nor be cut off while it
			// listens.
			"synchronous_commit":   "local",
			"idle_session_timeout": "0",
			"statement_timeout":    "30000",
		},
	})
	if err != nil {
		return nil, err
	}
	return &Pulse{cfg: cfg, log: log, conn: conn, tokens: make(map[string]bool)}, nil
}

// Heartbeat is the content of a heartbeat message.
type Heartbeat struct {
	Bridge string `json:"bridge"`
	Token  string `json:"token"`
}

// ParseHeartbeat reads the content of a message with HeartbeatPrefix. Any role
// may write such a message, so what can't be read is no heartbeat and no error.
func ParseHeartbeat(content string) (Heartbeat, bool) {
	var h Heartbeat
	if json.Unmarshal([]byte(content), &h) != nil || h.Token == "" {
		return Heartbeat{}, false
	}
	return h, true
}

// Run emits a heartbeat at once and then every interval, and closes the
// connection when it ends: with ctx, with ErrSourceShutdown, or with what broke
// the connection.
func (p *Pulse) Run(ctx context.Context) error {
	err := p.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if fault.Code(err) == "57P01" {
		err = ErrSourceShutdown
	}
	p.end(err)
	// The goodbye waits for the network, though not for long.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.conn.Close(closing)
	return err
}

func (p *Pulse) run(ctx context.Context) error {
	for {
		if err := p.beat(ctx); err != nil {
			return fmt.Errorf("emit heartbeat: %w", err)
		}
		if err := p.rest(ctx, time.Now().Add(p.cfg.Interval)); err != nil {
			return err
		}
	}
}

// rest waits until the next heartbeat, for the server's end and for messages to
// emit.
func (p *Pulse) rest(ctx context.Context, until time.Time) error {
	for {
		wait, cancel := context.WithDeadline(ctx, until)
		var err error
		if p.sleep(cancel) {
			// Between messages the server sends only notifications, of which
			// there are none, and word of its end.
			for err == nil {
				_, err = p.conn.WaitForNotification(wait)
			}
		}
		over := !time.Now().Before(until)
		interrupted := wait.Err() != nil
		cancel()
		if err != nil && !interrupted {
			return fmt.Errorf("wait on the source: %w", pg.Safe(err))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.serve(ctx); err != nil {
			return err
		}
		if over {
			return nil
		}
	}
}

// sleep arms wake, unless somebody waits for a message already.
func (p *Pulse) sleep(wake context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		return false
	}
	p.wake = wake
	return true
}

// serve emits the messages that were asked for. An error of the connection ends
// Run; the server's refusal of one message only concerns who asked.
func (p *Pulse) serve(ctx context.Context) error {
	p.mu.Lock()
	list := p.waiting
	p.waiting, p.wake = nil, nil
	p.mu.Unlock()
	for i, e := range list {
		e.lsn, e.err = p.emit(ctx, e.prefix, e.content)
		close(e.done)
		if e.err != nil && p.conn.IsClosed() {
			p.mu.Lock()
			p.waiting = append(list[i+1:], p.waiting...)
			p.mu.Unlock()
			return e.err
		}
	}
	return nil
}

// end refuses what is asked for from now on.
func (p *Pulse) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = fmt.Errorf("the pulse has ended: %w", err)
	for _, e := range p.waiting {
		e.err = p.ended
		close(e.done)
	}
	p.waiting = nil
}

// Emit writes a transactional logical message in a transaction of its own and
// returns where it lies. It may be called from any goroutine while Run runs.
func (p *Pulse) Emit(ctx context.Context, prefix, content string) (cdc.LSN, error) {
	e := &emission{prefix: prefix, content: content, done: make(chan struct{})}
	p.mu.Lock()
	if p.ended != nil {
		p.mu.Unlock()
		return 0, p.ended
	}
	p.waiting = append(p.waiting, e)
	if p.wake != nil {
		p.wake()
	}
	p.mu.Unlock()
	select {
	case <-e.done:
		return e.lsn, e.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (p *Pulse) emit(ctx context.Context, prefix, content string) (cdc.LSN, error) {
	var lsn string
	err := p.conn.QueryRow(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)::text", prefix, content).Scan(&lsn)
	if err != nil {
		return 0, fmt.Errorf("emit message: %w", pg.Safe(err))
	}
	return parseLSN(lsn)
}

func (p *Pulse) beat(ctx context.Context) error {
	b := Beat{Token: uuid.NewString(), At: time.Now()}
	content, err := json.Marshal(Heartbeat{Bridge: p.cfg.Name, Token: b.Token})
	if err != nil {
		return err
	}
	// Before it is in the WAL: the stream may be faster than the answer.
	p.remember(b.Token)
	if b.LSN, err = p.emit(ctx, HeartbeatPrefix, string(content)); err != nil {
		return err
	}
	if err := p.look(ctx, b); err != nil {
		return err
	}
	if err := p.refuseStandby(ctx); err != nil {
		return err
	}
	if b.Flush, err = FlushLSN(ctx, p.conn); err != nil {
		return err
	}
	p.mu.Lock()
	p.last = b
	p.mu.Unlock()
	return nil
}

// refuseStandby ends the stream when the source begins to wait for the bridge as
// for a standby: the application's commits would hang on the target.
func (p *Pulse) refuseStandby(ctx context.Context) error {
	var names string
	if err := p.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('synchronous_standby_names')").Scan(&names); err != nil {
		return fmt.Errorf("read synchronous_standby_names: %w", pg.Safe(err))
	}
	return standbyError(names, p.cfg.Name)
}

// FlushLSN returns the end of the source's flushed WAL.
func FlushLSN(ctx context.Context, conn *pgx.Conn) (cdc.LSN, error) {
	var flush string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text").Scan(&flush); err != nil {
		return 0, fmt.Errorf("read WAL position: %w", pg.Safe(err))
	}
	return parseLSN(flush)
}

// remembered is how many tokens a Pulse knows as its own.
const remembered = 1000

func (p *Pulse) remember(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tokens[token] = true
	if p.order = append(p.order, token); len(p.order) > remembered {
		delete(p.tokens, p.order[0])
		p.order = p.order[1:]
	}
}

// Owns reports whether this Pulse has emitted token, lately.
func (p *Pulse) Owns(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tokens[token]
}

// Last returns the last heartbeat; its Token is empty before the first.
func (p *Pulse) Last() Beat {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}
