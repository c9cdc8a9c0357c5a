package status

import "time"

// How often the history has a sample, and how many it has.
const (
	SampleEvery = 5 * time.Second
	recentKept  = 15 * 60 / 5
	// DayEvery is how far apart the samples of a day are. Each has the largest lag
	// of its time, so that no peak is lost.
	DayEvery = 5 * time.Minute
	dayKept  = 24 * 60 / 5
	// rateOver is what rates are measured over.
	rateOver = time.Minute
)

// Sample is how things stood at one moment, or within the time that begins there.
type Sample struct {
	At         time.Time `json:"at"`
	State      Phase     `json:"state"`
	LagSeconds float64   `json:"lag_seconds"`
	LagBytes   int64     `json:"lag_bytes"`
	// RowRate and TxRate are rows and transactions a second since the sample before.
	RowRate float64 `json:"rows_per_second"`
	TxRate  float64 `json:"transactions_per_second"`
	// rows and transactions are totals, n how many samples are in this one.
	rows, transactions, n int64
}

// History is what a bridge remembers of its last minutes and of its last day,
// oldest first. It is kept in memory and begins anew with the process.
type History struct {
	Recent []Sample `json:"recent"`
	Day    []Sample `json:"day"`
}

// Record adds a sample of now to the history. Whoever shows the history calls it
// every SampleEvery.
func (s *State) Record() {
	n := s.Snapshot()
	now := Sample{At: time.Now(), State: n.State, LagSeconds: n.LagSeconds, LagBytes: n.LagBytes, rows: n.Written, transactions: n.Transactions, n: 1}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.history
	if i := len(h.Recent) - 1; i >= 0 {
		now.RowRate, now.TxRate = now.rates(&h.Recent[i])
	}
	h.Recent = keep(append(h.Recent, now), recentKept)
	if i := len(h.Day) - 1; i >= 0 && h.Day[i].At.Equal(now.At.Truncate(DayEvery)) {
		h.Day[i].merge(&now)
		return
	}
	now.At = now.At.Truncate(DayEvery)
	h.Day = keep(append(h.Day, now), dayKept)
}

// History returns a copy that nobody changes.
func (s *State) History() History {
	s.mu.Lock()
	defer s.mu.Unlock()
	return History{Recent: append([]Sample{}, s.history.Recent...), Day: append([]Sample{}, s.history.Day...)}
}

// rates returns how many rows and transactions a second came since before.
func (s *Sample) rates(before *Sample) (rows, transactions float64) {
	seconds := s.At.Sub(before.At).Seconds()
	if seconds <= 0 {
		return 0, 0
	}
	return float64(s.rows-before.rows) / seconds, float64(s.transactions-before.transactions) / seconds
}

// merge takes the largest lag, the mean of the rates, and the worst state.
func (s *Sample) merge(o *Sample) {
	s.LagSeconds, s.LagBytes = max(s.LagSeconds, o.LagSeconds), max(s.LagBytes, o.LagBytes)
	s.RowRate += (o.RowRate - s.RowRate) / float64(s.n+1)
	s.TxRate += (o.TxRate - s.TxRate) / float64(s.n+1)
	s.n++
	if s.State.Ready() && !o.State.Ready() || o.State == Blocked {
		s.State = o.State
	}
}

func keep(list []Sample, n int) []Sample {
	if len(list) <= n {
		return list
	}
	return append(list[:0], list[len(list)-n:]...)
}

// pace puts the rates of the last minute into a snapshot: since the oldest sample
// that is young enough.
func (h *History) pace(n *Snapshot, now time.Time) {
	for i := range h.Recent {
		if then := &h.Recent[i]; now.Sub(then.At) <= rateOver {
			if now.Sub(then.At) < time.Second {
				return // too short a time to speak of a rate
			}
			at := Sample{At: now, rows: n.Written, transactions: n.Transactions}
			n.RowRate, n.TxRate = at.rates(then)
			return
		}
	}
}
