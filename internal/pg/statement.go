package pg

import "strings"

// Statement is one statement of a script that a person reads before it runs.
type Statement struct {
	// About says what it is for; empty where that of the one before covers it.
	About string
	// SQL is the statement without a semicolon at its end.
	SQL string
	// Unless, if not empty, is a query: when it returns a row, the statement is
	// passed over. It makes those repeatable that know no IF NOT EXISTS.
	Unless string
}

// String returns the statement as a server takes it, without its comment.
func (s Statement) String() string {
	if s.Unless == "" {
		return s.SQL
	}
	body := "BEGIN\n\tIF NOT EXISTS (" + s.Unless + ") THEN\n\t\t" + s.SQL + ";\n\tEND IF;\nEND"
	tag := "$walbridge$"
	for strings.Contains(body, tag) { // a name may hold anything
		tag = "$" + tag[1:len(tag)-1] + "_$"
	}
	return "DO " + tag + "\n" + body + "\n" + tag
}

// FirstLine returns what an error calls the statement.
func (s Statement) FirstLine() string {
	line, _, _ := strings.Cut(s.SQL, "\n")
	return strings.TrimSuffix(line, " (")
}

// Comment returns text as an SQL comment of whole lines.
func Comment(text string) string {
	return "-- " + strings.ReplaceAll(text, "\n", "\n-- ") + "\n"
}
