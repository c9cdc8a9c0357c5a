package replicator

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
)

// pieceExchange is the apply goroutine's side of the reader of pieces. One piece
// waits for its marker in the stream while the reader may be at the next one.
type pieceExchange struct {
	requests   chan *pieceRequest
	results    chan *pieceRead
	generation int
	// awaited have been asked for and not been applied, in order: at most two.
	awaited []*pieceRequest
}

func newPieceExchange() *pieceExchange {
	return &pieceExchange{requests: make(chan *pieceRequest, 2), results: make(chan *pieceRead, 1)}
}

func (x *pieceExchange) send(r *pieceRequest) {
	r.token = newToken()
	r.generation = x.generation
	x.awaited = append(x.awaited, r)
	x.requests <- r // never blocks: there are at most two, and room for two
}

// expects reports whether token marks the piece that is due.
func (x *pieceExchange) expects(token string) bool {
	return token != "" && len(x.awaited) > 0 && x.awaited[0].token == token
}

// receive waits for the piece that is due: the stream stands still at its marker
// until it has been read. Then it asks for the next part of the same table, so
// that it is read while this one is being applied. It returns nil for a piece
// that is no longer wanted.
func (x *pieceExchange) receive(ctx context.Context, c *copyState, limit int) (*pieceRead, error) {
	req := x.awaited[0]
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case p := <-x.results:
		x.awaited = x.awaited[1:]
		if req.generation != x.generation {
			return nil, nil
		}
		if req.ranged() && p.err == nil && !p.end && len(x.awaited) == 0 && len(p.rows) > 0 {
			x.send(&pieceRequest{table: req.table, step: req.step, after: p.last(), limit: p.nextLimit(limit)})
		}
		return p, nil
	}
}

// ranged reports whether the request is for a range of keys, with another behind
// it.
func (r *pieceRequest) ranged() bool {
	return r.keys == nil && (r.step == nil || r.step.targets == nil)
}

// pieceBytes is about how much a piece may take in memory.
const pieceBytes = 4 << 20

// nextLimit sizes the next piece by the width of this one's rows.
func (p *pieceRead) nextLimit(limit int) int {
	if p.bytes == 0 || len(p.rows) == 0 {
		return limit
	}
	return max(1, min(limit, pieceBytes/(p.bytes/len(p.rows)+1)))
}

// ask requests the next piece if none is under way.
func (a *applier) ask(ctx context.Context) {
	if a.large != nil || len(a.pieces.awaited) > 0 || !a.proven() {
		return
	}
	var r *pieceRequest
	switch {
	case a.copy.active():
		// The first piece of a table is small, because nothing is known about the
		// width of its rows.
		r = a.copy.next(min(a.opts.CopyRows, 500))
	case a.task != nil && a.task.resync != nil && !a.task.stale:
		r = a.nextStep(ctx)
	}
	if r != nil {
		r.settle, a.copy.lost = a.copy.lost, false
		a.pieces.send(r)
	}
}

// applyPiece brings a piece to the target behind the group that ends with its
// marker, and returns what is to be done when it has been committed.
func (a *applier) applyPiece(ctx context.Context, b *mapping.Batch, p *pieceRead, at *cdc.Transaction) (settle func(), err error) {
	if p.request.step != nil {
		return a.applyStep(ctx, b, p, at)
	}
	k, ok := a.copy.take(p)
	if !ok {
		return a.voidPiece, nil
	}
	settle = func() { a.settlePiece(p, k) }
	s := p.request.table.source
	rows := make([]cdc.Row, len(k.rows))
	for i := range k.rows {
		rows[i] = k.rows[i].row
	}
	piece := &mapping.Piece{
		Source: s, Rows: rows, Compare: p.met || !p.request.table.fresh,
		Progress: &k.progress, Commit: at.Commit, Time: at.Time, Finish: k.finish,
	}
	if err := b.Piece(ctx, piece); err != nil {
		return nil, err
	}
	if a.task == nil || a.task.resync == nil || a.task.resync.p.Anew == nil {
		return settle, nil
	}
	return a.copiedAnew(b, piece, settle)
}

// voidPiece has a piece read again, and what follows it.
func (a *applier) voidPiece() { a.pieces.generation++ }

// settlePiece takes over the progress of a piece that has been committed.
func (a *applier) settlePiece(p *pieceRead, k *taken) {
	t := p.request.table
	a.copy.keep(t, k)
	a.publishCopy()
	if k.finish {
		a.log.Info("table copied", "table", t.p.Source, "rows", t.p.Rows)
	}
	if k.finish && !a.copy.active() {
		a.log.Info("first copy finished")
	}
}
