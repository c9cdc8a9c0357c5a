package replicator_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// deafSink is a target that answers nothing while it is deaf, and notes what it was
// asked.
type deafSink struct {
	sink.Sink
	deaf *deafness
}

type deafness struct {
	mu    sync.Mutex
	on    bool
	asked []string
}

func (d *deafness) set(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on = on
}

// questions are those since it is deaf.
func (d *deafness) questions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

func (d *deafness) ask(what string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.on {
		return nil
	}
	d.asked = append(d.asked, what)
	return fault.Wrap(fault.Retry, "", errors.New("no answer in time"))
}

func (s *deafSink) Renew(ctx context.Context, epoch int64, lease time.Duration, state string) error {
	if err := s.deaf.ask("renew"); err != nil {
		return err
	}
	return s.Sink.Renew(ctx, epoch, lease, state)
}

func (s *deafSink) Requests(ctx context.Context) ([]sink.Request, error) {
	if err := s.deaf.ask("requests"); err != nil {
		return nil, err
	}
	return s.Sink.Requests(ctx)
}

func (s *deafSink) Tend(ctx context.Context, epoch int64, t sink.Tending) (sink.Tended, error) {
	if err := s.deaf.ask("tend"); err != nil {
		return sink.Tended{}, err
	}
	return s.Sink.Tend(ctx, epoch, t)
}

func (s *deafSink) Held(ctx context.Context) ([]sink.HeldCount, error) {
	if err := s.deaf.ask("held"); err != nil {
		return nil, err
	}
	return s.Sink.Held(ctx)
}

// Each question to a target that has fallen silent takes as long as a connection
// waits. Once the lease can't be renewed, nothing but the lease and batches is tried,
// so that a batch soon says what is wrong.
func TestRun_SilentTarget(t *testing.T) {
	t.Parallel()
	w := newItems(t, &steps{})
	deaf := &deafness{}
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		tune(o)
		o.Lease, o.TendEvery = 300*time.Millisecond, time.Millisecond
		open := o.OpenSink
		o.OpenSink = func(ctx context.Context) (sink.Sink, error) {
			snk, err := open(ctx)
			return &deafSink{Sink: snk, deaf: deaf}, err
		}
	}
	r := w.start()
	w.catchUp(r)
	deaf.set(true)
	pgtest.Eventually(t, "the lease to be tried again and again", patience, func() bool {
		n := 0
		for _, what := range deaf.questions() {
			if what == "renew" {
				n++
			}
		}
		return n > 3
	})
	asked := deaf.questions()
	for _, what := range asked[slices.Index(asked, "renew"):] {
		if what != "renew" {
			t.Fatalf("it was asked %q", asked)
		}
	}
	deaf.set(false)
	w.exec("INSERT INTO item VALUES (1, 1, 'good')")
	w.catchUp(r)
	if got := r.status.Snapshot(); got.State != status.Streaming {
		t.Errorf("it is %s (%v)", got.State, got.LastError)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
