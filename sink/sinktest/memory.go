// Package sinktest holds what tests of and over sinks need: Memory, a sink that
// keeps everything in this process, and Exercise, the conformance suite that
// every sink passes, Memory included.
package sinktest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Memory is a target in memory: what a database is to the other sinks. Open
// returns sinks that share it. It may be used from several goroutines.
//
// Like a database it knows the columns' types, as far as whole numbers and NOT
// NULL go, and unique constraints; other values are taken as they are.
type Memory struct {
	mu          sync.Mutex
	data        data
	checkpoints map[string]*checkpoint
	unique      []uniqueColumn
	faults      map[Op][]fault
	reject      func(table *sink.Table, row cdc.Row) (sqlstate string)
	now         func() time.Time
}

// checkpoint is a row of walbridge.checkpoint with the end of its lease and the
// time of its last write.
type checkpoint struct {
	sink.Checkpoint
	until, written time.Time
	// open is the batch that is under way.
	open *memoryTx
}

type uniqueColumn struct{ table, column string }

// NewMemory returns an empty target.
func NewMemory() *Memory {
	return &Memory{
		data:        newData(),
		checkpoints: make(map[string]*checkpoint),
		faults:      make(map[Op][]fault),
		now:         time.Now,
	}
}

// Open returns another instance of the bridge name.
func (m *Memory) Open(name string) sink.Sink { return &memorySink{m: m, name: name} }

// Rows returns the committed rows of table, with its columns.
func (m *Memory) Rows(table *sink.Table) map[sink.Key]cdc.Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := make(map[sink.Key]cdc.Row)
	for k, r := range m.data.rows {
		if k.table == table.FullName() {
			rows[k.key] = r.project(table)
		}
	}
	return rows
}

// Entries returns the committed entries of an audit table, in no order.
func (m *Memory) Entries(table *sink.EntryTable) []sink.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []sink.Entry
	for k, e := range m.data.entries {
		if k.table == table.Schema+"."+table.Name {
			entries = append(entries, e)
		}
	}
	return entries
}

// Put writes a row as somebody else.
func (m *Memory) Put(table *sink.Table, row cdc.Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data.rows[id{table: table.FullName(), key: table.KeyOf(row)}] = named(table, row)
}

// Remove deletes a row as somebody else.
func (m *Memory) Remove(table *sink.Table, key sink.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data.rows, id{table: table.FullName(), key: key})
}

// Unique puts a unique constraint on a column of a table.
func (m *Memory) Unique(table *sink.Table, column string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unique = append(m.unique, uniqueColumn{table.FullName(), column})
}

// Wipe forgets everything, as a target does that was made anew.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = newData()
	m.checkpoints = make(map[string]*checkpoint)
}

// id names a row of any kind. bridge is empty for the mapped tables and the
// audit log, which no bridge owns.
type id struct {
	bridge, table string
	key           sink.Key
}

// namedRow is a row by column name, so that mappings with different columns can
// share a table.
type namedRow map[string]cdc.Value

func named(table *sink.Table, row cdc.Row) namedRow {
	r := make(namedRow, len(row))
	for i, v := range row {
		r[table.Columns[i].Name] = v
	}
	return r
}

func (r namedRow) project(table *sink.Table) cdc.Row {
	row := make(cdc.Row, len(table.Columns))
	for i, c := range table.Columns {
		row[i] = r[c.Name]
	}
	return row
}

// data is everything but the checkpoints. Rows in it are never changed in place.
type data struct {
	rows    map[id]namedRow
	held    map[id]sink.HeldRow
	paths   map[id]sink.PathRow
	marks   map[id]cdc.LSN
	copies  map[id]sink.CopyProgress
	entries map[id]sink.Entry
	// requests are keyed by their ids.
	requests map[id]sink.Request
	// alerts are in the order in which they were raised; thresholds are tenants' own.
	alerts     []sink.Alert
	thresholds map[string]time.Duration
}

func newData() data {
	return data{
		rows: make(map[id]namedRow), held: make(map[id]sink.HeldRow), paths: make(map[id]sink.PathRow),
		marks: make(map[id]cdc.LSN), copies: make(map[id]sink.CopyProgress), entries: make(map[id]sink.Entry),
		requests: make(map[id]sink.Request), thresholds: make(map[string]time.Duration),
	}
}

// memorySink is one instance of a bridge.
type memorySink struct {
	m      *Memory
	name   string
	schema *sink.Schema
}

var _ sink.Sink = (*memorySink)(nil)

func (s *memorySink) Install(_ context.Context, schema *sink.Schema, _ bool) ([]string, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpInstall); err != nil {
		return nil, err
	}
	s.schema = schema
	return nil, nil
}

func (s *memorySink) Checkpoint(context.Context) (sink.Checkpoint, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpCheckpoint); err != nil {
		return sink.Checkpoint{}, err
	}
	c := s.m.checkpoints[s.name]
	if c == nil {
		return sink.Checkpoint{}, sink.ErrNoCheckpoint
	}
	return s.m.view(c), nil
}

// view is the row as a reader sees it.
func (m *Memory) view(c *checkpoint) sink.Checkpoint {
	row := c.Checkpoint
	if !c.until.IsZero() {
		row.LeaseLeft = c.until.Sub(m.now())
	}
	row.Age = m.now().Sub(c.written)
	return row
}

func (s *memorySink) Acquire(_ context.Context, holder string, lease time.Duration, force bool) (sink.Checkpoint, error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.strike(OpAcquire); err != nil {
		return sink.Checkpoint{}, err
	}
	c := m.checkpoints[s.name]
	switch {
	case c == nil:
		c = &checkpoint{Checkpoint: sink.Checkpoint{Name: s.name, SchemaVersion: 1}}
		m.checkpoints[s.name] = c
	case !force && c.Holder != holder && m.view(c).LeaseLeft > 0:
		return m.view(c), sink.ErrStandby
	}
	if c.open != nil { // a database would wait for it, or end it
		c.open.failure = sink.ErrFenced
		c.open = nil
	}
	c.Epoch++
	c.Holder = holder
	c.written = m.now()
	c.until = c.written.Add(lease)
	return m.view(c), nil
}

// mine returns the row if epoch is its own.
func (s *memorySink) mine(epoch int64) (*checkpoint, error) {
	c := s.m.checkpoints[s.name]
	switch {
	case c == nil:
		return nil, sink.ErrNoCheckpoint
	case c.Epoch != epoch:
		return nil, sink.ErrFenced
	case c.open != nil:
		return nil, errOpen
	}
	return c, nil
}

var errOpen = errors.New("a batch is open on this sink")

func (s *memorySink) Store(_ context.Context, epoch int64, origin sink.Origin, lsn cdc.LSN) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpStore); err != nil {
		return err
	}
	c, err := s.mine(epoch)
	if err != nil {
		return err
	}
	if c.Origin.Incarnation != origin.Incarnation {
		c.Heartbeat = sink.Heartbeat{}
	}
	c.Origin, c.LSN, c.written = origin, lsn, s.m.now()
	return nil
}

func (s *memorySink) Renew(_ context.Context, epoch int64, lease time.Duration, state string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpRenew); err != nil {
		return err
	}
	c, err := s.mine(epoch)
	if err != nil {
		return err
	}
	c.written, c.State = s.m.now(), state
	c.until = c.written.Add(lease)
	return nil
}

func (s *memorySink) Release(_ context.Context, epoch int64) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpRelease); err != nil {
		return err
	}
	c, err := s.mine(epoch)
	if err != nil {
		return err
	}
	c.Holder, c.until, c.written = "", time.Time{}, s.m.now()
	return nil
}

func (s *memorySink) Copies(context.Context) ([]sink.CopyProgress, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpCopies); err != nil {
		return nil, err
	}
	var copies []sink.CopyProgress
	for k, c := range s.m.data.copies {
		if k.bridge == s.name {
			copies = append(copies, cloneCopy(c))
		}
	}
	return copies, nil
}

func cloneCopy(c sink.CopyProgress) sink.CopyProgress {
	c.Pending = slices.Clone(c.Pending)
	c.Tenants = maps.Clone(c.Tenants)
	if c.Tenants == nil {
		c.Tenants = map[string]int64{}
	}
	return c
}

func (s *memorySink) Close(context.Context) error { return nil }

func (s *memorySink) Begin(_ context.Context, epoch int64, from cdc.LSN, opts sink.TxOptions) (sink.Tx, error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.strike(OpBegin); err != nil {
		return nil, err
	}
	c, err := s.mine(epoch)
	if err != nil {
		return nil, err
	}
	if c.LSN != from {
		return nil, &sink.StaleError{Want: from, Got: m.view(c)}
	}
	t := &memoryTx{s: s, c: c, from: from, opts: opts, data: newOverlay(&m.data)}
	c.open = t
	return t, nil
}

// isWhole reports whether v is a value of a whole-number type.
func isWhole(v cdc.Value, bits int) bool {
	_, err := strconv.ParseInt(v.Text, 10, bits)
	return err == nil
}
