package sinktest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/sink"
)

// Ask makes a request as a command does, and returns its id.
func (m *Memory) Ask(bridge, kind, args string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := int64(len(m.data.requests)) + 1
	m.data.requests[requestID(bridge, n)] = sink.Request{ID: n, Kind: kind, Args: args, State: sink.RequestNew}
	return n
}

// Request returns a committed request, which must be there.
func (m *Memory) Request(id int64) sink.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.data.requests {
		if r.ID == id {
			return r
		}
	}
	panic(fmt.Sprintf("sinktest: there is no request %d", id))
}

func requestID(bridge string, n int64) id { return id{bridge: bridge, key: sink.Key(fmt.Sprint(n))} }

func isOpen(r sink.Request) bool {
	return r.State == sink.RequestNew || r.State == sink.RequestRunning
}

func (s *memorySink) Requests(context.Context) ([]sink.Request, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpRequests); err != nil {
		return nil, err
	}
	var open []sink.Request
	for k, r := range s.m.data.requests {
		if k.bridge == s.name && isOpen(r) {
			open = append(open, r)
		}
	}
	slices.SortFunc(open, func(a, b sink.Request) int { return cmp.Compare(a.ID, b.ID) })
	return open, nil
}

func (s *memorySink) Report(_ context.Context, epoch int64, r sink.Request) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.m.strike(OpReport); err != nil {
		return err
	}
	if _, err := s.mine(epoch); err != nil {
		return err
	}
	k := requestID(s.name, r.ID)
	old, ok := s.m.data.requests[k]
	if !ok || !isOpen(old) {
		return sink.ErrNoRequest
	}
	s.m.data.requests[k] = reported(old, r)
	return nil
}

// reported is a request with what the bridge may change of it.
func reported(old, r sink.Request) sink.Request {
	old.State, old.Progress, old.Error = r.State, r.Progress, r.Error
	return old
}

func (t *memoryTx) putRequests(requests []sink.Request) error {
	for _, r := range requests {
		k := requestID(t.s.name, r.ID)
		old, ok := t.data.requests.get(k)
		if !ok || !isOpen(old) {
			return &sink.MissingError{Table: "walbridge.requests", Want: 1}
		}
		t.data.requests.put(k, reported(old, r))
	}
	return nil
}
