package replicator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/replicator/pgoutput"
)

const (
	// Status goes out at least three times within wal_sender_timeout, after
	// which the server ends the connection.
	minStatusInterval = 100 * time.Millisecond
	maxStatusInterval = 10 * time.Second
	// confirmInterval is how soon after the last status a new confirmed
	// position goes out.
	confirmInterval = 100 * time.Millisecond
	// answerInterval bounds how often a request for status is answered. A server
	// that waits for the last confirmation before it shuts down asks again the
	// moment it is answered.
	answerInterval = 10 * time.Millisecond
	// silence is how long the server may say nothing, although it was asked
	// for an answer, before the connection counts as dead. It is generous: a
	// walsender reads a large transaction back from disk without a word.
	silence = time.Minute
	// farewell bounds the last status and the goodbye.
	farewell = time.Second
	// handOverBytes is how much is gathered under load before the queue is
	// locked; with less, the items go over once the socket has nothing more.
	handOverBytes = 128 << 10
)

// Run streams from the slot's confirmed position until ctx ends or the stream
// does, and closes the connection. When ctx ends it sends what is confirmed
// first. Its errors are typed: SlotActiveError, SlotLostError, ErrNoSlot,
// PublicationMissingError, ErrStreamEnded, ErrSilent, or the server's with its
// SQLSTATE.
func (s *Stream) Run(ctx context.Context) error {
	defer func() { _ = s.Close() }()
	if err := s.start(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("start replication: %w", err)
	}
	s.sock.idle = func() error { return s.beforeRead(ctx) }
	err := s.receive()
	s.handOver() // what was complete before an error
	if ctx.Err() != nil {
		s.goodbye()
		return context.Cause(ctx)
	}
	return fmt.Errorf("receive: %w", err)
}

// start sends START_REPLICATION. It always starts at 0/0, which stands for the
// slot's confirmed position: the server takes any other position unchecked, and
// one beyond the end of the WAL skips what comes before it.
func (s *Stream) start(ctx context.Context) error {
	err := pglogrepl.StartReplication(ctx, s.conn, s.cfg.Slot, 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names " + pg.QuoteLiteral(pg.Quote(s.cfg.Publication)),
			"messages 'true'",
		},
	})
	if err != nil {
		return s.explainStart(ctx, err)
	}
	hijacked, err := s.conn.Hijack()
	if err != nil {
		return err
	}
	s.front, s.out = hijacked.Frontend, hijacked.Conn
	if err := s.out.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s.dec = pgoutput.NewDecoder()
	s.asm = assembler{maxRows: s.cfg.SliceRows, maxBytes: s.cfg.SliceBytes}
	s.heardAt = time.Now()
	return nil
}

// explainStart says why the server refused to start, by looking at the slot: the
// SQLSTATEs stand for several reasons each, and texts differ by version.
func (s *Stream) explainStart(ctx context.Context, err error) error {
	code := fault.Code(err)
	if code != "42704" && code != "55000" && code != "55006" {
		return pg.Safe(err)
	}
	// The server has ended the command, and says so after its error.
	for {
		msg, err := s.conn.ReceiveMessage(ctx)
		if err != nil {
			return pg.Safe(err)
		}
		if _, ok := msg.(*pgproto3.ReadyForQuery); ok {
			break
		}
	}
	slot, readErr := readSlot(ctx, s.conn, s.cfg.Slot)
	switch {
	case code == "55006":
		return &SlotActiveError{Slot: s.cfg.Slot, PID: slot.ActivePID}
	case errors.Is(readErr, ErrNoSlot):
		return readErr
	case readErr == nil && slot.Lost():
		return &SlotLostError{Slot: s.cfg.Slot, Reason: slot.Invalidation}
	}
	return pg.Safe(err)
}

// receive is the loop over the server's messages.
func (s *Stream) receive() error {
	for {
		msg, err := s.front.Receive()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue // beforeRead has looked after everything else
		}
		if err != nil {
			return err
		}
		s.heard = true
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			err = s.copyData(msg.Data)
		case *pgproto3.ErrorResponse:
			err = s.serverError(pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.NoticeResponse:
			err = s.notice(msg)
		case *pgproto3.CopyDone, *pgproto3.CommandComplete:
			err = ErrStreamEnded
		}
		if err != nil {
			return err
		}
	}
}

func (s *Stream) serverError(err *pgconn.PgError) error {
	if err.Code == "42704" {
		return &PublicationMissingError{Publication: s.cfg.Publication, Code: err.Code}
	}
	return pg.Safe(err)
}

// notice stops at a publication that is missing, see PublicationMissingError.
func (s *Stream) notice(msg *pgproto3.NoticeResponse) error {
	switch msg.Code {
	case "42704", "55000":
		return &PublicationMissingError{Publication: s.cfg.Publication, Code: msg.Code}
	}
	s.log.Warn("notice received from the source", "sqlstate", msg.Code)
	return nil
}

// copyData handles one replication message (protocol-replication).
func (s *Stream) copyData(data []byte) error {
	if len(data) == 0 {
		return errors.New("empty replication message")
	}
	switch data[0] {
	case pglogrepl.XLogDataByteID:
		// Its WAL positions are no progress: relation and type messages carry 0.
		frame, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return err
		}
		return s.change(frame.WALData)
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		alive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return err
		}
		if item, ok := s.asm.keepalive(alive.ServerWALEnd); ok {
			s.add(item)
		}
		if alive.ReplyRequested {
			s.asked = true
			return s.sendStatusIfDue(time.Now())
		}
		return nil
	}
	return fmt.Errorf("unknown replication message %q", data[0])
}

func (s *Stream) change(frame []byte) error {
	if err := s.dec.Decode(frame, &s.msg); err != nil {
		return fault.Wrap(fault.Stop, "", fmt.Errorf("decode change of the transaction at %s: %w", s.asm.tx.Commit, err))
	}
	item, ok, err := s.asm.add(&s.msg, len(frame))
	if err != nil {
		return fault.Wrap(fault.Stop, "", err)
	}
	if ok {
		s.add(item)
	}
	return nil
}

func (s *Stream) add(item Item) {
	s.received = max(s.received, item.WALEnd)
	s.pending = append(s.pending, item)
	if s.gathered += item.bytes(); s.gathered >= handOverBytes {
		s.handOver()
	}
}

func (s *Stream) handOver() {
	s.queue.push(s.pending)
	clear(s.pending)
	s.pending, s.gathered = s.pending[:0], 0
}

// beforeRead runs whenever all that was received has been handled and the next
// read may block.
func (s *Stream) beforeRead(ctx context.Context) error {
	s.handOver()
	if err := s.waitForRoom(ctx); err != nil {
		return err
	}
	now := time.Now()
	if s.heard {
		s.heard, s.heardAt = false, now
	} else if now.Sub(s.heardAt) > s.silence {
		return ErrSilent
	}
	if err := s.sendStatusIfDue(now); err != nil {
		return err
	}
	return s.sock.SetReadDeadline(now.Add(socketTick))
}

// waitForRoom holds the receiver back while the queue is full. The server can't
// send then, but it reads, and status keeps it from giving up on the bridge.
func (s *Stream) waitForRoom(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !s.queue.full() {
		return nil
	}
	tick := time.NewTicker(socketTick)
	defer tick.Stop()
	for s.queue.full() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closed:
			return net.ErrClosed
		case <-s.queue.room:
		case <-tick.C:
		}
		if err := s.sendStatusIfDue(time.Now()); err != nil {
			return err
		}
	}
	s.heard = true // nobody has listened
	return nil
}

// sendStatusIfDue sends a status when the interval is over, when the server asks
// for one, or when there is more to confirm.
func (s *Stream) sendStatusIfDue(now time.Time) error {
	since := now.Sub(s.sent)
	due := since >= s.interval ||
		s.asked && since >= answerInterval ||
		s.confirmable() > s.told && since >= confirmInterval
	if !due {
		return nil
	}
	if err := s.out.SetWriteDeadline(now.Add(maxStatusInterval)); err != nil {
		return err
	}
	// Asking tells a dead path from an idle server. The first answer says where
	// the server stands.
	return s.sendStatus(now, s.sent.IsZero() || now.Sub(s.heardAt) >= s.interval)
}

// sendStatus sends a standby status update. Only the flush position moves the
// slot, and only what is durable goes there: pglogrepl.SendStandbyStatusUpdate
// replaces a zero by the write position, which would confirm what was merely
// received. The write position is for pg_stat_replication.
func (s *Stream) sendStatus(now time.Time, reply bool) error {
	confirmed := s.confirmable()
	var frame [5 + 34]byte
	frame[0] = 'd' // CopyData
	binary.BigEndian.PutUint32(frame[1:], 4+34)
	frame[5] = pglogrepl.StandbyStatusUpdateByteID
	binary.BigEndian.PutUint64(frame[6:], uint64(s.received))
	binary.BigEndian.PutUint64(frame[14:], uint64(confirmed))
	binary.BigEndian.PutUint64(frame[22:], uint64(confirmed))
	binary.BigEndian.PutUint64(frame[30:], uint64(now.Sub(epoch2000).Microseconds()))
	if reply {
		frame[38] = 1
	}
	if _, err := s.out.Write(frame[:]); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	s.sent, s.told, s.asked = now, confirmed, false
	return nil
}

// confirmable is what was confirmed, but never more than what this connection
// has received. A server takes a position that it has not reached, and then
// leaves out every change up to it; a source that was restored from an older
// copy would be given one.
func (s *Stream) confirmable() cdc.LSN { return min(s.Confirmed(), s.received) }

// epoch2000 is where PostgreSQL's timestamps begin.
var epoch2000 = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// goodbye sends the last confirmed position and ends the session politely, so
// that the slot is free at once. Nothing is lost if it fails: what isn't
// confirmed is sent again.
func (s *Stream) goodbye() {
	now := time.Now()
	if s.out.SetWriteDeadline(now.Add(farewell)) != nil || s.sendStatus(now, false) != nil {
		return
	}
	_, _ = s.out.Write([]byte{'X', 0, 0, 0, 4})
}
