package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// doubts are the rows of one chunk that are on both sides. Texts that differ are
// no difference yet: the target's type may write the value in another way, as
// jsonb does with what a conversion has made. The target itself decides.
type doubts struct {
	table *sink.Table
	rows  []*doubt
	// texts are by column the values to be written as the column's type does.
	texts map[int][]question
}

type doubt struct {
	key     sink.Key
	tenant  string
	held    bool
	columns map[int]bool // that differ
}

// question is whether the target's type writes want as it has got.
type question struct {
	row       *doubt
	want, got string
}

func newDoubts(t *sink.Table) *doubts { return &doubts{table: t, texts: map[int][]question{}} }

// add compares two rows column by column.
func (d *doubts) add(target *mapping.Target, key sink.Key, tenant string, want, got cdc.Row, held bool) {
	row := &doubt{key: key, tenant: tenant, held: held, columns: map[int]bool{}}
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

// settle asks the target how its types write the texts in question.
func (d *doubts) settle(ctx context.Context, tx pgx.Tx) error {
	for column, questions := range d.texts {
		texts := make([]string, 0, 2*len(questions))
		for _, q := range questions {
			texts = append(texts, q.want, q.got)
		}
		written, err := rewrite(ctx, tx, d.table.Columns[column].Type, texts)
		if err != nil {
			return fmt.Errorf("compare values of column %s: %w", d.table.Columns[column].Name, err)
		}
		for i, q := range questions {
			if written == nil || written[2*i] != written[2*i+1] {
				q.row.columns[column] = true
			}
		}
	}
	return nil
}

// rewrite returns texts as typ writes them, nil if it takes one of them for no
// value at all.
func rewrite(ctx context.Context, tx pgx.Tx, typ string, texts []string) ([]cdc.Value, error) {
	var out []cdc.Value
	// A savepoint, because a text that the type refuses would end the
	// transaction.
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		sql := fmt.Sprintf("SELECT x::%s FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u(x, n) ORDER BY n", typ)
		return textRows(ctx, tx, sql, []any{texts}, func(row cdc.Row) error {
			out = append(out, row[0])
			return nil
		})
	})
	if code := fault.Code(err); len(code) == 5 && code[:2] == "22" {
		return nil, nil
	}
	return out, err
}
