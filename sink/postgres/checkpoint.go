package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

// checkpointColumns are in the order that scanCheckpoint reads. A lease that was
// given back has no end and nothing left.
const checkpointColumns = `k.epoch, k.holder,
	coalesce(extract(epoch FROM k.lease_until - clock_timestamp()) * 1000000, 0)::int8,
	k.incarnation, k.system_id, k.timeline, k.database, k.slot, k.fingerprint, k.publication, k.lsn, k.heartbeat_token, k.heartbeat_lsn,
	k.rows_applied, k.audit_rows, k.held_rows, k.dropped_rows, k.audit_head, ` + chainColumns + `, k.state, k.schema_version,
	greatest(0, extract(epoch FROM clock_timestamp() - k.updated_at) * 1000000)::int8`

// chainColumns may not be there yet: a checkpoint is read before anybody has
// installed what this version adds, and by commands that install nothing.
const chainColumns = `coalesce((pg_catalog.to_jsonb(k) ->> 'chain_from')::int8, 0), coalesce((pg_catalog.to_jsonb(k) ->> 'chain_head')::int8, 0),
	coalesce(pg_catalog.to_jsonb(k) ->> 'chain_link', '')`

// storeChain is for batches of a bridge that has a chain; the others needn't pay
// for it.
const storeChain = `UPDATE walbridge.checkpoint AS k SET chain_from = $3::int8, chain_head = $4::int8, chain_link = $5
	WHERE k.name = $1 AND k.epoch = $2::int8`

func (s *Sink) scanCheckpoint(c *sink.Checkpoint, found *bool) func(v [][]byte) error {
	return func(v [][]byte) error {
		d := decoder{values: v}
		*found = true
		*c = sink.Checkpoint{
			Name:      s.name,
			Epoch:     d.int64(),
			Holder:    d.text(),
			LeaseLeft: time.Duration(d.int64()) * time.Microsecond,
			Origin: sink.Origin{
				Incarnation: d.text(),
				SystemID:    d.text(),
				Timeline:    int32(d.int64()),
				Database:    d.text(),
				Slot:        d.text(),
				Fingerprint: d.text(),
				Publication: d.text(),
			},
			LSN:       d.lsn(),
			Heartbeat: sink.Heartbeat{Token: d.text(), Commit: d.lsn()},
			Counters: sink.Counters{
				Rows:      d.int64(),
				Entries:   d.int64(),
				Held:      d.int64(),
				Dropped:   d.int64(),
				AuditHead: d.int64(),
				Chain:     sink.Chain{From: d.int64(), Head: d.int64(), Link: d.link()},
			},
			State:         d.text(),
			SchemaVersion: int(d.int64()),
			Age:           time.Duration(d.int64()) * time.Microsecond,
		}
		if d.err == nil && c.SchemaVersion > SchemaVersion {
			return newerSchema(c.SchemaVersion)
		}
		return d.err
	}
}

func newerSchema(version int) error {
	return fault.Errorf(fault.Stop, "run the release of walbridge that made it, or a newer one",
		"the target's private schema has version %d, this binary knows versions up to %d", version, SchemaVersion)
}

// Checkpoint reads the bridge's row.
func (s *Sink) Checkpoint(ctx context.Context) (sink.Checkpoint, error) {
	var c sink.Checkpoint
	var found bool
	err := s.query(ctx, "read checkpoint", op{
		sql:  "SELECT " + checkpointColumns + " FROM walbridge.checkpoint AS k WHERE k.name = $1",
		args: [][]byte{arg(s.name)},
		read: each(s.scanCheckpoint(&c, &found)),
	})
	switch {
	case err != nil && notInstalled(err):
		return sink.Checkpoint{}, sink.ErrNoCheckpoint
	case err != nil:
		return sink.Checkpoint{}, err
	case !found:
		return sink.Checkpoint{}, sink.ErrNoCheckpoint
	}
	return c, nil
}

// takeLease makes the row or takes it over. Its condition is looked at again
// after waiting for a batch that holds the row, and by then the lease may have
// been prolonged: a writer that is at work is not disturbed.
const takeLease = `INSERT INTO walbridge.checkpoint AS k (name, epoch, holder, lease_until, schema_version)
	VALUES ($1, 1, $2, clock_timestamp() + $3::int8 * interval '1 microsecond', $5::int4)
	ON CONFLICT (name) DO UPDATE SET
		epoch = k.epoch + 1, holder = excluded.holder,
		lease_until = clock_timestamp() + $3::int8 * interval '1 microsecond',
		schema_version = greatest(k.schema_version, excluded.schema_version), updated_at = now()
	WHERE $4::bool OR k.lease_until IS NULL OR k.lease_until <= clock_timestamp() OR k.holder = excluded.holder
	RETURNING ` + checkpointColumns

// Acquire makes holder the one writer, see sink.Sink. The row is first read
// without locking it, so that a standby never waits for the batches of the
// instance that is at work.
func (s *Sink) Acquire(ctx context.Context, holder string, lease time.Duration, force bool) (sink.Checkpoint, error) {
	c, err := s.Checkpoint(ctx)
	switch {
	case errors.Is(err, sink.ErrNoCheckpoint):
	case err != nil:
		return sink.Checkpoint{}, fmt.Errorf("acquire lease: %w", err)
	case c.LeaseLeft > 0 && c.Holder != holder && !force:
		return c, sink.ErrStandby
	}
	var taken sink.Checkpoint
	var found bool
	err = s.query(ctx, "acquire lease", op{
		sql: takeLease,
		args: [][]byte{arg(s.name), arg(holder), argInt(lease.Microseconds()),
			arg(strconv.FormatBool(force)), argInt(SchemaVersion)},
		read: each(s.scanCheckpoint(&taken, &found)),
	})
	switch {
	case err != nil && notInstalled(err):
		return sink.Checkpoint{}, fault.Wrap(fault.Stop, "run: walbridge schema target --apply",
			fmt.Errorf("acquire lease: the private schema is not there: %w", err))
	case err != nil:
		return sink.Checkpoint{}, err
	case !found: // somebody else was faster
		c, err := s.Checkpoint(ctx)
		if err != nil {
			return sink.Checkpoint{}, fmt.Errorf("acquire lease: %w", err)
		}
		return c, sink.ErrStandby
	}
	return taken, nil
}

// Store replaces the origin and the LSN.
func (s *Sink) Store(ctx context.Context, epoch int64, o sink.Origin, lsn cdc.LSN) error {
	return s.update(ctx, "store checkpoint", epoch,
		`incarnation = $3, system_id = $4, timeline = $5::int4, database = $6, slot = $7, fingerprint = $8, lsn = $9::pg_lsn, publication = $10,
			heartbeat_token = CASE WHEN k.incarnation = $3 THEN k.heartbeat_token ELSE '' END,
			heartbeat_lsn = CASE WHEN k.incarnation = $3 THEN k.heartbeat_lsn ELSE '0/0' END`,
		arg(o.Incarnation), arg(o.SystemID), argInt(int64(o.Timeline)), arg(o.Database), arg(o.Slot), arg(o.Fingerprint), argLSN(lsn), arg(o.Publication))
}

// Renew prolongs the lease and records the state.
func (s *Sink) Renew(ctx context.Context, epoch int64, lease time.Duration, state string) error {
	return s.update(ctx, "renew lease", epoch,
		`lease_until = clock_timestamp() + $3::int8 * interval '1 microsecond', state = $4`,
		argInt(lease.Microseconds()), arg(state))
}

// Release gives the lease back.
func (s *Sink) Release(ctx context.Context, epoch int64) error {
	return s.update(ctx, "release lease", epoch, `lease_until = NULL, holder = ''`)
}

// update changes the bridge's row under its epoch; $1 and $2 are taken.
func (s *Sink) update(ctx context.Context, what string, epoch int64, set string, args ...[]byte) error {
	found := false
	err := s.query(ctx, what, op{
		sql: "UPDATE walbridge.checkpoint AS k SET " + set + `, updated_at = now()
			WHERE k.name = $1 AND k.epoch = $2::int8 RETURNING 1`,
		args: append([][]byte{arg(s.name), argInt(epoch)}, args...),
		read: each(func([][]byte) error { found = true; return nil }),
	})
	if err != nil || found {
		return err
	}
	return s.notMine(ctx, what)
}

// notMine says why the row wasn't found under an epoch: there is another one, or
// no row at all.
func (s *Sink) notMine(ctx context.Context, what string) error {
	if _, err := s.Checkpoint(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, sink.ErrFenced)
}

// Copies returns the progress of the first copies.
func (s *Sink) Copies(ctx context.Context) ([]sink.CopyProgress, error) {
	var copies []sink.CopyProgress
	err := s.query(ctx, "read copy progress", op{
		sql:  "SELECT source, upto, pending, done, rows, tenants FROM walbridge.copies WHERE bridge = $1",
		args: [][]byte{arg(s.name)},
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			c := sink.CopyProgress{Source: d.text(), Upto: d.text()}
			pending := d.array()
			c.Done = d.text() == "t"
			c.Rows = d.int64()
			tenants := d.text()
			if d.err != nil {
				return d.err
			}
			for _, k := range pending {
				c.Pending = append(c.Pending, sink.Key(k.Text))
			}
			if err := json.Unmarshal([]byte(tenants), &c.Tenants); err != nil {
				return fmt.Errorf("read tenants of a copy: %w", err)
			}
			copies = append(copies, c)
			return nil
		}),
	})
	return copies, err
}

// decoder reads the columns of one result row in turn and keeps the first error.
type decoder struct {
	values [][]byte
	err    error
}

func (d *decoder) next() []byte {
	if len(d.values) == 0 {
		d.err = errNoRow
		return nil
	}
	v := d.values[0]
	d.values = d.values[1:]
	return v
}

func (d *decoder) text() string { return string(d.next()) }

// value is a column that may be null.
func (d *decoder) value() cdc.Value {
	v := d.next()
	if v == nil {
		return cdc.Value{}
	}
	return cdc.TextValue(string(v))
}

func (d *decoder) int64() int64 {
	n, err := strconv.ParseInt(d.text(), 10, 64)
	if err != nil && d.err == nil {
		d.err = errors.New("the server returned no whole number")
	}
	return n
}

func (d *decoder) lsn() cdc.LSN {
	l, err := pglogrepl.ParseLSN(d.text())
	if err != nil && d.err == nil {
		d.err = errors.New("the server returned no LSN")
	}
	return l
}

// link is empty without a chain.
func (d *decoder) link() (l sink.Link) {
	text := d.text()
	if text == "" {
		return l
	}
	l, err := sink.ParseLink(text)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("read the chain's head: %w", err)
	}
	return l
}

func (d *decoder) array() cdc.Row {
	row, err := parseArray(d.next())
	if err != nil && d.err == nil {
		d.err = err
	}
	return row
}
