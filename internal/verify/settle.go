package verify

import (
	"context"
	"slices"

	"github.com/walbridge/walbridge/sink"
)

const (
	// settleRows is how many suspects are settled at once, rounds how often one
	// is looked at before it counts as unsettled.
	settleRows, rounds = 500, 20
	// settleBytes bounds the source's rows of one round.
	settleBytes = 8 << 20
)

// subject is what suspects are rows of: a table, or the path values of one.
type subject interface {
	// read reads the suspects' rows at the source. It returns errLarge when they
	// are more than settleBytes.
	read(ctx context.Context, src *reading, list []*suspect) (map[*suspect]seen, error)
	// stored reads what the target has of them, in one snapshot.
	stored(ctx context.Context, target sink.Reader, list []*suspect) (answers, error)
	// count puts a verdict into the report.
	count(v *verdict, key sink.Key)
	// repair has the bridge mend rows; false if that can't be done.
	repair(ctx context.Context, keys []sink.Key) (bool, error)
}

// answers judge suspects by one snapshot of the target.
type answers interface {
	judge(ctx context.Context, target sink.Reader, list []*suspect, rows map[*suspect]seen) error
}

// settle finds out what has become of suspects, and counts it. In a round
//
//	first   the rows are read at the source
//	wait    until the target has applied all that was visible then
//	target  is read
//	wait    until what was running at the source then has ended
//	second  the rows are read at the source again
//
// A row is wrong if it is so although both reads of the source are the same. The
// target then has had every transaction that the first read shows, and none that
// the second doesn't; and between the two nothing has touched the row. All else
// is looked at again: most of it was a change under way.
func (c *comparison) settle(ctx context.Context, p *pair, s subject, list []*suspect) error {
	for part := range slices.Chunk(list, settleRows) {
		if err := c.settlePart(ctx, p, s, part); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) settlePart(ctx context.Context, p *pair, s subject, list []*suspect) error {
	wrong, err := c.look(ctx, p, s, list)
	if err != nil {
		return err
	}
	if len(wrong) > 0 && c.opts.Repair != nil {
		if err := c.mend(ctx, p, s, wrong); err != nil {
			return err
		}
	}
	for _, x := range list {
		s.count(&x.verdict, x.key)
	}
	return nil
}

// mend has the bridge repair what is wrong and looks at it again.
func (c *comparison) mend(ctx context.Context, p *pair, s subject, wrong []*suspect) error {
	can, err := s.repair(ctx, keysOf(wrong))
	if err != nil || !can {
		return err
	}
	for _, x := range wrong {
		x.hits = 0
	}
	still, err := c.look(ctx, p, s, wrong)
	for _, x := range wrong {
		x.verdict.mended = !slices.Contains(still, x) && x.verdict.finding != unsettled
	}
	return err
}

// look gives every suspect its verdict and returns those that are wrong.
func (c *comparison) look(ctx context.Context, p *pair, s subject, list []*suspect) (wrong []*suspect, err error) {
	open := slices.Clone(list)
	for round := 1; len(open) > 0; round++ {
		if open, err = c.round(ctx, p, s, open); err == errLarge {
			return c.lookHalves(ctx, p, s, list)
		} else if err != nil {
			return nil, err
		}
		if round == rounds {
			for _, x := range open {
				x.verdict.finding, x.verdict.why, x.verdict.columns = unsettled, "unsettled", nil
			}
			break
		}
	}
	for _, x := range list {
		if x.verdict.finding.wrong() {
			wrong = append(wrong, x)
		}
	}
	return wrong, nil
}

// lookHalves looks at rows that are too large to be looked at together.
func (c *comparison) lookHalves(ctx context.Context, p *pair, s subject, list []*suspect) ([]*suspect, error) {
	half := len(list) / 2
	wrong, err := c.look(ctx, p, s, list[:half])
	if err != nil {
		return nil, err
	}
	rest, err := c.look(ctx, p, s, list[half:])
	return append(wrong, rest...), err
}

// round looks once, and returns what has to be looked at again.
func (c *comparison) round(ctx context.Context, p *pair, s subject, open []*suspect) ([]*suspect, error) {
	first, err := s.read(ctx, p.source, open)
	if err != nil {
		return nil, err
	}
	if !c.quiet {
		if err := c.applied(ctx, p); err != nil {
			return nil, err
		}
	}
	stored, err := s.stored(ctx, p.target, open)
	if err != nil {
		return nil, err
	}
	if err := stored.judge(ctx, p.target, open, first); err != nil || c.quiet {
		return nil, err
	}
	open = slices.DeleteFunc(open, func(x *suspect) bool { return x.verdict.finding.firm() })
	if len(open) == 0 {
		return nil, nil
	}
	sure, err := p.source.ended(ctx)
	if err != nil {
		return nil, err
	}
	second, err := s.read(ctx, p.source, open)
	if err != nil {
		return nil, err
	}
	var again, moved []*suspect
	for _, x := range open {
		a, b := first[x], second[x]
		switch {
		case !a.same(b):
			x.hits = 0
			moved = append(moved, x)
		default:
			if x.hits++; x.hits < needed(sure, a) {
				again = append(again, x)
			}
		}
	}
	// The target may have been ahead of the first read.
	if err := stored.judge(ctx, p.target, moved, second); err != nil {
		return nil, err
	}
	for _, x := range moved {
		if !x.verdict.finding.firm() {
			again = append(again, x)
		}
	}
	return again, nil
}

// needed is in how many rounds on end a row must look wrong. Of a row that isn't
// there no version tells whether it was there in between: a key that comes and goes
// many times a second fools two rounds now and then, but not four.
func needed(sure sureness, row seen) int {
	switch {
	case sure == unsure:
		return rounds + 1
	case row.row == nil:
		return 4
	case sure == likely:
		return 3
	}
	return 1
}
