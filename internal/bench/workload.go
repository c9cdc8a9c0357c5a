package bench

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// Workload is what the contestants have to do.
type Workload struct {
	Name string
	// What describes it in one line.
	What string
	kind kind
	// Rows that are there before, and how many units the load has.
	inboxes, contacts, conversations, messages, load int
	sql                                              string
	// changes are the row changes of one unit of the load.
	changes int
	// entries says that each change makes one audit entry.
	entries bool
}

type kind int

const (
	backlog kind = iota // drain what is in the WAL
	copying             // the first copy of what is there
	moving              // a backlog that the target could also do in SQL
	delay               // commit to visible, one transaction at a time
)

//go:embed sql/seed.sql
var seedSQL string

//go:embed sql/small.sql
var smallSQL string

//go:embed sql/large.sql
var largeSQL string

//go:embed sql/mix.sql
var mixSQL string

//go:embed sql/move.sql
var moveSQL string

//go:embed sql/update.sql
var updateSQL string

//go:embed sql/digest_source.sql
var digestSourceSQL string

//go:embed sql/digest_target.sql
var digestTargetSQL string

// Workloads lists all of them at their full size.
func Workloads() []Workload {
	return []Workload{
		{Name: "small", What: "200,000 small transactions: insert a message, update its conversation",
			kind: backlog, inboxes: 10, contacts: 20_000, conversations: 20_000, messages: 1000, load: 200_000, sql: smallSQL, changes: 2, entries: true},
		{Name: "large", What: "1,000,000 messages in one transaction",
			kind: backlog, inboxes: 10, contacts: 20_000, conversations: 20_000, messages: 1000, load: 1_000_000, sql: largeSQL, changes: 1, entries: true},
		{Name: "mix", What: "200,000 transactions of 2 changes: 70 % messages, 20 % conversations, 5 % contacts, 5 % deletes",
			kind: backlog, inboxes: 10, contacts: 20_000, conversations: 20_000, messages: 50_000, load: 200_000, sql: mixSQL, changes: 2, entries: true},
		{Name: "copy", What: "first copy of 1,000,000 messages, 100,000 conversations, 50,000 contacts",
			kind: copying, inboxes: 10, contacts: 50_000, conversations: 100_000, messages: 1_000_000, load: 1_150_000, changes: 1},
		{Name: "move", What: "another tenant for an inbox with 100,000 conversations and 1,000,000 messages",
			kind: moving, inboxes: 1, contacts: 50_000, conversations: 100_000, messages: 1_000_000, load: 1, sql: moveSQL, changes: 1_100_000},
		{Name: "latency", What: "50 transactions a second for 30 seconds, commit to visible",
			kind: delay, inboxes: 10, contacts: 20_000, conversations: 20_000, messages: 100_000, load: 1500, changes: 2},
	}
}

// names lists the workloads' names.
func names() []string {
	var list []string
	for _, w := range Workloads() {
		list = append(list, w.Name)
	}
	return list
}

// choose returns the named workloads, all if there are no names.
func choose(chosen []string) ([]Workload, error) {
	all := Workloads()
	for _, name := range chosen {
		if !slices.Contains(names(), name) {
			return nil, fmt.Errorf("no workload is called %q: there are %s", name, strings.Join(names(), ", "))
		}
	}
	if len(chosen) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(w Workload) bool { return !slices.Contains(chosen, w.Name) }), nil
}

// scaled returns the workload with f times as many rows.
func (w Workload) scaled(f float64) Workload {
	scale := func(n *int) {
		if *n > 0 {
			*n = max(1, int(float64(*n)*f+0.5))
		}
	}
	scale(&w.contacts)
	scale(&w.conversations)
	scale(&w.messages)
	if w.kind == moving {
		w.changes = w.conversations + w.messages
		return w
	}
	scale(&w.load)
	return w
}

// settings are what the SQL reads with current_setting.
func (w Workload) settings(active int) map[string]int {
	if active == 0 {
		active = w.conversations
	}
	return map[string]int{
		"bench.active":  active,
		"bench.inboxes": w.inboxes, "bench.contacts": w.contacts, "bench.conversations": w.conversations,
		"bench.messages": w.messages, "bench.load": w.load,
	}
}

// marker is the id of the contact that is written when the load is done: when it
// is visible at the target, everything before it is.
const marker = 1_000_000_000

const markerSQL = `INSERT INTO conversations_contact (id, name, phone, additional_attributes, created_at, updated_at, provedor_id)
	VALUES ($1, 'marker', $1::int8::text, '{}', now(), now(), 1)`
