package request

import "github.com/walbridge/walbridge/sink"

// Repair reads rows of one table again at the source and mends what differs at
// the target. Its arguments are RepairArgs, its progress is RepairProgress.
const Repair = "repair"

// MaxRepairKeys bounds the keys of one request of kind Repair.
const MaxRepairKeys = 10_000

// RepairArgs are the arguments of a request of kind Repair.
type RepairArgs struct {
	// Table is the target table as the mapping names it: schema-qualified, or
	// without its schema where that is public.
	Table string `json:"table"`
	// Keys are target keys, at most MaxRepairKeys.
	Keys []sink.Key `json:"keys"`
}

// RepairProgress is the progress of a request of kind Repair, and its result.
type RepairProgress struct {
	// Checked is how many of the keys have been read again.
	Checked int64 `json:"checked"`
	// Written rows differed or were missing, Gone rows aren't at the source any
	// more and were deleted or marked, Held rows wait for a tenant.
	Written int64 `json:"written"`
	Gone    int64 `json:"gone"`
	Held    int64 `json:"held"`
}
