package oracle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// plan is what a seed stands for: a variant of the application and the bridge,
// and the steps of its history. It is plain data, so that steps can be left out
// when a failure is narrowed down.
type plan struct {
	seed  uint64
	spec  *spec
	opts  tuning
	steps []planStep
}

// tuning is how the bridge is run.
type tuning struct {
	batchRows, batchBytes, queueBytes, copyRows int
	// faults is how many of a hundred batches fail.
	faults int
	// process runs the built binary, to be killed with SIGKILL.
	process bool
	// load lets the history go on while the first copy is under way.
	load bool
}

// planStep is one step of a history.
type planStep struct {
	kind stepKind
	// scripts are transactions, one list for each session that runs at the same
	// time.
	scripts [][]script
}

type stepKind string

const (
	stepWrite     stepKind = "write"
	stepStart     stepKind = "start"
	stepCopied    stepKind = "copied"
	stepStop      stepKind = "stop"
	stepKill      stepKind = "kill"
	stepOverlap   stepKind = "overlap"
	stepCutTarget stepKind = "cut target"
	stepCutSource stepKind = "cut source"
	stepCatchUp   stepKind = "catch up"
)

// script is one transaction.
type script struct {
	sql []string
	end string // COMMIT, ROLLBACK or PREPARE
}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 0x6f7261636c65))
	p := &plan{seed: seed, spec: newSpec()}
	g := &generator{r: r, big: 90}
	p.variant(g)
	before := g.r.IntN(12)
	if g.chance(30) {
		before = 0
	}
	p.write(g, before)
	p.add(stepStart)
	if !p.opts.load {
		p.add(stepCopied)
	}
	total := 25 + g.r.IntN(40)
	copied := g.r.IntN(total)
	for i := range total {
		if p.opts.load && i == copied {
			p.add(stepCopied)
		}
		p.write(g, 1)
		if g.chance(8) {
			p.add(pick(g, stepStop, stepStop, stepKill, stepCutTarget, stepCutSource, stepCatchUp))
			if p.opts.process || g.chance(10) {
				p.add(stepKill)
			}
			if g.chance(2) {
				p.add(stepOverlap)
			}
			p.write(g, g.r.IntN(6))
			p.add(stepStart)
		}
	}
	return p
}

func (p *plan) add(kind stepKind) { p.steps = append(p.steps, planStep{kind: kind}) }

// variant draws what differs between seeds beside the statements.
func (p *plan) variant(g *generator) {
	for _, t := range p.spec.tables {
		t.identity = pick(g, "default", "default", "full", "index")
		t.keep = t.target != "" && g.chance(50)
	}
	if g.chance(15) { // as in the preset
		for _, t := range p.spec.tables {
			t.keep = t.target != ""
		}
	}
	if g.chance(40) {
		p.spec.byName["feedback"].tenant = []string{"provedor_id", "contact.provedor_id"}
	}
	if g.chance(30) {
		p.spec.byName["log"].entity = ""
	}
	p.spec.audit = auditSpec{unchanged: g.chance(65), values: pick(g, "changed", "changed", "all", "none"), maxValue: 8192, chain: p.seed%4 < 2}
	p.opts = tuning{batchRows: 10_000, batchBytes: 4 << 20, queueBytes: 4 << 20, copyRows: pick(g, 1000, 3, 1)}
	if g.chance(50) {
		p.opts.batchRows = pick(g, 2, 5, 20, 100)
	}
	if g.chance(30) {
		g.large = pick(g, 30, 300)
	}
	if g.chance(40) {
		p.opts.faults = pick(g, 5, 20)
	}
	p.opts.load = g.chance(25)
	p.opts.process = g.chance(3)
}

// write adds steps that write n transactions each.
func (p *plan) write(g *generator, n int) {
	for range n {
		s := planStep{kind: stepWrite}
		sessions := 1
		if g.chance(12) {
			sessions = 2 + g.r.IntN(2)
		}
		for range sessions {
			var list []script
			for n := 1 + g.r.IntN(3); n > 0; n-- {
				end := "COMMIT"
				switch g.r.IntN(20) {
				case 0:
					end = "ROLLBACK"
				case 1:
					end = "PREPARE"
				}
				list = append(list, script{sql: g.transaction(), end: end})
			}
			s.scripts = append(s.scripts, list)
		}
		p.steps = append(p.steps, s)
	}
}

// describe says which variant it is.
func (p *plan) describe() string {
	var tables []string
	for _, t := range p.spec.tables {
		policy := "delete"
		if t.keep {
			policy = "keep"
		}
		tables = append(tables, fmt.Sprintf("%s %s/%s", t.name, t.identity, policy))
	}
	return fmt.Sprintf("%d steps, %+v, %+v, feedback %v, %s", len(p.steps), p.opts, p.spec.audit, p.spec.byName["feedback"].tenant, strings.Join(tables, ", "))
}

// keepOnly leaves out all steps but those that list names, as in 0-12,17.
func (p *plan) keepOnly(list string) error {
	var kept []planStep
	for part := range strings.SplitSeq(list, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if n != 2 {
			return fmt.Errorf("-oracle.only: %q is no range", part)
		}
		kept = append(kept, p.steps[from:min(to+1, len(p.steps))]...)
	}
	p.steps = kept
	return nil
}

// without leaves out the steps from one to another, but not those that say when
// the first copy begins and ends.
func (p *plan) without(from, to int) []planStep {
	var kept []planStep
	starts := 0
	for i, s := range p.steps {
		bounds := s.kind == stepCopied || s.kind == stepStart && starts == 0
		if s.kind == stepStart {
			starts++
		}
		if i < from || i >= to || bounds {
			kept = append(kept, s)
		}
	}
	return kept
}

// narrow leaves out single transactions and statements for as long as the plan
// fails.
func (p *plan) narrow(fails func(*plan) bool) {
	try := func(i int, change func(s *planStep)) bool {
		less := *p
		less.steps = slices.Clone(p.steps)
		s := less.steps[i].clone()
		change(&s)
		less.steps[i] = s
		return fails(&less)
	}
	for i := range p.steps {
		for a := len(p.steps[i].scripts) - 1; a >= 0; a-- {
			for b := len(p.steps[i].scripts[a]) - 1; b >= 0; b-- {
				if try(i, func(s *planStep) { s.scripts[a] = slices.Delete(s.scripts[a], b, b+1) }) {
					continue
				}
				for c := len(p.steps[i].scripts[a][b].sql) - 1; c >= 0; c-- {
					try(i, func(s *planStep) { s.scripts[a][b].sql = slices.Delete(s.scripts[a][b].sql, c, c+1) })
				}
			}
		}
	}
}

func (s *planStep) clone() planStep {
	c := planStep{kind: s.kind}
	for _, list := range s.scripts {
		var copied []script
		for _, x := range list {
			copied = append(copied, script{sql: slices.Clone(x.sql), end: x.end})
		}
		c.scripts = append(c.scripts, copied)
	}
	return c
}

func (s *planStep) text() string {
	var b strings.Builder
	b.WriteString(string(s.kind))
	for _, list := range s.scripts {
		for _, x := range list {
			b.WriteString("\n  BEGIN; " + strings.Join(append(slices.Clone(x.sql), x.end), "; "))
		}
	}
	return b.String()
}
