package pg

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Ask runs a statement, whose parameters are texts, and returns its rows as texts.
// Over an API it knows only the statements that were made known there.
type Ask func(ctx context.Context, sql string, args ...string) ([]cdc.Row, error)

// AskOver asks over a connection.
func AskOver(conn *pgx.Conn) Ask {
	return func(ctx context.Context, sql string, args ...string) ([]cdc.Row, error) {
		all := []any{pgx.QueryResultFormats{pgx.TextFormatCode}}
		for _, a := range args {
			all = append(all, a)
		}
		rows, err := conn.Query(ctx, sql, all...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(r pgx.CollectableRow) (cdc.Row, error) {
			return cdc.CopyRow(r.RawValues()), nil
		})
	}
}

// One returns the texts of the only row of a statement's result.
func (ask Ask) One(ctx context.Context, sql string, args ...string) ([]string, error) {
	rows, err := ask(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, pgx.ErrNoRows
	}
	texts := make([]string, len(rows[0]))
	for i, v := range rows[0] {
		texts[i] = v.Text
	}
	return texts, nil
}

var quoteElement = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// TextArray is the text of an array of texts, as a parameter of Ask.
func TextArray(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = `"` + quoteElement.Replace(t) + `"`
	}
	return "{" + strings.Join(quoted, ",") + "}"
}

// SplitNames makes the two arrays that catalogs are asked with.
func SplitNames(list []TableName) (schemas, names []string) {
	schemas, names = []string{}, []string{}
	for _, n := range list {
		schemas, names = append(schemas, n.Schema), append(names, n.Name)
	}
	return schemas, names
}
