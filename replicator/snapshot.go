package replicator

import (
	"fmt"
	"strconv"
	"strings"
)

// snapshot is what pg_current_snapshot() says: which transactions a reader sees.
//
// It is compared by xid and never by LSN. A commit is in the WAL, and the slot
// delivers it, before other sessions see it: with a waiting synchronous standby
// for as long as that waits. A fence by LSN between a snapshot and the stream
// loses those rows or makes them up.
type snapshot struct {
	xmin, xmax uint64
	running    map[uint64]bool
}

// parseSnapshot reads "xmin:xmax:xip,xip" (functions-info-snapshot).
func parseSnapshot(text string) (snapshot, error) {
	bad := fmt.Errorf("read snapshot: %q is not in the form xmin:xmax:xip,…", text)
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return snapshot{}, bad
	}
	var s snapshot
	var err error
	if s.xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return snapshot{}, bad
	}
	if s.xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return snapshot{}, bad
	}
	s.running = map[uint64]bool{}
	for x := range strings.SplitSeq(parts[2], ",") {
		if x == "" {
			continue
		}
		xid, err := strconv.ParseUint(x, 10, 64)
		if err != nil {
			return snapshot{}, bad
		}
		s.running[xid] = true
	}
	return s, nil
}

// sees reports whether the committed transaction xid is visible. The stream
// carries the low 32 bits of it; its epoch is the one that brings it nearest to
// the snapshot.
func (s snapshot) sees(xid uint32) bool { return s.seesFull(widen(xid, s.xmax)) }

func (s snapshot) seesFull(xid uint64) bool {
	return xid < s.xmin || xid < s.xmax && !s.running[xid]
}

// widen completes a 32-bit xid to the 64-bit one that is nearest to near.
func widen(xid uint32, near uint64) uint64 {
	full := near&^(1<<32-1) | uint64(xid)
	switch {
	case full > near && full-near > 1<<31 && full >= 1<<32:
		return full - 1<<32
	case full < near && near-full > 1<<31:
		return full + 1<<32
	}
	return full
}
