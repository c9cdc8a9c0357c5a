package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/replicator/pgoutput"
)

// StreamConfig says what to stream and within which bounds. Zero bounds stand
// for the defaults.
type StreamConfig struct {
	URL string
	// Name is the application_name of the connection.
	Name        string
	Slot        string
	Publication string
	// Transactions beyond SliceRows changes or SliceBytes are handed over in
	// slices: 10,000 and 4 MiB.
	SliceRows  int
	SliceBytes int
	// QueueBytes is how much may wait before the receiver stops reading: 16 MiB.
	QueueBytes int
	// DecodingBytes is logical_decoding_work_mem of the connection; the server's own
	// if 0.
	DecodingBytes int64
	// InsecureTLS as in pg.Options.
	InsecureTLS bool
	// Dial replaces the dialer in tests.
	Dial pgconn.DialFunc
}

// Stream owns one replication connection. Run receives on it until it ends; the
// apply goroutine takes items and confirms. A Stream runs once; a new session
// opens a new one.
type Stream struct {
	cfg   StreamConfig
	log   *slog.Logger
	conn  *pgconn.PgConn // until Run takes it over
	sock  *bulkConn
	queue *queue
	// closed wakes Run where it waits for something else than the socket.
	closed    chan struct{}
	closeOnce sync.Once

	// confirmed is the one thing that another goroutine sets.
	confirmed atomic.Uint64

	// What follows belongs to Run.
	front    *pgproto3.Frontend
	out      net.Conn // the connection with its TLS
	dec      *pgoutput.Decoder
	msg      pgoutput.Message
	asm      assembler
	pending  []Item
	gathered int

	interval time.Duration // between statuses
	silence  time.Duration
	sent     time.Time // of the last status
	told     cdc.LSN   // confirmed position in it
	received cdc.LSN   // end of what is complete
	asked    bool
	heard    bool
	heardAt  time.Time
}

// System identifies the source.
type System struct {
	ID       string
	Timeline int32
	Database string
	// Flush is the end of its flushed WAL.
	Flush cdc.LSN
	// Version is server_version_num.
	Version int
	// Switches are the ends of the timelines that the current one comes from.
	Switches map[int32]cdc.LSN
}

// Errors that end a stream. Others carry the server's SQLSTATE.
var (
	// ErrStreamEnded: the server has sent all it has and closes the stream,
	// which it does when it shuts down.
	ErrStreamEnded = fault.Errorf(fault.Retry, "", "the source has ended the stream")
	// ErrSilent: the path to the source is dead.
	ErrSilent = fault.Errorf(fault.Retry, "", "the source has gone silent")
)

// PublicationMissingError says that the publication did not exist at the point
// of the WAL that is being read. History is read as of its time, so making it
// again doesn't help the slot; and PostgreSQL 18 has left changes out by then.
type PublicationMissingError struct {
	Publication string
	Code        string
}

func (e *PublicationMissingError) Error() string {
	return fmt.Sprintf("publication %s does not exist at this point of the WAL: it was dropped, or made after the slot (SQLSTATE %s)", e.Publication, e.Code)
}

// OpenStream connects to the source. The stream starts with Run.
func OpenStream(ctx context.Context, cfg StreamConfig, log *slog.Logger) (*Stream, error) {
	if err := CheckSlotName(cfg.Slot); err != nil {
		return nil, err
	}
	if cfg.SliceRows <= 0 {
		cfg.SliceRows = 10_000
	}
	if cfg.SliceBytes <= 0 {
		cfg.SliceBytes = 4 << 20
	}
	if cfg.QueueBytes <= 0 {
		cfg.QueueBytes = 16 << 20
	}
	s := &Stream{cfg: cfg, log: log, queue: newQueue(cfg.QueueBytes), closed: make(chan struct{})}
	settings := map[string]string{
		// PostgreSQL 18 reports a missing publication as a warning.
		"client_min_messages": "warning",
		"statement_timeout":   "0",
		// While the queue is full nobody reads. The kernel would take that
		// for a dead peer, although status is being sent all the time.
		"tcp_user_timeout": "0",
	}
	if cfg.DecodingBytes > 0 {
		settings["logical_decoding_work_mem"] = strconv.FormatInt(max(cfg.DecodingBytes>>10, 64), 10) // kB, and 64 at least
	}
	conn, err := pg.ConnectReplication(ctx, cfg.URL, pg.Options{
		Application: cfg.Name,
		InsecureTLS: cfg.InsecureTLS,
		Settings:    settings,
		DialFunc:    s.dial,
	})
	if err != nil {
		return nil, err
	}
	s.conn = conn
	if err := s.readTimeout(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// dial keeps hold of the socket below TLS. Connecting may try several addresses;
// the last one is the one that worked.
func (s *Stream) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := s.cfg.Dial
	if dial == nil {
		dial = dialSocket
	}
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	s.sock = &bulkConn{Conn: conn, buf: make([]byte, socketBuffer)}
	return s.sock, nil
}

// readTimeout derives how often to send status from the setting that is in force
// for this very connection; a role may have its own.
func (s *Stream) readTimeout(ctx context.Context) error {
	value, err := s.queryValue(ctx, "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")
	if err != nil {
		return fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	ms, err := strconv.Atoi(value)
	if err != nil {
		return fmt.Errorf("read wal_sender_timeout: %w", err)
	}
	timeout := time.Duration(ms) * time.Millisecond
	s.interval = min(max(timeout/3, minStatusInterval), maxStatusInterval)
	if timeout == 0 {
		s.interval = maxStatusInterval
	}
	s.silence = max(silence, timeout)
	return nil
}

// queryValue runs a query that returns one value, by the simple protocol.
func (s *Stream) queryValue(ctx context.Context, sql string) (string, error) {
	results, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", pg.Safe(err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errors.New("the server returned no row")
	}
	return string(results[0].Rows[0][0]), nil
}

// Identify asks the source who it is. It may be called until Run.
func (s *Stream) Identify(ctx context.Context) (System, error) {
	id, err := pglogrepl.IdentifySystem(ctx, s.conn)
	if err != nil {
		return System{}, fmt.Errorf("identify source: %w", pg.Safe(err))
	}
	version, err := s.queryValue(ctx, "SHOW server_version_num")
	if err != nil {
		return System{}, fmt.Errorf("identify source: %w", err)
	}
	num, err := strconv.Atoi(version)
	if err != nil {
		return System{}, fmt.Errorf("identify source: %w", err)
	}
	system := System{ID: id.SystemID, Timeline: id.Timeline, Database: id.DBName, Flush: id.XLogPos, Version: num}
	if id.Timeline > 1 {
		if system.Switches, err = s.switches(ctx, id.Timeline); err != nil {
			return System{}, fmt.Errorf("identify source: %w", err)
		}
	}
	return system, nil
}

// Confirm reports everything up to lsn as durable. It never moves back, and
// nothing beyond it is ever sent: what is confirmed is gone for good.
func (s *Stream) Confirm(lsn cdc.LSN) {
	for {
		old := s.confirmed.Load()
		if uint64(lsn) <= old || s.confirmed.CompareAndSwap(old, uint64(lsn)) {
			return
		}
	}
}

// Confirmed returns what Confirm was last told.
func (s *Stream) Confirmed() cdc.LSN { return cdc.LSN(s.confirmed.Load()) }

// Ready holds a token while there may be items to take; it is for a select.
func (s *Stream) Ready() <-chan struct{} { return s.queue.ready }

// Take returns what has arrived, in order and without waiting: whole
// transactions up to about maxRows changes and maxBytes, at least one item if
// there is any, and a slice of a larger transaction alone.
func (s *Stream) Take(maxRows, maxBytes int) []Item { return s.queue.take(maxRows, maxBytes) }

// Depth is how many bytes wait to be taken.
func (s *Stream) Depth() int { return s.queue.depth() }

// Oldest is the commit time of the first transaction that waits, or zero.
func (s *Stream) Oldest() time.Time { return s.queue.oldest() }

// Close ends the connection at once, without a goodbye; Run returns. It may be
// called from any goroutine and more than once.
func (s *Stream) Close() error {
	var err error
	s.closeOnce.Do(func() {
		close(s.closed)
		err = s.sock.Close()
	})
	return err
}
