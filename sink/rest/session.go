package rest

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// firstRows is how many row changes a batch has at first. A batch that took less
// than quick, and didn't fill its request, makes the next one larger; one that took
// more than slow, or several requests, smaller.
const (
	firstRows = 1000
	minRows   = 50
	maxRows   = 10_000
	quick     = time.Second
	slow      = 5 * time.Second
)

// session implements postgres.Session over requests. Between Begin and Commit it
// keeps a log of what the transaction has to do.
type session struct {
	client *client
	name   string
	log    *slog.Logger

	// limit is the most bytes of one request now, max the most that it may become.
	limit, max int
	// good counts requests since the limit was changed.
	good int
	rows int

	open         bool
	epoch, lease []byte
	// first compares and locks the checkpoint, at the beginning of every request.
	first *entry
	// done are what the transaction has to do, in order: first what is staged.
	done []*entry
	// saved is the length of done at the savepoint, -1 without one.
	saved int
	stage stage
}

var _ postgres.Session = (*session)(nil)

// Idle reports that no transaction is open.
func (s *session) Idle() bool { return !s.open }

// Close forgets the transaction; the server knows of none.
func (s *session) Close() { s.reset() }

func (s *session) reset() {
	s.open, s.first, s.done, s.saved = false, nil, nil, -1
	s.stage = stage{}
}

// Run implements postgres.Session.
func (s *session) Run(ctx context.Context, statements []*postgres.Statement) (*postgres.Statement, error) {
	if !s.open && (len(statements) == 0 || statements[0].Control != postgres.Begin && statements[0].Control != postgres.Rollback) {
		return s.alone(ctx, statements)
	}
	var asked []*entry
	for i, st := range statements {
		if st.Control == 0 && st.Read != nil {
			e, err := encode(st)
			if err != nil {
				return st, err
			}
			asked = append(asked, e)
			continue
		}
		if failed, err := s.ask(ctx, asked); err != nil {
			return failed, err
		}
		asked = nil
		if failed, err := s.do(ctx, st); err != nil {
			return failed, err
		}
		if rest := statements[i+1:]; st.Control == postgres.Rollback && len(rest) > 0 {
			return s.Run(ctx, rest)
		}
	}
	return s.ask(ctx, asked)
}

// alone runs statements outside a transaction: all of them in one request.
func (s *session) alone(ctx context.Context, statements []*postgres.Statement) (*postgres.Statement, error) {
	var all []*entry
	for _, st := range statements {
		e, err := encode(st)
		if err != nil {
			return st, err
		}
		all = append(all, e)
	}
	return s.request(ctx, commit, stage{}, nil, all)
}

// do adds one statement to the transaction, or ends it.
func (s *session) do(ctx context.Context, st *postgres.Statement) (*postgres.Statement, error) {
	switch st.Control {
	case postgres.Begin:
		s.reset()
		s.open, s.epoch, s.lease = true, st.Args[0], st.Args[1]
	case postgres.Savepoint:
		s.saved = len(s.done)
	case postgres.Release:
		var failed *postgres.Statement
		var err error
		if len(s.done) > s.saved {
			failed, err = s.try(ctx, nil)
		}
		if err != nil {
			return failed, err
		}
		s.saved = -1
	case postgres.RollbackTo:
		s.done = s.done[:s.saved]
		s.stage.cut(s.saved)
	case postgres.Rollback:
		s.reset()
	case postgres.Commit:
		return s.commit(ctx, st)
	case postgres.Local:
		// The API's limits are not to be lifted.
	default:
		e, err := encode(st)
		if err != nil {
			return st, err
		}
		if s.first == nil {
			s.first = e
			return nil, nil
		}
		s.done = append(s.done, e)
		if s.unsent() > s.limit {
			return s.spill(ctx)
		}
	}
	return nil, nil
}

// ask has entries answered within the transaction, and remembers those that change
// something with their answers.
func (s *session) ask(ctx context.Context, asked []*entry) (*postgres.Statement, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	fresh := true
	for _, e := range asked {
		fresh = fresh && e.st.Fresh
	}
	if fresh {
		return s.request(ctx, try, stage{}, s.first, asked)
	}
	failed, err := s.try(ctx, asked)
	if err != nil {
		return failed, err
	}
	for _, e := range asked {
		if !e.st.Pure {
			e.settle()
			s.done = append(s.done, e)
		}
	}
	return nil, nil
}

// try executes all of the transaction and entries behind it, and takes it back.
func (s *session) try(ctx context.Context, asked []*entry) (*postgres.Statement, error) {
	return s.whole(ctx, try, asked)
}

// commit executes the transaction for good.
func (s *session) commit(ctx context.Context, st *postgres.Statement) (*postgres.Statement, error) {
	begun, staged, bytes := time.Now(), len(s.stage.units) > 0, s.unsent()
	failed, err := s.whole(ctx, commit, nil)
	s.adapt(time.Since(begun), err, staged, bytes)
	if err != nil {
		if failed == nil && serverError(err) {
			failed = st // a deferred constraint
		}
		return failed, err
	}
	s.reset()
	return nil, st.Read(committed{})
}

// whole sends all of the transaction. A request that the gateway finds too large
// has not been executed; more of it is staged then.
func (s *session) whole(ctx context.Context, mode string, asked []*entry) (*postgres.Statement, error) {
	for {
		if s.unsent()+size(asked) > s.limit && len(s.done) > s.stage.entries() {
			if failed, err := s.spill(ctx); err != nil {
				return failed, err
			}
		}
		failed, err := s.request(ctx, mode, s.stage, s.first, append(s.done[s.stage.entries():len(s.done):len(s.done)], asked...))
		if !tooLarge(err) || !s.shrink() {
			return failed, err
		}
	}
}

// shrink halves the limit, and reports whether that was possible.
func (s *session) shrink() bool {
	if s.limit <= minBody {
		return false
	}
	s.limit, s.good = max(s.limit/2, minBody), 0
	s.log.Info("requests made smaller", "bytes", s.limit)
	return true
}

// adapt lets the next batch be larger or smaller, by how long this one took, and by
// whether it fitted into one request: what is staged is quoted, stored and read once
// more.
func (s *session) adapt(took time.Duration, err error, staged bool, bytes int) {
	switch {
	case fault.TooLarge(err) || took > slow:
		s.rows = max(s.rows/2, minRows)
	case staged:
		s.rows = max(s.rows*3/4, minRows)
	case err == nil && took < quick && bytes < s.limit/4*3:
		s.rows = min(s.rows+s.rows/8, maxRows)
	}
	if s.good++; s.good >= 256 && s.limit < s.max {
		s.limit, s.good = min(s.limit+s.limit/4, s.max), 0
	}
}

// committed is the result of COMMIT.
type committed struct{}

func (committed) NextRow() bool                     { return false }
func (committed) Values() [][]byte                  { return nil }
func (committed) Close() (pgconn.CommandTag, error) { return pgconn.NewCommandTag("COMMIT"), nil }

// unsent is the size of what is neither staged nor sent.
func (s *session) unsent() int { return size(s.done[s.stage.entries():]) }

func size(entries []*entry) int {
	n := 0
	for _, e := range entries {
		n += e.size()
	}
	return n
}

// spill stages what has not been sent yet.
func (s *session) spill(ctx context.Context) (*postgres.Statement, error) {
	if s.stage.batch == "" {
		s.stage.batch = uuid.NewString()
	}
	for s.stage.entries() < len(s.done) {
		from, to := s.stage.entries(), len(s.done)
		if s.saved > from && s.saved < to {
			to = s.saved // no unit lies on both sides of the savepoint
		}
		parts, err := s.put(ctx, s.stage.last+1, s.done[from:to])
		if err != nil {
			return nil, err
		}
		for _, e := range s.done[from:to] {
			e.staged()
		}
		s.stage.last++
		s.stage.units = append(s.stage.units, unit{id: s.stage.last, parts: parts, end: to})
	}
	return nil, nil
}

// put stages entries as one unit, in as many parts as it takes.
func (s *session) put(ctx context.Context, id int, entries []*entry) (parts int, err error) {
	unit := join(entries)
	for len(unit) > 0 {
		piece := unit[:cutAt(unit, s.limit/2)] // quoting may make it longer
		statements := []*postgres.Statement{
			{Template: plain(keepLease), Args: [][]byte{[]byte(s.name), s.epoch, s.lease}},
			{Template: plain(clearStage), Args: [][]byte{[]byte(s.name), []byte(s.stage.batch)}},
			{Template: plain(putStage), Args: [][]byte{[]byte(s.name), []byte(s.stage.batch), number(id), number(parts + 1), piece}},
		}
		failed, err := s.alone(ctx, statements)
		switch {
		case tooLarge(err) && s.shrink():
			continue
		case failed == statements[0] && code(err) == codeMissing:
			return 0, &callError{text: "stage a batch", err: sink.ErrFenced}
		case err != nil:
			return 0, err
		}
		unit = unit[len(piece):]
		parts++
	}
	return parts, nil
}

// stage is what of a transaction lies in walbridge.stage.
type stage struct {
	batch string
	units []unit
	last  int // the id of the last unit; none is used twice
}

// unit is some entries of a transaction, in parts. end is the number of entries of
// the transaction up to there.
type unit struct{ id, parts, end int }

// head are the units' ids and the number of their parts, as requests name them.
func (s *stage) head() (ids, parts string) {
	n := 0
	for i, u := range s.units {
		if i > 0 {
			ids += ","
		}
		ids += strconv.Itoa(u.id)
		n += u.parts
	}
	return ids, strconv.Itoa(n)
}

func (s *stage) entries() int {
	if len(s.units) == 0 {
		return 0
	}
	return s.units[len(s.units)-1].end
}

// cut forgets the units behind n entries.
func (s *stage) cut(n int) {
	for len(s.units) > 0 && s.units[len(s.units)-1].end > n {
		s.units = s.units[:len(s.units)-1]
	}
}

var errReply = errors.New("the target's function answered something else than it was asked")
