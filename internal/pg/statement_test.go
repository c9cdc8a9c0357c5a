package pg

import "testing"

func TestStatement(t *testing.T) {
	t.Parallel()
	plain := Statement{SQL: "CREATE TABLE IF NOT EXISTS t (\n\ta int\n)"}
	if got := plain.String(); got != plain.SQL {
		t.Errorf("a plain statement is %q", got)
	}
	if got, want := plain.FirstLine(), "CREATE TABLE IF NOT EXISTS t"; got != want {
		t.Errorf("first line is %q, want %q", got, want)
	}
	guarded := Statement{SQL: `CREATE ROLE "a$walbridge$b"`, Unless: "SELECT FROM r"}
	want := "DO $walbridge_$\nBEGIN\n\tIF NOT EXISTS (SELECT FROM r) THEN\n\t\tCREATE ROLE \"a$walbridge$b\";\n\tEND IF;\nEND\n$walbridge_$"
	if got := guarded.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := guarded.FirstLine(); got != guarded.SQL {
		t.Errorf("first line is %q", got)
	}
	if got, want := Comment("a\nb"), "-- a\n-- b\n"; got != want {
		t.Errorf("comment is %q, want %q", got, want)
	}
}
