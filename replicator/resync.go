package replicator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// A resync goes through the tables of the mapping, parents first, and holds each
// against the source, in steps. Each step but the last is a piece, see copyState:
//
//	rows     ranges of the source's rows are compared with the target's
//	gone     pages of the target's keys are looked up at the source
//	held     pages of the keys of held rows likewise
//	paths    pages of the keys of path values likewise
//	entries  the entries of the table are written
//
// The stream goes on meanwhile, and what it has touched that a piece's snapshot
// doesn't see is read again. How far the resync has come is stored with each
// piece, in the request's row.
const (
	stepRange   = "rows"
	stepGone    = "gone"
	stepHeld    = "held"
	stepPaths   = "paths"
	stepEntries = "entries"
	stepRepair  = "repair"
)

// nextStepOf is the order of the steps of a table.
var nextStepOf = map[string]string{stepRange: stepGone, stepGone: stepHeld, stepHeld: stepPaths, stepPaths: stepEntries}

// repairRows is how many keys a piece of a repair reads; scanPage how many keys a
// page has that the whole table is gone through for.
const (
	repairRows = 500
	scanPage   = 20_000
)

// resyncStep is what a piece of a resync is about.
type resyncStep struct {
	resync  *resync
	name    string
	mapping *mapping.Mapping
	// view and tenant narrow a range down to one tenant's rows.
	view   *mapping.View
	tenant string
	// parents: the rows that paths pass are read and compared along.
	parents bool
	// exist: only whether the keys are there is asked.
	exist bool
	// targets are target keys to be read. The page of which they are ends at after;
	// last says that there were no keys behind it.
	targets []sink.Key
	after   *sink.Key
	last    bool
}

// resync is a request of kind Resync or Repair at work.
type resync struct {
	id     int64
	args   request.ResyncArgs
	repair *request.RepairArgs
	// plan are the tables that are gone through.
	plan []*tableCopy
	p    resyncProgress
	// due: the next step needs no piece.
	due bool
	// said is when the log was last told.
	said time.Time
}

// resyncProgress is stored in the request's row.
type resyncProgress struct {
	request.CompareProgress
	// Source is the table at work.
	Source string `json:"source,omitempty"`
	// After is the end of the last range; Read says that it was the last of all.
	// Pending are source keys to be read again.
	After   []string   `json:"after,omitempty"`
	Read    bool       `json:"read,omitempty"`
	Pending []sink.Key `json:"pending,omitempty"`
	// Page is the end of the last page of keys; Last says that there were no keys
	// behind it. What the stream has written there since is right by itself, and a
	// resync that went after it would not end before the writers do. Again are target
	// keys to be read again, Next is how many keys of a repair have been asked for.
	Page  *sink.Key  `json:"page,omitempty"`
	Last  bool       `json:"last,omitempty"`
	Again []sink.Key `json:"again,omitempty"`
	Next  int        `json:"next,omitempty"`
	// Tenants are counted for the entries of the table, Seen are those of all.
	Tenants map[string]mapping.TenantCompared `json:"tenants,omitempty"`
	Seen    map[string]bool                   `json:"seen,omitempty"`
	// Anew is set when the bridge couldn't go on from where it was.
	Anew *anew `json:"anew,omitempty"`
}

func (p resyncProgress) clone() resyncProgress {
	p.Pending, p.Again = slices.Clone(p.Pending), slices.Clone(p.Again)
	p.Tenants, p.Seen = maps.Clone(p.Tenants), maps.Clone(p.Seen)
	return p
}

// count adds what a comparison has found.
func (p *resyncProgress) count(n *mapping.Compared) {
	p.Checked += n.Rows
	p.Written += n.Written
	p.Gone += n.Gone
	p.Held += n.Held
	p.Foreign += n.Foreign
	sum := mapping.Compared{Tenants: p.Tenants}
	sum.Add(&mapping.Compared{Tenants: n.Tenants})
	p.Tenants = sum.Tenants
	for tenant := range n.Tenants {
		p.see(tenant)
	}
}

func (p *resyncProgress) see(tenant string) {
	if p.Seen == nil {
		p.Seen = map[string]bool{}
	}
	p.Seen[tenant] = true
}

// encode is the progress as the request's row has it.
func (p *resyncProgress) encode() (string, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode progress: %w", err)
	}
	return string(text), nil
}

// newResync takes a request up, from where it was.
func (a *applier) newResync(req *sink.Request) (*resync, error) {
	r := &resync{id: req.ID, said: time.Now()}
	if req.Progress != "" {
		if err := json.Unmarshal([]byte(req.Progress), &r.p); err != nil {
			return nil, badRequest("progress", err)
		}
	}
	var err error
	if req.Kind == request.Repair {
		err = a.planRepair(r, req.Args)
	} else {
		err = a.planResync(r, req.Args)
	}
	if err != nil {
		return nil, err
	}
	if r.p.Anew != nil {
		for _, t := range r.plan {
			t.highest = max(t.highest, r.p.Anew.Highest[t.p.Source])
		}
	}
	if r.p.Source == "" && len(r.plan) > 0 {
		r.p.begin(r.plan[0])
	}
	a.copy.track()
	return r, nil
}

func (a *applier) planRepair(r *resync, args string) error {
	r.repair = &request.RepairArgs{}
	if err := json.Unmarshal([]byte(args), r.repair); err != nil {
		return badRequest("arguments", err)
	}
	if n := len(r.repair.Keys); n > request.MaxRepairKeys {
		return fault.Errorf(fault.Stop, "", "it names %d keys, and %d are the most", n, request.MaxRepairKeys)
	}
	if r.repair.Table == "" {
		return fault.Errorf(fault.Stop, "", "it names no table")
	}
	r.p.Total = int64(len(r.repair.Keys))
	return a.planTable(r, r.repair.Table)
}

func (a *applier) planResync(r *resync, args string) error {
	if err := json.Unmarshal([]byte(args), &r.args); err != nil {
		return badRequest("arguments", err)
	}
	if r.args.Table != "" {
		if err := a.planTable(r, r.args.Table); err != nil {
			return err
		}
	} else {
		r.plan = a.copy.tables
	}
	if r.p.Total = 0; r.args.Tenant == "" {
		for _, t := range r.plan {
			r.p.Total += max(t.estimate, 0)
		}
	}
	return nil
}

func (a *applier) planTable(r *resync, table string) error {
	if !strings.Contains(table, ".") {
		table = "public." + table
	}
	found, err := a.heldSources(table)
	if err != nil {
		return err
	}
	r.plan = []*tableCopy{a.copy.by[found[0]]}
	return nil
}

// begin turns to a table.
func (p *resyncProgress) begin(t *tableCopy) {
	p.Source, p.Step = t.p.Source, stepRange
	p.Table = t.p.Source
	if t.source.Target != nil {
		p.Table = t.source.Target.Table.FullName()
	}
	p.After, p.Read, p.Pending, p.Tenants = nil, false, nil, nil
	p.Page, p.Last, p.Again = nil, false, nil
}

// table is the one at work, nil at the end.
func (r *resync) table() *tableCopy {
	i := slices.IndexFunc(r.plan, func(t *tableCopy) bool { return t.p.Source == r.p.Source })
	if i < 0 {
		return nil
	}
	return r.plan[i]
}

// advance goes on to the table's next step.
func (r *resync) advance() {
	r.p.Step = nextStepOf[r.p.Step]
	r.p.Page, r.p.Last, r.p.Again = nil, false, nil
}

// ended is the table behind the last one.
const ended = "-"

// goOn turns p to the table behind the one at work, or to the end.
func (r *resync) goOn(p *resyncProgress) {
	i := slices.IndexFunc(r.plan, func(t *tableCopy) bool { return t.p.Source == p.Source })
	if i+1 < len(r.plan) {
		p.begin(r.plan[i+1])
	} else {
		p.Source, p.Table, p.Step = ended, "", ""
	}
}

// nextStep says what to read next for the request, nil when its next step needs
// no piece, or can't be had now.
func (a *applier) nextStep(ctx context.Context) *pieceRequest {
	r := a.task.resync
	for {
		req, ready, err := a.stepRequest(ctx, r)
		switch {
		case err != nil && fault.ClassOf(err) == fault.Retry:
			a.log.Debug("keys of a request not read", "request", r.id, "err", err)
			return nil
		case err != nil:
			a.fail(ctx, a.task.request, err)
			return nil
		case req != nil:
			return req
		case ready:
			r.due = true
			return nil
		}
		r.advance()
	}
}

// stepRequest is the next piece of the step, or says that the step is due that
// needs none. Without either the step is over.
func (a *applier) stepRequest(ctx context.Context, r *resync) (req *pieceRequest, due bool, err error) {
	t := r.table()
	if t == nil {
		return nil, true, nil
	}
	if r.repair != nil {
		return a.repairRequest(r, t)
	}
	s := t.source
	tenant := r.args.Tenant
	whole := r.args.Everything()
	step := &resyncStep{resync: r, name: r.p.Step, mapping: a.mapping, parents: !whole}
	switch r.p.Step {
	case stepRange:
		return a.rangeRequest(r, t, step), false, nil
	case stepGone:
		if s.Target == nil {
			return nil, false, nil
		}
		// Under the tenant may be rows of another one, whose values it must not see.
		step.exist = tenant == ""
		q := &sink.KeyQuery{Table: s.Target.Table}
		if tenant != "" {
			q.Tenant = &tenant
		}
		req, err = a.pageRequest(ctx, r, t, step, &sink.Query{Keys: q})
		return req, false, err
	case stepHeld:
		if s.Target == nil || tenant != "" || a.cp.Counters.Held == 0 {
			return nil, false, nil
		}
		step.exist = true
		req, err = a.pageRequest(ctx, r, t, step, &sink.Query{Held: &sink.HeldQuery{Table: s.Target.Table}})
		return req, false, err
	case stepPaths:
		if s.Node == nil || tenant != "" {
			return nil, false, nil
		}
		step.exist = true
		req, err = a.pageRequest(ctx, r, t, step, &sink.Query{Keys: &sink.KeyQuery{Node: s.Node}})
		return req, false, err
	}
	return nil, true, nil
}

// rangeRequest asks for the next rows of the source, and at the end for those that
// have to be read again.
func (a *applier) rangeRequest(r *resync, t *tableCopy, step *resyncStep) *pieceRequest {
	limit := min(a.opts.CopyRows, 500)
	switch {
	case r.p.Anew != nil:
		return nil // the copy has compared them
	case !r.p.Read:
		if r.args.Tenant != "" && t.source.Target != nil {
			step.view, step.tenant = a.mapping.View(t.source), r.args.Tenant
		}
		return &pieceRequest{table: t, step: step, after: r.p.After, limit: limit}
	case len(r.p.Pending) > 0:
		return &pieceRequest{table: t, step: step, keys: r.p.Pending[:min(len(r.p.Pending), maxReread)]}
	}
	return nil
}

// pageRequest asks about the next page of keys that the target has.
func (a *applier) pageRequest(ctx context.Context, r *resync, t *tableCopy, step *resyncStep, q *sink.Query) (*pieceRequest, error) {
	ofPaths := q.Keys != nil && q.Keys.Node != nil
	keys := r.p.Again
	step.after, step.last = r.p.Page, r.p.Last
	if len(keys) == 0 {
		if r.p.Last {
			return nil, nil
		}
		limit := a.opts.CopyRows
		switch {
		case !ofPaths && !t.source.KeysTell():
			limit = scanPage
		case !step.exist:
			limit = min(limit, repairRows)
		}
		var err error
		var more bool
		if keys, more, err = a.keys(ctx, q, r.p.Page, limit); err != nil || len(keys) == 0 {
			return nil, err
		}
		step.last = !more
		step.after = &keys[len(keys)-1]
	}
	if ofPaths {
		return &pieceRequest{table: t, step: step, keys: keys}, nil
	}
	step.targets = keys
	return &pieceRequest{table: t, step: step}, nil
}

// keys reads a page of keys behind after, and says whether there are more.
func (a *applier) keys(ctx context.Context, q *sink.Query, after *sink.Key, limit int) (page []sink.Key, more bool, err error) {
	tx, err := a.sink.Begin(ctx, a.cp.Epoch, a.cp.LSN, sink.TxOptions{Lease: a.opts.Lease})
	if err != nil {
		return nil, false, err
	}
	defer a.rollback(tx)
	if q.Held != nil {
		q.Held.After, q.Held.Limit = after, limit
	} else {
		q.Keys.After, q.Keys.Limit = after, limit
	}
	l, err := tx.Load(ctx, q)
	var reject *sink.RejectError
	if errors.As(err, &reject) && q.Keys != nil && q.Keys.Tenant != nil {
		return nil, false, fault.Wrap(fault.Stop, "", fmt.Errorf("%s is no value of the tenant's type (SQLSTATE %s)", strconv.Quote(*q.Keys.Tenant), reject.Code))
	}
	if err != nil {
		return nil, false, fmt.Errorf("read keys from the target: %w", err)
	}
	return append(l.Held, l.Keys...), l.MoreHeld || l.MoreKeys, nil
}

// repairRequest asks for the next keys of a repair.
func (a *applier) repairRequest(r *resync, t *tableCopy) (*pieceRequest, bool, error) {
	step := &resyncStep{resync: r, name: stepRepair, mapping: a.mapping, parents: true}
	switch next := r.p.Next; {
	case len(r.p.Again) > 0:
		step.targets = r.p.Again
	case next < len(r.repair.Keys):
		step.targets = r.repair.Keys[next:min(next+repairRows, len(r.repair.Keys))]
	default:
		return nil, true, nil
	}
	return &pieceRequest{table: t, step: step}, false, nil
}

// closeStep executes the step that needs no piece: the entries of a table, or the
// end of all. It returns the progress after it.
func (a *applier) closeStep(b *mapping.Batch, r *resync) (next resyncProgress, done bool, err error) {
	next = r.p.clone()
	now := time.Now()
	if t := r.table(); t != nil {
		if r.repair == nil {
			b.CopiedEntries(t.source, r.id, r.told(), a.cp.LSN, now)
		}
		r.goOn(&next)
	}
	if done = next.Source == ended; !done {
		return next, false, nil
	}
	if r.args.Tenant != "" && len(next.Seen) == 0 && next.Held == 0 {
		return next, false, fault.Errorf(fault.Stop, "", "neither source nor target has a row of tenant %s", strconv.Quote(r.args.Tenant))
	}
	if g := r.p.Anew; g != nil {
		b.GapEntries(r.id, slices.Sorted(maps.Keys(next.Seen)), g.From, a.cp.LSN, g.Why, now)
	}
	return resyncProgress{CompareProgress: next.CompareProgress, Source: ended}, true, nil
}

// told is what the entries of the table tell. Where the copy has compared the
// rows, it has made entries of its own.
func (r *resync) told() map[string]mapping.TenantCompared {
	if r.p.Anew == nil {
		return r.p.Tenants
	}
	rest := map[string]mapping.TenantCompared{}
	for tenant, n := range r.p.Tenants {
		if n.Gone > 0 {
			rest[tenant] = n
		}
	}
	return rest
}

// ours reports whether the bridge has written a row that the source hasn't any
// more. Where its key doesn't tell, only a history with a gap makes one likely:
// without it, every row that went has a mark or went here, too.
func (r *resync) ours(t *tableCopy, parts []string) bool {
	may, known := t.wrote(parts)
	return may || !known && r.p.Anew != nil
}

// anew is why a resync has to begin with everything, and what it needs to know of
// before.
type anew struct {
	From cdc.LSN `json:"from"`
	Why  string  `json:"why"`
	// Lost: changes of the source are missing from the stream. System is the source
	// that it goes on with.
	Lost   bool   `json:"lost,omitempty"`
	System string `json:"system"`
	// Fingerprint is that of the mapping that the private rows are laid out for.
	Fingerprint string `json:"fingerprint"`
	// Highest are the highest keys that the bridge had met.
	Highest map[string]int64 `json:"highest,omitempty"`
}
