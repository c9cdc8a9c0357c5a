package sink

import "time"

// Alerts says which rows Tend raises alerts for: conversations that have been open
// for too long. A conversation has one alert for each time that it was opened.
type Alerts struct {
	// Schema and Name are the table of the alerts. Tenants with a threshold of
	// their own have it in the table ThresholdTable.
	Schema, Name string
	// Of is the table that is watched, Status its column that is compared with
	// Open. Created is a column with the time at which a row was made, Since one
	// with the time at which it was last opened, or -1; where that is null,
	// Created counts. All are positions in Of.Columns.
	Of                     *Table
	Status, Created, Since int
	Open                   []string
	// After is how long a row may be open, for tenants without a threshold.
	After time.Duration
}

// LongOpen is the kind of all alerts.
const LongOpen = "long_open_conversation"

// ThresholdTable is the name of the table with tenants' own thresholds.
func (a *Alerts) ThresholdTable() string { return a.Name + "_thresholds" }

// Alert is one row of the alerts' table.
type Alert struct {
	Tenant, Conversation, Kind string
	// Start is when the conversation was opened.
	Start time.Time
}

// Tending is what Tend is to do.
type Tending struct {
	// Quiet takes the mapped tables out of Supabase's Realtime, so that a first
	// copy doesn't travel to every browser; without it they come back, those and
	// no others.
	Quiet bool
}

// Tended is what Tend has done.
type Tended struct {
	// Alerts is how many were raised.
	Alerts int64
	// Quieted is how many tables are out of Realtime for the sake of Quiet.
	Quieted int64
}
