package request

import "github.com/walbridge/walbridge/sink"

// Kinds of requests that are executed over pieces of the source.
const (
	// Repair reads rows of one table again and mends what differs at the target.
	// Its arguments are RepairArgs, its progress begins with CompareProgress.
	Repair = "repair"
	// Resync does that with whole tables, and with what the target has beyond the
	// source. Its arguments are ResyncArgs, its progress begins with
	// CompareProgress.
	Resync = "resync"
)

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

// ResyncArgs are the arguments of a request of kind Resync. What is empty leaves
// nothing out.
type ResyncArgs struct {
	// Table is as in RepairArgs.
	Table string `json:"table,omitempty"`
	// Tenant leaves out the rows of other tenants.
	Tenant string `json:"tenant,omitempty"`
}

// Everything reports that the whole target is to be brought in line, which a
// bridge needs that can't go on from where it was.
func (a *ResyncArgs) Everything() bool { return a.Table == "" && a.Tenant == "" }

// RepairProgress is the progress of a request of kind Repair.
type RepairProgress = CompareProgress

// CompareProgress is how far a request has come, and its result.
type CompareProgress struct {
	// Table is the target table, or the source table that is only followed, that
	// is being worked on; empty at the end. Step is what is done there: rows,
	// gone, held or paths.
	Table string `json:"table,omitempty"`
	Step  string `json:"step,omitempty"`
	// Total is about how many rows of the source there are to read.
	Total int64 `json:"total"`
	// Checked rows of the source have been read, Written ones differed at the
	// target or were missing there.
	Checked int64 `json:"checked"`
	Written int64 `json:"written"`
	// Gone rows are not at the source any more, and were deleted or marked.
	Gone int64 `json:"gone"`
	// Held rows wait in walbridge.held.
	Held int64 `json:"held"`
	// Foreign rows are at the target and the bridge never wrote them. They were
	// left alone.
	Foreign int64 `json:"foreign"`
}
