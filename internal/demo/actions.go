package demo

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// action is one thing that the application does. do returns errNothing when
// there is nothing to do it to.
type action struct {
	name string
	// kind is what a reader calls it and its like.
	kind   string
	weight int
	do     func(*worker, context.Context) error
}

// tenantMoves are the actions that may give rows to another tenant.
const tenantMoves = "tenant moves"

// actions are weighted like an ordinary day, with the rare ones that break
// replicators made less rare.
var actions = []action{
	{"inbound message", "inbound messages", 240, (*worker).inbound},
	{"reply", "replies", 120, (*worker).reply},
	{"open conversation", "new conversations", 60, (*worker).open},
	{"save unchanged", "saves without a change", 80, (*worker).saveUnchanged},
	{"assign", "assignments", 40, (*worker).assign},
	{"transfer", "assignments", 20, (*worker).transfer},
	{"close", "closes", 40, (*worker).closeConversation},
	{"reopen", "reopenings", 12, (*worker).reopen},
	{"csat answer", "ratings", 24, (*worker).csatAnswer},
	{"edit message", "edits", 40, (*worker).editMessage},
	{"audit log", "log entries", 30, (*worker).auditLog},
	{"update contact", "edits", 30, (*worker).updateContact},
	{"large value", "edits", 8, (*worker).largeValue},
	{"update beside large value", "edits", 20, (*worker).besideLarge},
	{"purge messages", "deletions", 10, (*worker).purgeMessages},
	{"delete conversation", "deletions", 6, (*worker).deleteConversation},
	{"delete message", "deletions", 6, (*worker).deleteMessage},
	{"resurrect message", "rows brought back", 6, (*worker).resurrect},
	{"recreate in one transaction", "rows brought back", 4, (*worker).recreate},
	{"savepoint", "rollbacks", 12, (*worker).savepoint},
	{"rollback", "rollbacks", 8, (*worker).rollback},
	{"child before parent", "new conversations", 8, (*worker).childFirst},
	{"repeated update", "edits", 4, (*worker).repeated},
	{"bulk import", "imports", 2, (*worker).bulkImport},
	{"move inbox", tenantMoves, 3, (*worker).moveInbox},
	{"swap inboxes", tenantMoves, 2, (*worker).swapInboxes},
	{"move contact", tenantMoves, 4, (*worker).moveContact},
	{"change inbox", tenantMoves, 6, (*worker).changeInbox},
	{"merge contact", tenantMoves, 4, (*worker).mergeContact},
	{"open without tenant", "new conversations", 4, (*worker).openWithoutTenant},
	{"lose tenant", tenantMoves, 1, (*worker).loseTenant},
	{"gain tenant", tenantMoves, 3, (*worker).gainTenant},
	{"delete inbox", "deletions", 1, (*worker).deleteInbox},
}

// choose picks the next action by weight.
func (w *worker) choose() action {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := w.IntN(total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			return a
		}
	}
	panic("demo: weights don't add up") // n is below their sum
}

// kinds are those of actions, in their order.
func kinds() []string {
	var list []string
	for _, a := range actions {
		if !slices.Contains(list, a.kind) {
			list = append(list, a.kind)
		}
	}
	return list
}

// byKind sums the actions of each kind.
func (c *Counts) byKind() map[string]int64 {
	sums := map[string]int64{}
	for _, a := range actions {
		sums[a.kind] += c.Actions[a.name]
	}
	return sums
}

// summary says what was done, but for the tenant moves.
func (c *Counts) summary() string {
	var parts []string
	sums := c.byKind()
	for _, k := range kinds() {
		if n := sums[k]; n > 0 && k != tenantMoves {
			parts = append(parts, fmt.Sprintf("%s %d", k, n))
		}
	}
	return strings.Join(parts, ", ")
}
