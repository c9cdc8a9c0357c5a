package replicator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// prepare makes sure of everything that streaming needs, in an order in which a
// failure at any step leaves nothing behind that fills the source's disk: what
// is read-only first, then the target's tables, the intent, the publication and
// last the slot.
func (b *bridge) prepare(ctx context.Context, source *pgx.Conn, snk sink.Sink, m *mapping.Mapping, dst *pg.Catalog) (sink.Checkpoint, error) {
	if err := b.gate(ctx, source, m); err != nil {
		return sink.Checkpoint{}, err
	}
	// Before what is missing is made: empty, it would pass for filled.
	before, err := snk.Checkpoint(ctx)
	if err != nil && !errors.Is(err, sink.ErrNoCheckpoint) {
		return sink.Checkpoint{}, err
	}
	if before.LSN != 0 && before.Origin.Fingerprint == m.Schema.Fingerprint {
		if err := stillFilled(m, dst); err != nil {
			if asked, aerr := b.asked(ctx, snk, before, err); aerr != nil || !asked {
				return sink.Checkpoint{}, errors.Join(aerr, err)
			}
			b.astray = err
		}
	}
	if err := b.install(ctx, source, snk, m); err != nil {
		return sink.Checkpoint{}, err
	}
	cp, err := b.acquire(ctx, source, snk)
	if err != nil {
		return sink.Checkpoint{}, err
	}
	id, err := b.identify(ctx)
	if err != nil {
		return sink.Checkpoint{}, err
	}
	slot, err := ReadSlot(ctx, source, b.Name)
	exists := !errors.Is(err, ErrNoSlot)
	if err != nil && exists {
		return sink.Checkpoint{}, err
	}
	origin := sink.Origin{
		Incarnation: cp.Origin.Incarnation, SystemID: id.ID, Timeline: id.Timeline, Database: id.Database,
		Slot: b.Name, Fingerprint: m.Schema.Fingerprint, Publication: cp.Origin.Publication,
	}
	if err := b.failoverPossible(id); err != nil {
		return sink.Checkpoint{}, err
	}
	history := History{Name: b.Name, Checkpoint: cp, System: id, Fingerprint: m.Schema.Fingerprint, Manual: b.Manual, Failover: b.Failover}
	if exists {
		history.Slot = &slot
	}
	refused := history.Check()
	if err := b.guard.gone(); !exists && err != nil && cp.LSN != 0 {
		refused = err
	}
	if refused == nil && cp.LSN == 0 {
		return b.firstSlot(ctx, source, snk, m, cp, origin, slot, exists)
	}
	if refused == nil {
		var now string
		now, refused = b.stillPublished(ctx, source, m, cp.Origin.Publication)
		if refused == nil && now != cp.Origin.Publication {
			cp.Origin.Publication = now
			if err := snk.Store(ctx, cp.Epoch, cp.Origin, cp.LSN); err != nil {
				return sink.Checkpoint{}, err
			}
		}
	}
	// What a session has found out may be mended by now, and the stream tells; but
	// not if somebody has asked to go on in spite of it.
	if again := cmp.Or(refused, b.astray); again != nil {
		s := &startable{source: source, sink: snk, m: m, cp: cp, origin: origin, slot: slot, exists: exists}
		switch asked, err := b.anew(ctx, s, again); {
		case err != nil:
			return sink.Checkpoint{}, err
		case !asked && refused != nil:
			return sink.Checkpoint{}, refused
		case s.cp.Origin.Incarnation != origin.Incarnation:
			return s.cp, nil // with a slot of its own
		}
		cp = s.cp
	}
	if slot.Active {
		// The lease is ours, so whoever streams from it has been fenced.
		if err := EndWalsender(ctx, source, b.Name, slot.ActivePID); err != nil {
			return sink.Checkpoint{}, err
		}
	}
	if b.Failover && !slot.Failover {
		if err := b.alterFailover(ctx); err != nil {
			return sink.Checkpoint{}, err
		}
	}
	b.promoted = nil
	if cp.Origin.Timeline != id.Timeline {
		promoted := cp.Origin
		promoted.Timeline, promoted.Incarnation = id.Timeline, uuid.NewString()
		b.promoted = &promoted
		b.Log.Warn("a standby of the source has been promoted", "timeline", id.Timeline, "lsn", cp.LSN.String())
	}
	return cp, nil
}

func publishedOf(m *mapping.Mapping) []TableName {
	var list []TableName
	for _, s := range m.Sources {
		list = append(list, TableName{Schema: s.Schema, Name: s.Name})
	}
	return list
}

// stillPublished refuses a publication that has lost a table since the slot was
// made, for however short a time: what was written there meanwhile is not in the
// stream. Nor may partitions have brought or taken rows since then, which is what
// ReadPublished returned; now is what it returns now.
func (b *bridge) stillPublished(ctx context.Context, source *pgx.Conn, m *mapping.Mapping, then string) (now string, err error) {
	pub, err := EnsurePublication(ctx, source, b.Name, publishedOf(m), false)
	if err != nil {
		return "", err
	}
	if len(pub.SQL) > 0 {
		var missing []string
		for _, t := range pub.Missing {
			missing = append(missing, t.String())
		}
		mend := resyncHint + "; if the bridge's role may not mend the publication, the tables' owner does first: " + strings.Join(pub.SQL, " ")
		return "", fault.Wrap(fault.Stop, mend, &OutOfStepError{Reason: fmt.Sprintf("publication %s is gone or lacks a table of the mapping, so that changes are missing from the stream: %s", b.Name, strings.Join(missing, ", "))})
	}
	if err := CheckUnaltered(ctx, source, b.Name, m, then, b.altered); err != nil {
		return "", err
	}
	b.altered = nil
	return CheckPartitions(ctx, source, m, then)
}

// stillFilled refuses a target that lacks a table or a column that the bridge has
// filled.
func stillFilled(m *mapping.Mapping, dst *pg.Catalog) error {
	var lacks []string
	for _, t := range m.Schema.Tables {
		table := dst.Table(TableName{Schema: t.Schema, Name: t.Name})
		if table == nil {
			lacks = append(lacks, "table "+t.FullName())
			continue
		}
		for _, c := range t.Columns {
			if table.Column(c.Name) == nil {
				lacks = append(lacks, "column "+t.FullName()+"."+c.Name)
			}
		}
	}
	if lacks == nil {
		return nil
	}
	return fault.Wrap(fault.Stop, "rename it back, with what is in it; or "+resyncHint,
		&OutOfStepError{Reason: "the target lacks what the bridge has filled, it was dropped or renamed: " + strings.Join(lacks, ", "), SameStream: true})
}

// install makes or checks the target's tables.
func (b *bridge) install(ctx context.Context, source *pgx.Conn, snk sink.Sink, m *mapping.Mapping) error {
	m.Schema.LateIndexes = true
	missing, err := snk.Install(ctx, m.Schema, b.Manual)
	if err != nil {
		return err
	}
	if !b.Manual {
		return nil
	}
	pub, err := EnsurePublication(ctx, source, b.Name, publishedOf(m), false)
	if err != nil {
		return err
	}
	var text strings.Builder
	list := func(side string, sql []string) {
		for i, s := range sql {
			if i == 0 {
				text.WriteString("\n-- at the " + side + "\n")
			}
			text.WriteString(strings.TrimRight(s, "; \n") + ";\n")
		}
	}
	list("target", missing)
	if _, err := ReadSlot(ctx, source, b.Name); errors.Is(err, ErrNoSlot) {
		if _, err := snk.Checkpoint(ctx); err != nil || len(missing) > 0 {
			pub.SQL = append(pub.SQL, "SELECT pg_create_logical_replication_slot("+pg.QuoteLiteral(b.Name)+", 'pgoutput')")
		}
	}
	list("source", pub.SQL)
	if text.Len() == 0 {
		return nil
	}
	return fault.Wrap(fault.Config, "run the statements in this order, or start with --prepare=auto",
		fmt.Errorf("--prepare=manual creates nothing, and this is missing:%s", text.String()))
}

// errTakeover begins the session anew, with the lease: a standby may have waited
// for hours, and what it had checked before that is old.
var errTakeover = fault.Errorf(fault.Retry, "", "the other instance is gone, this one takes over")

// standbyPoll is how often a standby looks whether it is needed.
const standbyPoll = 500 * time.Millisecond

// acquire waits until this instance is the one that writes. Beside the lease's
// end it takes a slot that nobody streams from, twice in a row, as a sign that
// the other instance is gone; if it isn't, it is fenced and nothing is lost.
func (b *bridge) acquire(ctx context.Context, source *pgx.Conn, snk sink.Sink) (sink.Checkpoint, error) {
	idle, said, holder := 0, false, ""
	for {
		cp, err := snk.Acquire(ctx, b.holder, b.Lease, false)
		if errors.Is(err, sink.ErrStandby) {
			if b.epoch != 0 && cp.Epoch > b.epoch {
				// It was the one that writes, and has been replaced while it was
				// frozen or cut off.
				return cp, sink.ErrFenced
			}
			if cp.Holder != holder {
				// Another standby was faster, and hasn't come to the slot yet.
				idle, holder = 0, cp.Holder
			} else if idle >= 2 {
				cp, err = snk.Acquire(ctx, b.holder, b.Lease, true)
			}
		}
		if err == nil {
			b.epoch = cp.Epoch
			b.Status.Update(func(n *status.Snapshot) {
				n.Epoch = cp.Epoch
				if said {
					n.Takeovers++
				}
				showCounters(n, &cp.Counters)
			})
		}
		if said && err == nil {
			b.Log.Info("taking over as the one that writes", "epoch", cp.Epoch)
			// As good as one that has streamed: it stays up when it is refused,
			// because the instance before it may have been.
			b.connected = true
			return cp, errTakeover
		}
		if !errors.Is(err, sink.ErrStandby) {
			return cp, err
		}
		if !said {
			said = true
			b.Status.SetState(status.Standby)
			b.Log.Info("waiting as standby", "holder", cp.Holder)
		}
		select {
		case <-ctx.Done():
			return cp, ctx.Err()
		case <-time.After(standbyPoll):
		}
		slot, err := ReadSlot(ctx, source, b.Name)
		switch {
		case err == nil && !slot.Active:
			idle++
		case err == nil || errors.Is(err, ErrNoSlot):
			idle = 0
		default:
			return cp, err
		}
	}
}

// firstSlot makes the slot of a bridge that has none yet, or whose first start
// broke off between the intent and the slot's consistent point.
func (b *bridge) firstSlot(ctx context.Context, source *pgx.Conn, snk sink.Sink, m *mapping.Mapping, cp sink.Checkpoint, origin sink.Origin, slot Slot, exists bool) (sink.Checkpoint, error) {
	origin.Incarnation = uuid.NewString()
	if err := snk.Store(ctx, cp.Epoch, origin, 0); err != nil {
		return cp, err
	}
	if _, err := EnsurePublication(ctx, source, b.Name, publishedOf(m), !b.Manual); err != nil {
		return cp, err
	}
	// Before the slot is made: whatever alters it from here on is noticed.
	var err error
	if origin.Publication, err = ReadPublished(ctx, source, b.Name, m); err != nil {
		return cp, err
	}
	point := slot.Confirmed
	if !b.Manual {
		if exists {
			if err := DropSlot(ctx, source, b.Name, true); err != nil {
				return cp, err
			}
		}
		if point, err = CreateSlot(ctx, source, b.Name, SlotOptions{Timeout: b.SlotTimeout, Failover: b.Failover}); err != nil {
			return cp, err
		}
	}
	if err := snk.Store(ctx, cp.Epoch, origin, point); err != nil {
		return cp, err
	}
	b.guard.forget()
	b.Log.Info("slot made", "slot", b.Name, "lsn", point.String())
	cp.Origin, cp.LSN, cp.Heartbeat = origin, point, sink.Heartbeat{}
	return cp, nil
}

// identify asks the source who it is and where its WAL ends.
func (b *bridge) identify(ctx context.Context) (System, error) {
	// The identity comes from the replication protocol, because the timeline in
	// the control file is that of the last checkpoint.
	str, err := OpenStream(ctx, b.streamConfig(), b.Log)
	if err != nil {
		return System{}, err
	}
	defer func() { _ = str.Close() }()
	return str.Identify(ctx)
}
