package demo

import "context"

// action is one thing that the application does. do returns errNothing when
// there is nothing to do it to.
type action struct {
	name   string
	weight int
	do     func(*worker, context.Context) error
}

// actions are weighted like an ordinary day, with the rare ones that break
// replicators made less rare.
var actions = []action{
	{"inbound message", 240, (*worker).inbound},
	{"reply", 120, (*worker).reply},
	{"open conversation", 60, (*worker).open},
	{"save unchanged", 80, (*worker).saveUnchanged},
	{"assign", 40, (*worker).assign},
	{"transfer", 20, (*worker).transfer},
	{"close", 40, (*worker).closeConversation},
	{"reopen", 12, (*worker).reopen},
	{"csat answer", 24, (*worker).csatAnswer},
	{"edit message", 40, (*worker).editMessage},
	{"audit log", 30, (*worker).auditLog},
	{"update contact", 30, (*worker).updateContact},
	{"large value", 8, (*worker).largeValue},
	{"update beside large value", 20, (*worker).besideLarge},
	{"purge messages", 10, (*worker).purgeMessages},
	{"delete conversation", 6, (*worker).deleteConversation},
	{"delete message", 6, (*worker).deleteMessage},
	{"resurrect message", 6, (*worker).resurrect},
	{"recreate in one transaction", 4, (*worker).recreate},
	{"savepoint", 12, (*worker).savepoint},
	{"rollback", 8, (*worker).rollback},
	{"child before parent", 8, (*worker).childFirst},
	{"repeated update", 4, (*worker).repeated},
	{"bulk import", 2, (*worker).bulkImport},
	{"move inbox", 3, (*worker).moveInbox},
	{"swap inboxes", 2, (*worker).swapInboxes},
	{"move contact", 4, (*worker).moveContact},
	{"change inbox", 6, (*worker).changeInbox},
	{"merge contact", 4, (*worker).mergeContact},
	{"open without tenant", 4, (*worker).openWithoutTenant},
	{"lose tenant", 1, (*worker).loseTenant},
	{"gain tenant", 3, (*worker).gainTenant},
	{"delete inbox", 1, (*worker).deleteInbox},
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
