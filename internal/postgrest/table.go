package postgrest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
)

// reserved are the parameters of a read that are no filters.
var reserved = []string{"select", "order", "limit", "offset", "apikey"}

// read answers a GET of a table or a view.
func (q *query) read(ctx context.Context) *response {
	asked := q.r.URL.Query()
	sql, refused := q.readSQL(asked)
	if refused != nil {
		return refused
	}
	limit, offset := q.s.opts.MaxRows, 0
	for _, bound := range []struct {
		name string
		to   *int
	}{{"limit", &limit}, {"offset", &offset}} {
		if !asked.Has(bound.name) {
			continue
		}
		n, err := strconv.Atoi(asked.Get(bound.name))
		if err != nil || n < 0 {
			return badQuery(bound.name, asked.Get(bound.name))
		}
		*bound.to = n
	}
	limit = min(limit, q.s.opts.MaxRows)
	return q.run(ctx, nil, func(tx pgx.Tx) (*response, error) {
		total := "*"
		if strings.Contains(q.r.Header.Get("Prefer"), "count=exact") {
			var n int64
			if err := tx.QueryRow(ctx, "SELECT pg_catalog.count(*) FROM ("+sql+") AS r").Scan(&n); err != nil {
				return nil, err
			}
			total = strconv.FormatInt(n, 10)
		}
		var body []byte
		var rows int
		page := fmt.Sprintf("SELECT coalesce(pg_catalog.json_agg(r), '[]')::text, pg_catalog.count(*) FROM (%s LIMIT %d OFFSET %d) AS r", sql, limit, offset)
		if err := tx.QueryRow(ctx, page).Scan(&body, &rows); err != nil {
			return nil, err
		}
		return q.page(body, rows, offset, total), nil
	})
}

// page makes the answer: a range in a header, and one object where one is asked for.
func (q *query) page(body []byte, rows, offset int, total string) *response {
	if strings.Contains(q.r.Header.Get("Accept"), "application/vnd.pgrst.object+json") {
		if rows != 1 {
			return problem(http.StatusNotAcceptable, "PGRST116", "Cannot coerce the result to a single JSON object")
		}
		body = body[1 : len(body)-1]
	}
	answer := respond(http.StatusOK, "application/json; charset=utf-8", body)
	span := "*"
	if rows > 0 {
		span = fmt.Sprintf("%d-%d", offset, offset+rows-1)
	}
	answer.header.Set("Content-Range", span+"/"+total)
	if total != "*" && strconv.Itoa(rows) != total {
		answer.status = http.StatusPartialContent
	}
	return answer
}

func badQuery(name, value string) *response {
	return problem(http.StatusBadRequest, "PGRST100", fmt.Sprintf("%q (%s) failed to parse", value, name))
}

func (q *query) readSQL(asked url.Values) (string, *response) {
	columns, ok := selectList(asked.Get("select"))
	if !ok {
		return "", badQuery("select parameter", asked.Get("select"))
	}
	sql := "SELECT " + columns + " FROM " + pg.Quote(q.schema, q.name)
	var where []string
	for name, values := range asked {
		if slices.Contains(reserved, name) {
			continue
		}
		for _, v := range values {
			cond, ok := filter(name, v)
			if !ok {
				return "", badQuery("filter", v)
			}
			where = append(where, cond)
		}
	}
	if len(where) > 0 {
		slices.Sort(where)
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	order, ok := orderList(asked.Get("order"))
	if !ok {
		return "", badQuery("order", asked.Get("order"))
	}
	return sql + order, nil
}

// column is a name, or a name with an alias before it and a cast behind it.
var column = regexp.MustCompile(`^(?:([^:(),]+):)?([^:(),]+)(?:::([a-z0-9_]+))?$`)

func selectList(asked string) (string, bool) {
	if asked == "" || asked == "*" {
		return "*", true
	}
	var list []string
	for _, item := range strings.Split(asked, ",") {
		item = strings.TrimSpace(item)
		if item == "*" {
			list = append(list, "*")
			continue
		}
		m := column.FindStringSubmatch(item)
		if m == nil {
			return "", false
		}
		expr := pg.Quote(m[2])
		if m[3] != "" {
			expr += "::" + pg.Quote(m[3])
		}
		if alias := m[1]; alias != "" {
			expr += " AS " + pg.Quote(alias)
		} else if m[3] != "" {
			expr += " AS " + pg.Quote(m[2])
		}
		list = append(list, expr)
	}
	return strings.Join(list, ", "), true
}

var operators = map[string]string{
	"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "like": "LIKE", "ilike": "ILIKE",
}

// filter is "column=operator.value", or "column=not.operator.value".
func filter(name, value string) (string, bool) {
	not := ""
	if rest, ok := strings.CutPrefix(value, "not."); ok {
		not, value = "NOT ", rest
	}
	op, value, ok := strings.Cut(value, ".")
	if !ok {
		return "", false
	}
	col := pg.Quote(name)
	switch op {
	case "is":
		switch value = strings.ToUpper(value); value {
		case "NULL", "TRUE", "FALSE", "UNKNOWN":
			return not + col + " IS " + value, true
		}
		return "", false
	case "in":
		values, ok := list(value)
		return not + col + " IN (" + values + ")", ok
	case "like", "ilike":
		value = strings.ReplaceAll(value, "*", "%")
	}
	sql, ok := operators[op]
	return fmt.Sprintf("%s%s %s %s", not, col, sql, pg.QuoteLiteral(value)), ok
}

// list reads "(a,b,"c,d")".
func list(text string) (string, bool) {
	if len(text) < 3 || text[0] != '(' || text[len(text)-1] != ')' {
		return "", false
	}
	var values []string
	var b strings.Builder
	quoted := false
	for i := 1; i < len(text)-1; i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
			b.WriteByte(text[i])
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			values = append(values, pg.QuoteLiteral(b.String()))
			b.Reset()
		default:
			b.WriteByte(c)
		}
	}
	return strings.Join(append(values, pg.QuoteLiteral(b.String())), ", "), !quoted
}

func orderList(asked string) (string, bool) {
	if asked == "" {
		return "", true
	}
	var list []string
	for _, item := range strings.Split(asked, ",") {
		words := strings.Split(item, ".")
		expr := pg.Quote(words[0])
		for _, w := range words[1:] {
			switch w {
			case "asc", "desc":
				expr += " " + strings.ToUpper(w)
			case "nullsfirst":
				expr += " NULLS FIRST"
			case "nullslast":
				expr += " NULLS LAST"
			default:
				return "", false
			}
		}
		list = append(list, expr)
	}
	return " ORDER BY " + strings.Join(list, ", "), true
}
