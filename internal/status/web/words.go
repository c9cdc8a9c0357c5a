package web

import "github.com/walbridge/walbridge/internal/status"

// words are the page's texts in one language. Those with a % are formats.
type words struct {
	Lang, Other, OtherName string
	Point, Thousands, Days string
	AgoFormat, ForFormat   string

	// States are the names of the states, Meanings what they are about, Todos what
	// a person has to do about them.
	States, Meanings, Todos map[status.Phase]string
	Idle                    string

	Bridge, Fix, LastError, Lost                                        string
	Lag, RowRate, TxRate, Rows, Entries, Held, Dropped, Kept, KeptShort string
	PerSecond                                                           string

	History, Recent, Day, HistoryBegins, Most, Now string
	LagSeconds, LagBytes, RowsPerSecond            string

	Copy, CopyPace, Finished                 string
	RowsDone, RowsSoFar, RowsOfAbout, RowsOf string

	Request, RequestText, RequestWritten string
	// RequestAll takes the place of RequestText and RequestWritten where all that
	// is looked at is changed.
	RequestAll, Kinds, Steps map[string]string

	HeldRows, HeldMore string
	Reasons, ReasonFix map[string]string

	Tables, Table, SinceStart, HeldColumn, Idlers string
	Tenants, Tenant, OtherTenants                 string

	Source, Slot, Level, Safe, Checkpoint, Flushed, Confirmed, Blocked string
	WALStatus, Levels                                                  map[string]string

	Errors, NoErrors, Times, Older, InEnglish string
	Guide                                     string
}

var english = words{
	Lang: "en", Other: "pt", OtherName: "Português",
	Point: ".", Thousands: ",", Days: "days",
	AgoFormat: "%s ago", ForFormat: "for %s",

	States: map[status.Phase]string{
		status.Starting: "starting", status.Copying: "copying", status.Streaming: "streaming", status.Standby: "standby",
		status.Retrying: "retrying", status.Blocked: "blocked", status.Stopped: "stopped",
	},
	Idle: status.Snapshot{State: status.Streaming}.Meaning(),
	Meanings: map[status.Phase]string{
		status.Starting:  status.Snapshot{State: status.Starting}.Meaning(),
		status.Copying:   status.Snapshot{State: status.Copying}.Meaning(),
		status.Streaming: "Following the source; the target is catching up.",
		status.Standby:   status.Snapshot{State: status.Standby}.Meaning(),
		status.Retrying:  status.Snapshot{State: status.Retrying}.Meaning(),
		status.Blocked:   status.Snapshot{State: status.Blocked}.Meaning(),
		status.Stopped:   status.Snapshot{State: status.Stopped}.Meaning(),
	},
	Todos: map[status.Phase]string{
		status.Retrying: "Nothing to do here: see that source and target can be reached and have room.",
		status.Blocked:  "Do what the fix below says. Nothing is lost meanwhile: the source keeps its WAL.",
		status.Stopped:  "Start it again if it is to go on: it begins where it stopped.",
	},

	Bridge: "Bridge", Fix: "Fix", LastError: "Last error, %s",
	Lost: "The bridge doesn't answer. What you see is what it said last.",
	Lag:  "Lag", RowRate: "Rows", TxRate: "Transactions", Rows: "Rows applied", Entries: "Audit entries",
	Held: "Held rows", Dropped: "Rows dropped", Kept: "WAL kept at the source", KeptShort: "WAL kept", PerSecond: "%s /s",

	History: "History", Recent: "15 min", Day: "24 h", Most: "at most %s", Now: "now",
	HistoryBegins: "The history begins with the process; there is none yet.",
	LagSeconds:    "Lag in time", LagBytes: "Lag in bytes", RowsPerSecond: "Rows a second",

	Copy: "First copy", CopyPace: "%s rows/s, about %s left", Finished: "%s tables are finished",
	RowsDone: "%s rows", RowsSoFar: "%s rows so far", RowsOfAbout: "%s of about %s rows", RowsOf: "%s of %s rows",

	Request: "Request %s", RequestText: "%s rows looked at", RequestWritten: "%s changed",
	RequestAll: map[string]string{"forget": "rows erased: %s", "skip": "changes left out: %s"},
	Kinds: map[string]string{
		"resync": "Resync: the source is read again, and what differs is written",
		"repair": "Repair: rows that differ are read again and written", "held.retry": "Held rows are tried again",
		"held.drop": "Held rows are given up", "forget": "A row is erased everywhere", "skip": "A transaction is passed",
	},
	Steps: map[string]string{
		"rows": "comparing rows", "gone": "looking for rows that are gone", "held": "looking at held rows",
		"paths": "looking at path values", "entries": "writing entries", "repair": "comparing rows",
	},

	HeldRows: "Held rows by reason", HeldMore: "And %s more that were not counted.",
	Reasons: map[string]string{
		"tenant": "no tenant", "rejected": "refused by the target", "incomplete": "incomplete",
	},
	ReasonFix: map[string]string{
		"tenant":     "They come by themselves when the source says whose they are. walbridge held list --reason tenant names them.",
		"rejected":   "walbridge held list --reason rejected says why; mend the target, then run walbridge held retry.",
		"incomplete": "Nothing to do: the missing values are being read from the source.",
	},

	Tables: "Source tables", Table: "Table", SinceStart: "Rows since start", HeldColumn: "Held", Idlers: "%s tables without a change",
	Tenants: "Busiest tenants", Tenant: "Tenant", OtherTenants: "all others",

	Source: "At the source", Slot: "Slot", Level: "Level", Safe: "lost after %s more",
	Checkpoint: "Checkpoint", Flushed: "Source", Confirmed: "Confirmed", Blocked: "Blocked at",
	WALStatus: map[string]string{
		"reserved": "reserved: all as it should be", "extended": "extended: more WAL is kept than max_wal_size",
		"unreserved": "unreserved: about to be lost", "lost": "lost: run walbridge resync",
		"dropped": "dropped at source.max_retained_wal: run walbridge resync",
	},
	Levels: map[string]string{"ok": "ok", "warning": "warning", "alarm": "alarm"},

	Errors: "Last errors", NoErrors: "None since the start of the process.", Times: "%s times in a row", Older: "%s older ones",
	Guide: "What each state means and what to do: docs/operations.md, or walbridge status on the command line.",
}
