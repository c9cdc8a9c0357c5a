package rest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// ping makes sure of the key and of the function.
func (s *session) ping(ctx context.Context) error {
	s.reset()
	_, err := s.alone(ctx, nil)
	return err
}

// pingReading makes sure of the function that reads.
func (s *session) pingReading(ctx context.Context) error {
	_, err := (&snapshots{s}).Run(ctx, nil)
	return err
}

// lacking returns those of texts that the target doesn't have.
func (s *session) lacking(ctx context.Context, texts []*postgres.Template) (missing []*postgres.Template, err error) {
	ids := make([]string, len(texts))
	for i, t := range texts {
		ids[i] = statementID(t)
	}
	rows, err := s.texts(ctx, unknownStatements, s.name, pg.TextArray(ids))
	for _, r := range rows {
		missing = append(missing, texts[slices.Index(ids, r[0].Text)])
	}
	return missing, err
}

// texts runs one statement by itself and returns its rows as texts.
func (s *session) texts(ctx context.Context, sql string, args ...string) (rows []cdc.Row, err error) {
	st := &postgres.Statement{Template: plain(sql), Read: func(r postgres.Result) error {
		for r.NextRow() {
			rows = append(rows, cdc.CopyRow(r.Values()))
		}
		return nil
	}}
	for _, a := range args {
		st.Args = append(st.Args, []byte(a))
	}
	_, err = s.alone(ctx, []*postgres.Statement{st})
	return rows, err
}

// strangers names the tables of a mapping, and the columns of the others, that the
// statements at the target don't know; "" if it knows all, and what it lacks is
// another release's.
func (s *session) strangers(ctx context.Context, schema *sink.Schema) (string, error) {
	var names, tables, columns []string
	add := func(name, table, column string) {
		names, tables, columns = append(names, name), append(tables, table), append(columns, column)
	}
	for _, t := range schema.Tables {
		table := pg.Quote(t.Schema, t.Name)
		add("table "+t.FullName(), table, "")
		for _, c := range t.Columns {
			add("column "+c.Name+" of table "+t.FullName(), table, pg.Quote(c.Name))
		}
	}
	if e := schema.Entries; e != nil {
		add("table "+e.Schema+"."+e.Name, pg.Quote(e.Schema, e.Name), "")
	}
	rows, err := s.texts(ctx, unknownNames, s.name, pg.TextArray(names), pg.TextArray(tables), pg.TextArray(columns))
	if errors.Is(err, errStatement) {
		return "", nil // it is as old as that
	}
	const most = 6
	var unknown []string
	for i, r := range rows {
		if i == most {
			unknown = append(unknown, fmt.Sprintf("and %d more", len(rows)-most))
			break
		}
		unknown = append(unknown, r[0].Text)
	}
	return strings.Join(unknown, ", "), err
}
