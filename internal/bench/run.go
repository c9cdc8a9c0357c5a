package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// usage is the CPU time that everybody has used at one moment.
type usage struct {
	at             time.Time
	source, target server
	bridge, api    time.Duration
	self           time.Duration
	machine        time.Duration
}

// readUsage reads it; bridge is the contestant's own process, or 0, api that of its
// API.
func (a *arena) readUsage(bridge, api int) (usage, error) {
	u := usage{at: time.Now()}
	var errs [6]error
	var self, own, stand procStat
	u.source, errs[0] = readServer(a.source.Pid())
	u.target, errs[1] = readServer(a.target.Pid())
	self, errs[2] = readProc(os.Getpid())
	if bridge != 0 {
		own, errs[3] = readProc(bridge)
	}
	if api != 0 {
		stand, errs[5] = readProc(api)
	}
	u.self, u.bridge, u.api = self.cpu, own.cpu, stand.cpu
	u.machine, errs[4] = busyTime()
	return u, errors.Join(errs[:]...)
}

// run lets c work once.
func (a *arena) run(ctx context.Context, c contestant, round int) (m *Measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	if err := c.reset(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(exec(ctx, a.src, "CHECKPOINT"), exec(ctx, a.admin, "CHECKPOINT")); err != nil {
		return nil, err
	}
	if err := a.resetStatements(ctx); err != nil {
		return nil, err
	}
	target, err := pgx.Connect(ctx, a.target.URL(runDB))
	if err != nil {
		return nil, fmt.Errorf("connect to the target: %w", err)
	}
	defer target.Close(context.WithoutCancel(ctx))
	defer func() { err = errors.Join(err, c.stop(context.WithoutCancel(ctx))) }()

	m = &Measurement{}
	if a.workload.kind == delay {
		err = a.trickle(ctx, c, target, label(a.workload.Name, c.name(), round), m)
	} else {
		err = a.drain(ctx, c, target, label(a.workload.Name, c.name(), round), m)
	}
	if err == nil {
		err = c.stop(ctx)
	}
	if err != nil {
		return nil, explain(err, c.log())
	}
	want, err := a.sourceDigest(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.verify(ctx, want); err != nil {
		return nil, err
	}
	return m, nil
}

// explain adds the end of a log to an error that it may be about.
func explain(err error, log *logWatch) error {
	if text := log.String(); text != "" && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w; the bridge's log ends with:\n%s", err, text)
	}
	return err
}

// drain measures from the start until everything is there.
func (a *arena) drain(ctx context.Context, c contestant, target *pgx.Conn, label string, m *Measurement) error {
	before, err := a.readUsage(0, 0)
	if err != nil {
		return err
	}
	start := time.Now()
	if err := c.start(ctx, label); err != nil {
		return err
	}
	err = wait(ctx, "the end of the load at the target", func() (bool, error) { return c.done(ctx, target, a.marker()) })
	if err != nil {
		return err
	}
	m.Seconds = time.Since(start).Seconds()
	return a.account(c, target, before, m)
}

// account fills in what has been used since before.
func (a *arena) account(c contestant, target *pgx.Conn, before usage, m *Measurement) error {
	now, err := a.readUsage(c.pid(), c.apiPid())
	if err != nil {
		return err
	}
	if c.pid() != 0 {
		if m.PeakBytes, err = peakMemory(c.pid()); err != nil {
			return err
		}
	}
	m.Start, m.Bridge = c.log().streaming(), (now.bridge - before.bridge).Seconds()
	walsender, sourceRest := now.source.since(before.source, 0, "walsender")
	apply, targetRest := now.target.since(before.target, int(target.PgConn().PID()), c.words()...)
	m.Walsender, m.Apply, m.Rest = walsender.Seconds(), apply.Seconds(), (sourceRest + targetRest).Seconds()
	m.API = (now.api - before.api).Seconds()
	ours := walsender + sourceRest + apply + targetRest + now.self - before.self + now.bridge - before.bridge + now.api - before.api
	others := now.machine - before.machine - ours
	m.Others = max(0, others.Seconds()) / (now.at.Sub(before.at).Seconds() * float64(runtime.NumCPU()))
	return nil
}

const (
	// rate is the transactions a second of the latency workload.
	rate = 50
	// lookPause is between two looks for a row. Without one the poller would
	// take a processor from those whom it measures.
	lookPause = 100 * time.Microsecond
)

const trickleInsert = `INSERT INTO conversations_message (id, message_type, content, created_at, conversation_id, additional_attributes, external_id, is_from_customer, updated_at)
	VALUES ($1, 'text', 'Mensagem', clock_timestamp(), $2, '{"source": "whatsapp"}', NULL, true, clock_timestamp())`

const trickleUpdate = `UPDATE conversations_conversation SET last_message_at = clock_timestamp(), updated_at = clock_timestamp() WHERE id = $1`

// trickle measures from the return of each COMMIT at the source until its message
// is visible at the target.
func (a *arena) trickle(ctx context.Context, c contestant, target *pgx.Conn, label string, m *Measurement) error {
	if err := c.start(ctx, label); err != nil {
		return err
	}
	if err := a.mark(ctx); err != nil {
		return err
	}
	err := wait(ctx, "the backlog of the rounds before", func() (bool, error) { return c.done(ctx, target, a.marker()) })
	if err != nil {
		return err
	}
	before, err := a.readUsage(c.pid(), c.apiPid())
	if err != nil {
		return err
	}
	commits := make(chan commit, a.workload.load)
	written := make(chan error, 1)
	start := time.Now()
	writing, cancel := context.WithCancel(ctx)
	go func() {
		defer close(commits)
		written <- a.write(writing, commits)
	}()
	defer func() { // its session is the arena's
		cancel()
		for range commits {
		}
	}()
	var delays []float64
	for w := range commits {
		for {
			var there bool
			if err := target.QueryRow(ctx, c.visible(), w.id).Scan(&there); err != nil {
				return fmt.Errorf("look for a row: %w", err)
			}
			if there {
				break
			}
			time.Sleep(lookPause)
		}
		delays = append(delays, float64(time.Since(w.at))/float64(time.Millisecond))
	}
	if err := <-written; err != nil {
		return err
	}
	m.Seconds = time.Since(start).Seconds()
	slices.Sort(delays)
	m.P50, m.P99, m.Max = quantile(delays, 0.5), quantile(delays, 0.99), quantile(delays, 1)
	return a.account(c, target, before, m)
}

type commit struct {
	id int
	at time.Time
}

// write commits transactions at the rate and says when each had returned.
func (a *arena) write(ctx context.Context, commits chan<- commit) error {
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for range a.workload.load {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		a.messages++
		conversation := 1 + a.messages*7919%a.workload.conversations
		err := pgx.BeginFunc(ctx, a.src, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, trickleInsert, a.messages, conversation); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, trickleUpdate, conversation)
			return err
		})
		if err != nil {
			return fmt.Errorf("write at the source: %w", err)
		}
		commits <- commit{id: a.messages, at: time.Now()}
	}
	return nil
}
