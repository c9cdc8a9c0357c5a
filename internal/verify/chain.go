package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Head is the end of the chain as it was at some time, kept where whoever can
// write to the target can't.
type Head struct {
	N    int64
	Link sink.Link
}

// ParseHead reads a head as it is published, "1042:" and the link.
func ParseHead(text string) (h Head, err error) {
	n, link, _ := strings.Cut(text, ":")
	if h.N, err = strconv.ParseInt(n, 10, 64); err == nil && h.N > 0 {
		if h.Link, err = sink.ParseLink(link); err == nil {
			return h, nil
		}
	}
	return h, errors.New("a head is a number, a colon and 43 characters, as the bridge's log and its status show it")
}

// ChainOptions say what is known about the log beside what it says itself.
type ChainOptions struct {
	// First is the number of the oldest entry that must be there; 1 if 0.
	First int64
	// Heads are those that were published earlier.
	Heads []Head
	// Progress, unless nil, is told how far the walk has come.
	Progress func(Progress)
}

// ChainReport is what was found about the chain over the audit log.
type ChainReport struct {
	// From and Head are the numbers of its first and last entry by the checkpoint,
	// Link is that of the last one.
	From int64  `json:"from"`
	Head int64  `json:"head"`
	Link string `json:"link"`
	// Linked entries are in the chain, Unlinked ones between them or behind them were
	// made while it was off. Forgotten are those whose values a forget has taken.
	Linked    int64 `json:"linked"`
	Unlinked  int64 `json:"unlinked"`
	Forgotten int64 `json:"forgotten"`
	// Breaks counts the places where the log isn't what was written. First is the
	// number of the first entry that is altered or missing, Why what is wrong there.
	Breaks int64  `json:"breaks"`
	First  int64  `json:"first_bad,omitempty"`
	Why    string `json:"why,omitempty"`
}

// OK reports whether the log is what was written.
func (r *ChainReport) OK() bool { return r.Breaks == 0 }

func (r *ChainReport) String() string {
	text := fmt.Sprintf("%d entries linked from n = %d on", r.Linked, r.From)
	if r.Forgotten > 0 {
		text += fmt.Sprintf(", %d of them emptied by forget", r.Forgotten)
	}
	if r.Unlinked > 0 {
		text += fmt.Sprintf(", %d others written while it was off", r.Unlinked)
	}
	if !r.OK() {
		places := "places"
		if r.Breaks == 1 {
			places = "place"
		}
		return fmt.Sprintf("%s; BROKEN in %d %s, first at n = %d: %s", text, r.Breaks, places, r.First, r.Why)
	}
	return fmt.Sprintf("%s, none altered, head %d:%s", text, r.Head, r.Link)
}

// found notes a place where the chain is broken.
func (r *ChainReport) found(n int64, why string, args ...any) {
	if r.Breaks++; r.First == 0 || n < r.First {
		r.First, r.Why = n, fmt.Sprintf(why, args...)
	}
}

// Chain walks the chain over a connection, as ReadChain does over a reader.
func Chain(ctx context.Context, m *mapping.Mapping, target *pgx.Conn, name string) (*ChainReport, error) {
	return ReadChain(ctx, m, postgres.NewReader(target.PgConn(), cmp.Or(name, DefaultName), m.Schema), ChainOptions{})
}

// ReadChain goes through the bridge's entries in their order and holds each against
// its link, up to the head that the checkpoint has. The bridge may be at work. It
// returns nil where no entry was ever linked, unless a head says that one was.
func ReadChain(ctx context.Context, m *mapping.Mapping, target sink.Reader, opts ChainOptions) (*ChainReport, error) {
	if m.Schema.Entries == nil {
		return nil, nil
	}
	w := &chainWalk{target: target, opts: opts, heads: slices.Clone(opts.Heads)}
	slices.SortFunc(w.heads, func(a, b Head) int { return cmp.Compare(a.N, b.N) })
	end, err := w.end(ctx)
	if err != nil || end.Chain.Head == 0 && len(w.heads) == 0 {
		return nil, err
	}
	w.start = max(end.Chain.From, opts.First, 1)
	w.due, w.trust = w.start, w.start > max(end.Chain.From, 1)
	for len(w.heads) > 0 && w.heads[0].N < w.start {
		if n := w.heads[0].N; n < end.Chain.From {
			w.report.found(n, "it was the chain's head once, and by the checkpoint the chain begins later")
		}
		w.heads = w.heads[1:]
	}
	for {
		if err := w.walk(ctx, end.Chain); err != nil {
			return nil, pg.Safe(err)
		}
		// What has been emptied meanwhile is accounted for by then.
		later, err := w.end(ctx)
		if err != nil {
			return nil, err
		}
		if w.blank.first() < 0 || later.Chain.Head == end.Chain.Head {
			break
		}
		end = later
	}
	w.finish(&end)
	return &w.report, nil
}

// chainWalk is one walk through the log.
type chainWalk struct {
	target sink.Reader
	opts   ChainOptions
	// heads are those that the walk has yet to come to.
	heads  []Head
	reader mapping.LinkReader
	report ChainReport

	// at is the last entry of the chain so far, due the number of the next one.
	// start is the first that is looked at; trust says that nothing is known about
	// what the first one follows.
	at         sink.Chain
	due, start int64
	trust      bool
	// loose are entries without a link since the last one that has one, bare says
	// that the one which is due is among them.
	loose int64
	bare  bool
	// blank are emptied entries that no entry accounts for so far, by their
	// distance from start.
	blank bits
}

// end is where the log ends by the checkpoint.
func (w *chainWalk) end(ctx context.Context) (sink.Counters, error) {
	p, err := w.target.Position(ctx)
	return p.Counters, pg.Safe(err)
}

// walk goes on up to the head.
func (w *chainWalk) walk(ctx context.Context, end sink.Chain) error {
	pages := make(chan entryPage)
	g, ctx := errgroup.WithContext(ctx)
	after := w.due - 1
	g.Go(func() error {
		defer close(pages)
		return w.read(ctx, after, end.Head, pages)
	})
	for p := range pages {
		for i := range p.entries {
			w.entry(&p.entries[i])
		}
		if w.opts.Progress != nil {
			w.opts.Progress(Progress{Table: "audit log", Rows: p.upto - w.start + 1, Estimate: end.Head - w.start + 1})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	switch {
	case w.at.Head < end.Head:
		w.missing(fmt.Sprintf(", and so is what follows up to n = %d", end.Head))
		w.at, w.due = end, end.Head+1
	case w.at.Link != end.Link:
		w.report.found(end.Head, "its link isn't the one that the checkpoint has: the log, or its end, has been made anew")
		w.at.Link = end.Link
	}
	return nil
}

// entryPage are the entries up to a number.
type entryPage struct {
	entries []sink.Entry
	upto    int64
}

// read reads a page while the one before is gone through.
func (w *chainWalk) read(ctx context.Context, after, upto int64, pages chan<- entryPage) error {
	for after < upto {
		entries, next, err := w.target.Numbered(ctx, after, upto)
		if err != nil {
			return err
		}
		after = next
		select {
		case pages <- entryPage{entries, next}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// missing notes that the entry which is due isn't where it belongs.
func (w *chainWalk) missing(more string) {
	why := "it is missing"
	if w.bare {
		why = "it has lost its link"
	}
	w.report.found(w.due, "%s%s", why, more)
}

// entry takes the next one, in the order of their numbers.
func (w *chainWalk) entry(e *sink.Entry) {
	l, err := w.reader.Read(e)
	switch {
	case err == nil && !l.Linked:
		w.loose++
		w.bare = w.bare || l.N == w.due
		return
	case l.N < w.due:
		w.report.found(l.N, "there is more than one entry with that number")
		return
	case err == nil && (w.trust || l.Follows(&w.at)):
		w.report.Unlinked += w.loose
		w.account(&l)
	case l.N > w.due:
		w.missing("")
	case err != nil:
		w.report.found(l.N, "%v", err)
	default:
		w.report.found(l.N, "it isn't as it was written, or the link of the one before it isn't")
	}
	w.report.Linked++
	// What follows an entry that says nothing of its place can't be judged.
	w.trust, w.loose, w.bare = l.Link == sink.Link{}, 0, false
	w.at.Head, w.at.Link, w.due = l.N, l.Link, l.N+1
	w.compareHeads()
}

// account keeps track of which entries were emptied, and which of them are said to
// have been.
func (w *chainWalk) account(l *mapping.Linked) {
	if l.Forgotten {
		w.report.Forgotten++
		w.blank.set(l.N - w.start)
	}
	for _, n := range l.Emptied {
		w.blank.clear(n - w.start)
	}
}

// compareHeads holds the entry at which the walk is against the head that was
// published when it was the last one.
func (w *chainWalk) compareHeads() {
	for len(w.heads) > 0 && w.heads[0].N <= w.at.Head {
		switch h := w.heads[0]; {
		case h.N < w.at.Head:
			w.report.found(h.N, "it was the head once, and is missing or has lost its link")
		case h.Link != w.at.Link:
			w.report.found(h.N, "it isn't the head that was given: it, or what is before it, has been made anew")
		}
		w.heads = w.heads[1:]
	}
}

// finish notes what only the whole log shows.
func (w *chainWalk) finish(end *sink.Counters) {
	r := &w.report
	r.From, r.Head, r.Link = end.Chain.From, end.Chain.Head, end.Chain.Link.String()
	r.Unlinked += end.AuditHead - end.Chain.Head
	for _, h := range w.heads {
		if h.N > end.Chain.Head {
			r.found(end.Chain.Head+1, "it is missing, and so is what followed up to n = %d, which was the head once", h.N)
		} else {
			r.found(h.N, "it was the head once, and is missing")
		}
	}
	at := w.blank.first()
	switch {
	case at < 0:
	case r.OK():
		r.found(w.start+at, "its values are gone, and no forget accounts for that")
	default: // what is broken may have accounted for it
		r.Breaks++
		r.Why += fmt.Sprintf("; and the values of n = %d are gone, for which nothing accounts that is as it was written", w.start+at)
	}
}

// bits is a set of small numbers.
type bits []uint64

func (b *bits) set(i int64) {
	for int64(len(*b)) <= i/64 {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bits) clear(i int64) {
	if i >= 0 && i/64 < int64(len(b)) {
		b[i/64] &^= 1 << (i % 64)
	}
}

// first is the smallest number in the set, -1 if there is none.
func (b bits) first() int64 {
	for i, word := range b {
		for j := range int64(64) {
			if word&(1<<j) != 0 {
				return int64(i)*64 + j
			}
		}
	}
	return -1
}
