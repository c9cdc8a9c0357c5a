package replicator

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// maxWaiting bounds what is remembered of heartbeats that can't be confirmed yet.
// A transaction that stays open for days keeps all of them waiting; beyond the
// bound the newest stands for those between.
const maxWaiting = 64

// durable takes note that the target has a heartbeat. What is confirmed never
// passes the commit of the last stored heartbeat, so that the next session can
// ask for it again; and never one that the pulse doesn't vouch for.
func (a *applier) durable(h sink.Heartbeat) {
	n := len(a.waiting)
	switch {
	case h.Token == "" || n > 0 && a.waiting[n-1] == h:
	case n >= maxWaiting:
		a.waiting[n-1] = h
	default:
		a.waiting = append(a.waiting, h)
	}
	a.confirm()
}

// confirm sends on what may be confirmed.
func (a *applier) confirm() {
	for len(a.waiting) > 0 && a.pulse.Vouches(a.waiting[0].Token, a.waiting[0].Commit) {
		a.stream.Confirm(a.waiting[0].Commit)
		a.waiting = a.waiting[1:]
	}
}

// proven reports that the source is the one that the checkpoint belongs to.
func (a *applier) proven() bool { return a.expect.Token == "" && a.landed }

// land looks for the transaction that the checkpoint stands at the end of. The
// source sends it again, because what is confirmed is never beyond the last
// heartbeat. A checkpoint that was moved by hand ends where no transaction does,
// and what lies between the two would be left out, or applied twice.
func (a *applier) land(tx *cdc.Transaction) error {
	switch {
	case a.landed:
	case tx.Last && tx.End == a.cp.LSN:
		a.landed = true
	case tx.Commit >= a.cp.LSN:
		edited := &CheckpointError{Name: a.opts.Name, LSN: a.cp.LSN}
		return outOfStep(&OutOfStepError{Reason: edited.Error(), Cause: edited})
	}
	return nil
}

// CheckpointError says that the checkpoint was altered by something else than the
// bridge.
type CheckpointError struct {
	Name string
	LSN  cdc.LSN
}

func (e *CheckpointError) Error() string {
	return fmt.Sprintf("no transaction of the source ends at %s, where the checkpoint of %s is: it was edited by hand", e.LSN, e.Name)
}
