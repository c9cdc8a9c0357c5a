package replicator

import (
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
)

// rowRoom copies rows out of a connection's buffer into room for many of them: a
// piece has tens of thousands of rows, and allocations for each are what the
// collector would be busy with. Rows of one room keep each other in memory.
type rowRoom struct {
	text   strings.Builder
	values cdc.Row
}

const (
	roomText   = 64 << 10
	roomValues = 2048
)

func (r *rowRoom) row(values [][]byte) cdc.Row {
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
		r.values = make(cdc.Row, max(len(values), roomValues))
	}
	row := r.values[:len(values):len(values)]
	r.values = r.values[len(values):]
	text := r.text.String()[at:]
	for i, v := range values {
		if v == nil {
			continue
		}
		row[i] = cdc.TextValue(text[:len(v)])
		text = text[len(v):]
	}
	return row
}

// textRow copies one row that stands alone.
func textRow(values [][]byte) cdc.Row {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	r := rowRoom{values: make(cdc.Row, len(values))}
	r.text.Grow(n)
	return r.row(values)
}
