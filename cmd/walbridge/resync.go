package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/request"
)

type resyncCmd struct {
	Table   string        `help:"Rows of this target table only." placeholder:"TABLE"`
	Tenant  string        `help:"Rows of this tenant only." placeholder:"ID"`
	NoWait  bool          `help:"Ask, and don't wait for the end. A bridge that isn't running takes it up when it starts."`
	Timeout time.Duration `help:"Exit with 1 after this long. A resync that the bridge has begun goes on." placeholder:"DURATION"`
	Name    string        `help:"Name of the bridge." placeholder:"NAME"`
	JSON    bool          `help:"Print JSON." name:"json"`
}

// Help implements kong.HelpProvider.
func (*resyncCmd) Help() string {
	return `Asks the bridge to read the source again and to bring the target in line, while the stream
goes on and readers keep reading. Only rows that differ are written. A row that the source
hasn't any more is deleted or marked, as its table's on_delete says; rows that the bridge
never wrote are left alone, and counted. What the stream has observed (ended_at) stays.
Examples:

    walbridge resync --table messages
    walbridge resync --tenant 2
    walbridge resync

A bridge that refuses to go on, because its slot was lost, a side was restored or the
mapping has changed, begins again with everything once it is asked to:

    walbridge resync --no-wait

It goes on where it was after a restart of either side. It can be run from anywhere that
reaches the target.

Exit codes: 0 done (with --no-wait: asked), 1 failed while running, or no bridge is at
work, 2 usage or configuration.`
}

// Validate implements kong's hook.
func (c *resyncCmd) Validate() error {
	switch {
	case c.Timeout < 0:
		return errors.New("--timeout must be positive")
	case c.NoWait && c.Timeout > 0:
		return errors.New("--no-wait goes without --timeout")
	}
	return nil
}

// Run asks the bridge and waits.
func (c *resyncCmd) Run(ctx context.Context, a *app) error {
	cfg, target, err := a.target(ctx, c.Name)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close(context.WithoutCancel(ctx)) }()
	ctx, cancel := bounded(ctx, c.Timeout)
	defer cancel()
	req, err := request.Ask(ctx, target, cfg.Name, request.Resync, request.ResyncArgs{Table: c.Table, Tenant: c.Tenant})
	if err != nil {
		return err
	}
	if c.NoWait {
		return c.asked(a, req.ID())
	}
	m := newMeter(a.stderr, newLogger(cfg.Log, a.environ, a.stderr))
	text, err := req.Wait(ctx, func(text string) {
		if p, err := readProgress[request.CompareProgress](text); err == nil {
			m.show(p.Table, p.Checked, p.Total)
		}
	})
	m.clear()
	if errors.Is(err, request.ErrNoBridge) {
		err = fault.Wrap(fault.Stop, "start it with walbridge run and ask again; one that refuses to start needs walbridge resync --no-wait first", err)
	}
	if err != nil {
		return err
	}
	p, err := readProgress[request.CompareProgress](text)
	if err != nil {
		return err
	}
	return c.print(a, &p)
}

func (c *resyncCmd) asked(a *app, id int64) error {
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(map[string]int64{"request": id})
	}
	_, err := fmt.Fprintf(a.stdout, "request %d: the bridge takes it up when it is at work; its log and walbridge.requests say how far it is\n", id)
	return err
}

func (c *resyncCmd) print(a *app, p *request.CompareProgress) error {
	if c.JSON {
		return json.NewEncoder(a.stdout).Encode(p)
	}
	parts := []string{fmt.Sprintf("%d rows compared", p.Checked), fmt.Sprintf("%d written", p.Written)}
	add := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(p.Gone, "gone from the source")
	add(p.Held, "held")
	add(p.Foreign, "of another writer left alone")
	_, err := fmt.Fprintln(a.stdout, strings.Join(parts, ", "))
	return err
}
