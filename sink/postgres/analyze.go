package postgres

// analyzeAfter is how many rows have to have been written to a private table,
// beside as many as it had, before its statistics are made anew.
const analyzeAfter = 100

// growth knows how much has been written to a private table since its statistics
// were made. They decide between reading a few keys by an index and joining all:
// a plan that was made for one held row, because there was one a minute ago,
// takes minutes with a thousand. Autovacuum comes too late for that.
type growth struct {
	known   bool // statistics have been made by this connection
	at      int64
	written int64
}

func (g *growth) due() bool { return !g.known || g.written > analyzeAfter+g.at }

// refreshed notes that statistics are made of what has been written.
func (g *growth) refreshed() {
	g.known = true
	g.at += g.written
	g.written = 0
}

// analyze makes statistics of the private tables that have outgrown theirs. It is
// called before statements over sets, within their batch.
func (t *tx) analyze() {
	for _, g := range []struct {
		table string
		of    *growth
	}{{"held", &t.s.held}, {"path_values", &t.s.paths}} {
		if !g.of.due() {
			continue
		}
		t.add(refreshStatistics(g.table))
		g.of.refreshed()
	}
}

// refreshStatistics analyzes a private table with the rights of its owner, which
// the bridge's role need not have.
func refreshStatistics(table string) op {
	return op{sql: "SELECT walbridge.refresh_statistics($1)", args: [][]byte{arg(table)}}
}
