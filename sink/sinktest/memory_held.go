package sinktest

import (
	"cmp"
	"context"
	"slices"

	"github.com/walbridge/walbridge/sink"
)

// Held counts held rows.
func (s *memorySink) Held(context.Context) ([]sink.HeldCount, error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.strike(OpHeld); err != nil {
		return nil, err
	}
	var counts []sink.HeldCount
	for k, h := range m.data.held {
		if k.bridge != s.name {
			continue
		}
		i := slices.IndexFunc(counts, func(c sink.HeldCount) bool { return c.Table == k.table && c.Reason == h.Reason })
		if i < 0 {
			i = len(counts)
			counts = append(counts, sink.HeldCount{Table: k.table, Reason: h.Reason})
		}
		counts[i].Rows++
	}
	slices.SortFunc(counts, func(a, b sink.HeldCount) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Reason, b.Reason))
	})
	return counts, nil
}
