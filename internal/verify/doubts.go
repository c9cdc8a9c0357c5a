package verify

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// doubts are rows that are on both sides. Texts that differ are no difference
// yet: the target's type may write the value in another way, as jsonb does with
// what a conversion has made. The target itself decides.
type doubts struct {
	table *sink.Table
	rows  []*doubt
	// texts are by column the values to be written as the column's type does.
	texts map[int][]question
}

type doubt struct {
	suspect *suspect
	columns map[int]bool // that differ
}

// question is whether the target's type writes want as it has got.
type question struct {
	row       *doubt
	want, got string
}

func newDoubts(t *sink.Table) *doubts { return &doubts{table: t, texts: map[int][]question{}} }

// add compares two rows column by column.
func (d *doubts) add(target *mapping.Target, s *suspect, want, got cdc.Row) {
	row := &doubt{suspect: s, columns: map[int]bool{}}
	d.rows = append(d.rows, row)
	for i := range d.table.Columns {
		if o := target.Columns[i].Observed; o != nil {
			if !observedFits(o, want, got[i]) {
				row.columns[i] = true
			}
			continue
		}
		switch {
		case want[i] == got[i]:
		case want[i].IsNull() || got[i].IsNull() || i == d.table.Tenant:
			row.columns[i] = true
		default:
			d.texts[i] = append(d.texts[i], question{row, want[i].Text, got[i].Text})
		}
	}
}

// observedFits checks the little that is certain about a column that only the
// stream can know: it is null unless the watched column has one of its values.
// It may be null there too where the first copy had nothing to go by.
func observedFits(o *mapping.Observed, want cdc.Row, got cdc.Value) bool {
	watched := want[o.Column]
	in := watched.Kind == cdc.Text && o.When[watched.Text]
	if !in {
		return got.IsNull()
	}
	return o.Initial == "" || !got.IsNull()
}

// settle asks the target how its types write the texts in question, and turns
// the verdicts of rows that differ.
func (d *doubts) settle(ctx context.Context, target sink.Reader) error {
	for column, questions := range d.texts {
		if err := ask(ctx, target, column, d.table.Columns[column].Type, questions); err != nil {
			return fmt.Errorf("compare values of column %s: %w", d.table.Columns[column].Name, err)
		}
	}
	for _, row := range d.rows {
		v := &row.suspect.verdict
		if len(row.columns) > 0 {
			v.finding, v.why = different, "different"
		}
		for column := range row.columns {
			v.columns = append(v.columns, d.table.Columns[column].Name)
		}
	}
	return nil
}

// ask has the type write both texts of each question. One that it refuses spoils
// no other's answer.
func ask(ctx context.Context, target sink.Reader, column int, typ string, questions []question) error {
	texts := make([]string, 0, 2*len(questions))
	for _, q := range questions {
		texts = append(texts, q.want, q.got)
	}
	written, err := target.Written(ctx, typ, texts)
	switch n := len(questions); {
	case err != nil:
		return err
	case written == nil && n > 1:
		if err := ask(ctx, target, column, typ, questions[:n/2]); err != nil {
			return err
		}
		return ask(ctx, target, column, typ, questions[n/2:])
	}
	for i, q := range questions {
		if written == nil || written[2*i] != written[2*i+1] {
			q.row.columns[column] = true
		}
	}
	return nil
}
