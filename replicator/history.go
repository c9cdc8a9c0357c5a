package replicator

import (
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

// History is what a starting bridge finds: where the target says that it is, and
// what the source has of that.
type History struct {
	Name       string
	Checkpoint sink.Checkpoint
	System     System
	// Fingerprint is that of the mapping now.
	Fingerprint string
	// Slot is nil when there is none.
	Slot *Slot
	// Manual says that a person makes the slot, so that one without a checkpoint
	// is no stranger.
	Manual bool
	// Failover says that the source may be a standby that was promoted.
	Failover bool
}

// Check refuses to go on from a checkpoint that this source's history doesn't
// contain, and a slot that belongs to no checkpoint. Guessing here loses changes
// silently.
func (h History) Check() error {
	cp, then := h.Checkpoint, h.Checkpoint.Origin
	refuse := func(format string, args ...any) error {
		return outOfStep(&OutOfStepError{Reason: fmt.Sprintf(format, args...)})
	}
	switch {
	case cp.LSN == 0:
		return h.checkFirst()
	case then.SystemID != h.System.ID:
		return refuse("the source is another cluster: system identifier %s, the checkpoint's is %s; it was dumped and restored, or the URL leads elsewhere", h.System.ID, then.SystemID)
	case then.Database != h.System.Database:
		return refuse("the source is database %s, the checkpoint's is %s", h.System.Database, then.Database)
	case then.Timeline != h.System.Timeline && h.Failover && h.Slot != nil && h.Slot.Failover:
		if err := h.checkPromotion(); err != nil {
			return err
		}
	case then.Timeline != h.System.Timeline:
		return refuse("the source is on timeline %d, the checkpoint's is %d: it was restored to a point in time or a standby was promoted", h.System.Timeline, then.Timeline)
	case h.Slot == nil:
		return refuse("slot %s is gone; the changes since %s can't be had any more", h.Name, cp.LSN)
	}
	if err := h.Slot.Usable(h.System.Database); err != nil {
		return err
	}
	switch {
	case cp.LSN > h.System.Flush:
		return refuse("the checkpoint is at %s, but the source's WAL ends at %s: the source was restored to an earlier state", cp.LSN, h.System.Flush)
	case h.Slot.Confirmed > cp.LSN:
		return refuse("slot %s has been confirmed up to %s, the target's checkpoint is at %s: the target was restored to an earlier state, or the slot was made anew or is read by something else", h.Name, h.Slot.Confirmed, cp.LSN)
	case cp.Heartbeat.Token != "" && h.Slot.Confirmed > cp.Heartbeat.Commit:
		return refuse("slot %s has been confirmed up to %s, beyond the last heartbeat at %s that this bridge has stored and so could confirm: the target was restored to an earlier state, or the slot was made anew or is read by something else", h.Name, h.Slot.Confirmed, cp.Heartbeat.Commit)
	case cp.Heartbeat.Commit > cp.LSN:
		return refuse("the checkpoint is at %s, before its own heartbeat at %s: it was edited by hand", cp.LSN, cp.Heartbeat.Commit)
	case then.Fingerprint != h.Fingerprint:
		return outOfStep(&OutOfStepError{Reason: "the mapping has changed since the tables were filled", SameStream: true})
	}
	return nil
}

// checkPromotion is for a source that was a standby with a copy of the slot. The
// timelines part where it was promoted: what the target has of the one before
// behind that point, the new source has never got.
func (h History) checkPromotion() error {
	cp := h.Checkpoint
	end, ok := h.System.Switches[cp.Origin.Timeline]
	var why string
	switch {
	case !ok:
		why = fmt.Sprintf("the source is on timeline %d, which doesn't come from the checkpoint's, %d: it is not a standby that was promoted", h.System.Timeline, cp.Origin.Timeline)
	case cp.LSN > end:
		why = fmt.Sprintf("the standby that is the source now was promoted at %s and lacks what the target has up to %s: name its physical slot in synchronized_standby_slots, so that the bridge is never ahead of it", end, cp.LSN)
	case cp.Heartbeat.Token == "":
		why = "a standby of the source was promoted before the bridge had stored a heartbeat, so nothing proves that it is the same source"
	default:
		return nil
	}
	return outOfStep(&OutOfStepError{Reason: why})
}

// checkFirst is for a bridge that has no position yet. A slot may be there all
// the same: made by hand, or by a first start that broke off between the intent
// and the slot's consistent point.
func (h History) checkFirst() error {
	then := h.Checkpoint.Origin
	intended := then.Slot == h.Name && then.SystemID == h.System.ID && then.Database == h.System.Database
	switch {
	case h.Slot == nil:
		return nil
	case h.Manual, h.Slot.Plugin != "pgoutput", h.Slot.Database != h.System.Database:
		return h.Slot.Usable(h.System.Database)
	case intended:
		return nil
	}
	if err := h.Slot.Usable(h.System.Database); err != nil && !errors.As(err, new(*SlotLostError)) {
		return err
	}
	return fault.Wrap(fault.Stop, "if nothing else uses it: "+resyncHint+"; else give this bridge another name (WALBRIDGE_NAME)",
		&OutOfStepError{Reason: fmt.Sprintf("slot %s exists at the source, but the target has no checkpoint that belongs to it: the target is another one or was wiped, or the slot is not this bridge's", h.Name)})
}
