package mapping

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// A copy goes through a table in the order of its key, piece by piece, and Go
// has to agree with PostgreSQL about that order to know which rows of the stream
// are in which piece. Integers are ordered by value and UUIDs as they are, whose
// order is that of their text; both can use the primary key's index. Everything
// else is ordered by the bytes of its text.
type keyOrder uint8

const (
	byInteger keyOrder = iota
	byUUID
	byText // text and varchar, whose text is themselves
	byOutput
)

const (
	oidUUID    = 2950
	oidText    = 25
	oidVarchar = 1043
)

func (k *KeyColumn) order() keyOrder {
	switch {
	case k.Integer:
		return byInteger
	case k.Type == oidUUID:
		return byUUID
	case k.Type == oidText || k.Type == oidVarchar:
		return byText
	}
	return byOutput
}

// sql is the key column as it is compared and ordered.
func (k *KeyColumn) sql(alias string) string {
	col := alias + "." + pg.Quote(k.Name)
	switch k.order() {
	case byInteger, byUUID:
		return col
	case byText:
		return col + `::pg_catalog.text COLLATE pg_catalog."C"`
	}
	// Not a cast: those to text differ from what the stream sends for boolean
	// ("true" for "t") and char(n) (without its blanks).
	return "pg_catalog.concat(" + col + `) COLLATE pg_catalog."C"`
}

// cast is the type that a parameter of the key column is cast to.
func (k *KeyColumn) cast() string {
	switch k.order() {
	case byInteger:
		return "pg_catalog.int8"
	case byUUID:
		return "pg_catalog.uuid"
	}
	return "pg_catalog.text"
}

// CompareKeys compares two keys in the order that PieceSQL reads them.
func (s *Source) CompareKeys(a, b []string) int {
	for i := range s.Key {
		if c := s.Key[i].compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func (k *KeyColumn) compare(a, b string) int {
	if k.order() == byInteger {
		x, errX := strconv.ParseInt(a, 10, 64)
		y, errY := strconv.ParseInt(b, 10, 64)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
	}
	return strings.Compare(a, b)
}

// params collects the parameters of a statement: texts, which the statement
// casts.
type params []string

func (p *params) add(v, cast string) string {
	*p = append(*p, v)
	return fmt.Sprintf("$%d::%s", len(*p), cast)
}

// beyond compares the key with bound: op is > or <=.
func (s *Source) beyond(p *params, op string, bound []string) string {
	if len(s.Key) == 1 {
		return s.Key[0].sql("s") + " " + op + " " + p.add(bound[0], s.Key[0].cast())
	}
	var left, right []string
	for i := range s.Key {
		left = append(left, s.Key[i].sql("s"))
		right = append(right, p.add(bound[i], s.Key[i].cast()))
	}
	return "(" + strings.Join(left, ", ") + ") " + op + " (" + strings.Join(right, ", ") + ")"
}

// among joins the table with a list of keys: one array parameter for each column
// of the key.
func (s *Source) among(p *params, keys [][]string) string {
	var arrays, names, on []string
	for i := range s.Key {
		column := make([]string, len(keys))
		for j, key := range keys {
			column[j] = key[i]
		}
		name := "k" + strconv.Itoa(i+1)
		arrays = append(arrays, "pg_catalog.unnest("+p.add(arrayText(column), s.Key[i].cast()+"[]")+")")
		names = append(names, name)
		on = append(on, s.Key[i].sql("s")+" = k."+name)
	}
	return " JOIN ROWS FROM (" + strings.Join(arrays, ", ") + ") AS k(" + strings.Join(names, ", ") +
		") ON " + strings.Join(on, " AND ")
}

// arrayText writes texts as an array of PostgreSQL.
func arrayText(texts []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, t := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(arrayEscape.Replace(t))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

var arrayEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// orderBy is the ORDER BY list of the key.
func (s *Source) orderBy() string {
	var list []string
	for i := range s.Key {
		list = append(list, s.Key[i].sql("s"))
	}
	return strings.Join(list, ", ")
}
