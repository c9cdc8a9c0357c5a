// Package request asks the running bridge for work that only it can do. A request
// is a row of walbridge.requests at the target: it needs no way to the bridge's
// process, and outlives both ends.
package request

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

const (
	// interval between two looks at the request.
	interval = 200 * time.Millisecond
	// grace is how long nobody may hold the lease before there counts as no
	// bridge: one that is starting, or between two sessions, has none.
	grace = 3 * time.Second
	// politeness bounds what is done after the end of a context.
	politeness = 5 * time.Second
)

// Request is one that has been made.
type Request struct {
	target Target
	bridge string
	id     int64
}

// ErrNoBridge says that nobody takes requests up.
var ErrNoBridge = errors.New("no bridge is at work")

// noBridge is that with the bridge's name.
type noBridge struct{ name string }

func (e *noBridge) Error() string {
	return fmt.Sprintf("no bridge called %q is at work, so the request was withdrawn", e.name)
}

func (e *noBridge) Is(target error) bool { return target == ErrNoBridge }

// ID is the request's in walbridge.requests.
func (r *Request) ID() int64 { return r.id }

const makeRequest = "INSERT INTO walbridge.requests AS r (bridge, kind, args) VALUES ($1, $2, $3::text::jsonb) RETURNING r.id"

// Ask makes a request of the bridge. args become JSON.
func Ask(ctx context.Context, target Target, bridge, kind string, args any) (*Request, error) {
	text, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	r := &Request{target: target, bridge: bridge}
	// Whatever ends ctx, the id must be known: a request that nobody withdraws
	// would be executed long after whoever asked has left.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), politeness)
	defer cancel()
	rows, err := target.Rows(ctx, makeRequest, bridge, kind, string(text))
	if err == nil {
		r.id, err = strconv.ParseInt(only(rows), 10, 64)
	}
	if err != nil {
		return nil, fmt.Errorf("make request: %w", Explain(err))
	}
	return r, nil
}

// Explain gives an error of a statement about the private schema its hint.
func Explain(err error) error {
	switch pg.Code(err) {
	case "3F000", "42P01":
		return fault.Errorf(fault.Stop, "run: walbridge run, against this target",
			"no bridge has ever run against this target: %w", pg.Safe(err))
	}
	return pg.Safe(err)
}

// state is the request and its bridge at one moment.
type state struct {
	sink.Request
	// alive: somebody holds the lease, or the checkpoint's lock, as a bridge does
	// within a long transaction.
	alive bool
}

// look reads the state. Of a checkpoint that is locked SKIP LOCKED makes none.
const look = `SELECT r.state, r.progress, r.error,
		EXISTS (SELECT FROM walbridge.checkpoint AS k WHERE k.name = r.bridge AND k.lease_until > clock_timestamp())
		OR EXISTS (SELECT FROM walbridge.checkpoint AS k WHERE k.name = r.bridge)
			AND (SELECT count(*) FROM (SELECT FROM walbridge.checkpoint AS k WHERE k.name = $2 FOR KEY SHARE SKIP LOCKED) AS free) = 0
	FROM walbridge.requests AS r WHERE r.bridge = $2 AND r.id = $1::int8`

func (r *Request) look(ctx context.Context) (s state, err error) {
	rows, err := r.target.Rows(ctx, look, strconv.FormatInt(r.id, 10), r.bridge)
	switch {
	case err != nil:
		return s, fmt.Errorf("read request: %w", Explain(err))
	case len(rows) == 0:
		return s, fmt.Errorf("somebody has removed request %d from walbridge.requests", r.id)
	}
	v := rows[0]
	s.State, s.Progress, s.Error, s.alive = sink.RequestState(v[0].Text), v[1].Text, v[2].Text, v[3].Text == "t"
	return s, nil
}

// Wait waits until the request has ended, and returns its last progress, as it
// does beside an error. tell is called whenever the progress has changed. When
// ctx ends, or nobody takes the request up, it is withdrawn, unless it was taken
// up.
func (r *Request) Wait(ctx context.Context, tell func(progress string)) (progress string, err error) {
	var lonely time.Time // since when no bridge has been seen
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s, err := r.look(ctx)
		switch {
		case ctx.Err() != nil:
			return progress, r.leave(ctx, context.Cause(ctx))
		case err != nil:
			return progress, err
		}
		if s.Progress != progress {
			progress = s.Progress
			tell(progress)
		}
		switch s.State {
		case sink.RequestDone:
			return progress, nil
		case sink.RequestFailed:
			return progress, fault.Errorf(fault.Stop, "mend that and ask again; the bridge's log has the same message with what was done before",
				"the bridge could not do it: %s", s.Error)
		case sink.RequestWithdrawn:
			return progress, errors.New("somebody has withdrawn the request")
		}
		switch {
		case s.alive:
			lonely = time.Time{}
		case lonely.IsZero():
			lonely = time.Now()
		case time.Since(lonely) > grace:
			return progress, r.leave(ctx, nil)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// leave withdraws the request, or says that the bridge goes on with it. cause is
// why ctx has ended, nil when no bridge is there.
func (r *Request) leave(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), politeness)
	defer cancel()
	withdrawn, err := r.withdraw(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("withdraw request %d: %w", r.id, err)
	case cause == nil && withdrawn:
		return fault.Wrap(fault.Stop, "start it with walbridge run, or look at what its log says is wrong; then ask again", &noBridge{r.bridge})
	case cause == nil:
		return fault.Errorf(fault.Stop, "start it with walbridge run: it goes on where it stopped",
			"the bridge has begun with the request and is not at work any more")
	case withdrawn:
		return fmt.Errorf("the bridge has not taken the request up, so it was withdrawn: %w", cause)
	}
	return fault.Errorf(fault.Stop, "the bridge goes on with it; its log says when it is done", "%w", cause)
}

const withdrawRequest = `WITH w AS (UPDATE walbridge.requests AS r SET state = 'withdrawn', updated_at = now()
		WHERE r.bridge = $1 AND r.id = $2::int8 AND r.state = 'new' RETURNING 1)
	SELECT count(*) FROM w`

// withdraw ends a request that the bridge has not taken up.
func (r *Request) withdraw(ctx context.Context) (bool, error) {
	rows, err := r.target.Rows(ctx, withdrawRequest, r.bridge, strconv.FormatInt(r.id, 10))
	return only(rows) == "1", pg.Safe(err)
}

// only is the one value of a result, or "".
func only(rows []cdc.Row) string {
	if len(rows) == 0 || len(rows[0]) == 0 {
		return ""
	}
	return rows[0][0].Text
}
