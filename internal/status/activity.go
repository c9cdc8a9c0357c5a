package status

import (
	"cmp"
	"slices"
)

const (
	// tenantsShown are named in a snapshot, the busiest first.
	tenantsShown = 20
	// tenantsKept are counted each for itself. Beyond twice as many the least busy
	// ones are summed, and begin anew when they come again.
	tenantsKept = 500
	// problemsKept are remembered, the newest ones.
	problemsKept = 20
)

// Table is what has happened to a source table.
type Table struct {
	Name string `json:"table"`
	// Rows have been written since the start of the process, Held are held now.
	Rows int64 `json:"rows_applied"`
	Held int64 `json:"held_rows"`
}

// Tenant is how many rows have been written for a tenant since the start of the
// process.
type Tenant struct {
	ID   string `json:"tenant"`
	Rows int64  `json:"rows_applied"`
}

// Held is how many rows of a source table are held for one reason.
type Held struct {
	Table  string `json:"table"`
	Reason string `json:"reason"` // sink.HeldReason
	Rows   int64  `json:"rows"`
}

// Request is the operator's request that the bridge is working on.
type Request struct {
	ID   int64  `json:"id"`
	Kind string `json:"kind"`
	// Table and Step say where it is, if it goes from table to table.
	Table string `json:"table,omitempty"`
	Step  string `json:"step,omitempty"`
	// Done rows of about Total have been looked at, and Written ones changed; a
	// Total of 0 says that nobody knows. Of a transaction that is skipped Done is
	// how many of its changes have been left out.
	Done    int64 `json:"done"`
	Total   int64 `json:"total,omitempty"`
	Written int64 `json:"written"`
}

// Percent is how much of the request is done, 99 at most while it is at work, or
// -1 when nobody can tell.
func (r *Request) Percent() int64 {
	if r.Total <= 0 {
		return -1
	}
	return min(99, r.Done*100/r.Total)
}

// activity counts since the start of the process.
type activity struct {
	transactions, rows int64
	tables             map[string]int64
	tenants            map[string]int64
	// others are the rows of tenants that have been summed.
	others int64
}

// Wrote counts what the target has made durable: transactions of the source with
// changes of mapped tables, and rows by source table and by tenant.
func (s *State) Wrote(transactions int64, tables, tenants map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.activity
	a.transactions += transactions
	for table, n := range tables {
		a.rows += n
		a.tables[table] += n
	}
	for tenant, n := range tenants {
		a.tenants[tenant] += n
	}
	if len(a.tenants) > 2*tenantsKept {
		for _, t := range a.byTenant()[tenantsKept:] {
			a.others += t.Rows
			delete(a.tenants, t.ID)
		}
	}
}

// byTenant lists the tenants, the busiest first.
func (a *activity) byTenant() []Tenant {
	list := make([]Tenant, 0, len(a.tenants))
	for id, n := range a.tenants {
		list = append(list, Tenant{ID: id, Rows: n})
	}
	slices.SortFunc(list, func(a, b Tenant) int {
		return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// show puts the counts into a snapshot. Tables that the snapshot knows from
// elsewhere are listed without any, too.
func (a *activity) show(n *Snapshot) {
	n.Transactions, n.Written = a.transactions, a.rows
	tables := make(map[string]*Table, len(a.tables)+len(n.Copy))
	at := func(name string) *Table {
		if tables[name] == nil {
			tables[name] = &Table{Name: name}
		}
		return tables[name]
	}
	for _, c := range n.Copy {
		at(c.Table)
	}
	for name, rows := range a.tables {
		at(name).Rows = rows
	}
	for _, h := range n.HeldBy {
		at(h.Table).Held += h.Rows
	}
	for _, t := range tables {
		n.Tables = append(n.Tables, *t)
	}
	slices.SortFunc(n.Tables, func(a, b Table) int {
		return cmp.Or(cmp.Compare(b.Rows, a.Rows), cmp.Compare(b.Held, a.Held), cmp.Compare(a.Name, b.Name))
	})
	list := a.byTenant()
	n.OtherTenants = a.others
	for i, t := range list {
		if i < tenantsShown {
			n.Tenants = append(n.Tenants, t)
			continue
		}
		n.OtherTenants += t.Rows
	}
}

// remember puts a problem before the others. One that comes again at once is
// counted instead: a retry every few seconds must not push out what was before.
func (n *Snapshot) remember(p Problem) {
	if len(n.Problems) > 0 {
		last := &n.Problems[0]
		if last.Message == p.Message && last.Class == p.Class && last.Hint == p.Hint {
			last.At = p.At
			last.Times++
			return
		}
	}
	n.Problems = slices.Insert(n.Problems, 0, p)
	n.Problems = n.Problems[:min(len(n.Problems), problemsKept)]
}
