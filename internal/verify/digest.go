package verify

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// both asks source and target at once. Where one of them finds that it was asked for
// too much, the other may finish: a question that is broken off takes its connection
// along, and both are asked again, for less.
func both(ctx context.Context, source, target func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	for _, ask := range []func(context.Context) error{source, target} {
		g.Go(func() error {
			err := ask(ctx)
			if err != nil && !fault.TooLarge(err) {
				cancel()
			}
			return err
		})
	}
	return g.Wait()
}

func (w *tableWorker) targetRange(sp span) *sink.Range {
	return &sink.Range{Table: w.table, After: sp.after, Upto: sp.upto, Tenant: w.tenant(), Parts: w.parts}
}

func (w *tableWorker) sourceRange(sp span) mapping.ViewRange {
	return mapping.ViewRange{After: sp.after, Upto: sp.upto, Tenant: w.tenant()}
}

// compareSums compares the digests of a span, and counts its rows if they are
// equal.
func (w *tableWorker) compareSums(ctx context.Context, sp span) (same bool, err error) {
	var want, got []sink.Sum
	err = both(ctx, func(ctx context.Context) error {
		sql, args := w.view.SumsSQL(w.sourceRange(sp))
		return w.pair.source.rows(ctx, sql, args, func(row cdc.Row) error {
			n, err := strconv.ParseInt(row[1].Text, 10, 64)
			want = append(want, sink.Sum{Tenant: row[0], Rows: n, Hash: row[2].Text})
			return err
		})
	}, func(ctx context.Context) (err error) {
		got, err = w.target.Sums(ctx, w.targetRange(sp))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("digest rows: %w", err)
	}
	tenants := make(map[cdc.Value]sink.Sum, len(want))
	var none int64
	for _, s := range want {
		if !s.Tenant.IsNull() {
			tenants[s.Tenant] = s
			continue
		}
		if none = s.Rows; w.spec.WithoutTenant != mapping.Drop {
			return false, nil // they should be held
		}
	}
	for _, s := range got {
		if tenants[s.Tenant] != s {
			return false, nil
		}
	}
	if len(got) != len(tenants) {
		return false, nil
	}
	w.countSums(got, none)
	return true, nil
}

func (w *tableWorker) countSums(sums []sink.Sum, dropped int64) {
	rows := dropped
	w.mu.Lock()
	for _, s := range sums {
		c := w.out.tenant(s.Tenant.Text)
		c.Compared += s.Rows
		c.Equal += s.Rows
		rows += s.Rows
	}
	if dropped > 0 {
		w.out.tenant(NoTenant).Dropped += dropped
	}
	w.mu.Unlock()
	w.progress(rows)
}

// hashed is a row of the source by its hash.
type hashed struct {
	tenant cdc.Value
	hash   int64
	from   []string
}

// compareHashes compares a span row by row, page by page.
func (w *tableWorker) compareHashes(ctx context.Context, sp span) error {
	for {
		limit := w.page
		page, last, err := w.sourceHashes(ctx, sp, limit)
		if w.turn(err) {
			continue
		}
		if err != nil {
			return err
		}
		part := span{after: sp.after, upto: sp.upto}
		if len(page) == limit {
			part.upto = last
		}
		n := int64(len(page))
		if err := w.comparePage(ctx, part, page); err != nil {
			return err
		}
		w.progress(n)
		if int(n) < limit {
			return nil
		}
		sp.after = last
	}
}

// sourceHashes reads the hashes of the first rows of a span at the source.
func (w *tableWorker) sourceHashes(ctx context.Context, sp span, limit int) (rows map[sink.Key]hashed, last []string, err error) {
	rows = make(map[sink.Key]hashed)
	r := w.sourceRange(sp)
	r.Limit = limit
	sql, args := w.view.HashesSQL(r)
	err = w.pair.source.rows(ctx, sql, args, func(row cdc.Row) error {
		last = texts(row[2:])
		hash, err := strconv.ParseInt(row[1].Text, 10, 64)
		rows[sink.EncodeKey(last...)] = hashed{row[0], hash, last}
		return err
	})
	return rows, last, err
}

// comparePage compares the rows of a span with the target's.
func (w *tableWorker) comparePage(ctx context.Context, sp span, rows map[sink.Key]hashed) error {
	sums := map[cdc.Value]int64{}
	for {
		r := w.targetRange(sp)
		list, err := w.hashes(ctx, r)
		if err != nil {
			return err
		}
		for _, row := range list {
			want, ok := rows[row.Key]
			delete(rows, row.Key)
			if ok && want.hash == row.Hash && want.tenant == row.Tenant && !row.Tenant.IsNull() {
				sums[row.Tenant]++
				continue
			}
			from, err := row.Key.Split(len(w.table.Key))
			if err != nil {
				return err
			}
			if err := w.doubt(ctx, row.Key, from); err != nil {
				return err
			}
		}
		if len(list) < r.Limit {
			break
		}
		if sp.after, err = list[len(list)-1].Key.Split(len(w.table.Key)); err != nil {
			return err
		}
	}
	var dropped int64
	for key, row := range rows {
		if row.tenant.IsNull() && w.spec.WithoutTenant == mapping.Drop {
			dropped++
			continue
		}
		if err := w.doubt(ctx, key, row.from); err != nil {
			return err
		}
	}
	w.countEqual(sums, dropped)
	return nil
}

func (w *tableWorker) countEqual(rows map[cdc.Value]int64, dropped int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if dropped > 0 {
		w.out.tenant(NoTenant).Dropped += dropped
	}
	for tenant, n := range rows {
		c := w.out.tenant(tenant.Text)
		c.Compared += n
		c.Equal += n
	}
}
