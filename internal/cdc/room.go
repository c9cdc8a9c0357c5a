package cdc

import "strings"

// Room copies rows of texts out of a connection's buffer, many of them into few
// allocations, which are what the collector would be busy with. Rows of one Room keep
// each other in memory. The zero Room is ready.
type Room struct {
	text   strings.Builder
	values Row
}

const (
	roomText   = 64 << 10
	roomValues = 2048
)

// Row copies a row; nil is null.
func (r *Room) Row(values [][]byte) Row {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	if r.text.Cap()-r.text.Len() < n {
		r.text = strings.Builder{} // what has been cut off the former stays there
		r.text.Grow(max(n, roomText))
	}
	at := r.text.Len()
	for _, v := range values {
		r.text.Write(v)
	}
	if len(r.values) < len(values) {
		r.values = make(Row, max(len(values), roomValues))
	}
	row := r.values[:len(values):len(values)]
	r.values = r.values[len(values):]
	text := r.text.String()[at:]
	for i, v := range values {
		if v == nil {
			continue
		}
		row[i] = TextValue(text[:len(v)])
		text = text[len(v):]
	}
	return row
}

// CopyRow copies one row that stands alone. Its texts share one allocation.
func CopyRow(values [][]byte) Row {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	r := Room{values: make(Row, len(values))}
	r.text.Grow(n)
	return r.Row(values)
}
