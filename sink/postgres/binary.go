package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// binaryFormat is COPY's binary format (PostgreSQL documentation, sql-copy), which
// the server need not scan for ends of fields and whose values it need not parse.
// Values are texts here as everywhere; those types are converted that are simple
// and frequent, in the form that their receive functions take.
type binaryFormat struct{ columns []binaryEncoder }

// binaryEncoder appends a value, or returns false for a text that it doesn't know:
// the server will take or refuse it as it is.
type binaryEncoder func(b []byte, text string) ([]byte, bool)

// binaryTypes are by the form of sink.Column.Type.
var binaryTypes = map[string]binaryEncoder{
	builtin("int2"): encodeInt(16), builtin("int4"): encodeInt(32), builtin("int8"): encodeInt(64),
	builtin("float4"): encodeFloat(32), builtin("float8"): encodeFloat(64),
	builtin("bool"): encodeBool,
	builtin("text"): encodeText, builtin("varchar"): encodeText, builtin("bpchar"): encodeText, builtin("json"): encodeText,
	builtin("jsonb"): encodeJSONB, builtin("uuid"): encodeUUID, builtin("bytea"): encodeBytes, builtin("date"): encodeDate,
	builtin("timestamp"): encodeTime, builtin("timestamptz"): encodeTime,
	builtin("_text"): encodeTexts,
}

func builtin(name string) string { return `"pg_catalog"."` + name + `"` }

// newBinaryFormat is false for sets with a column that has to travel as text.
func newBinaryFormat(set *sink.RowSet) (*binaryFormat, bool) {
	f := &binaryFormat{}
	for _, c := range set.Columns {
		e := binaryTypes[set.Table.Columns[c].Type]
		if e == nil {
			return nil, false
		}
		f.columns = append(f.columns, e)
	}
	return f, true
}

func (f *binaryFormat) with() string { return " WITH (FORMAT binary)" }

func (f *binaryFormat) head() string {
	return "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
}

func (f *binaryFormat) tail() string { return "\xff\xff" }

func (f *binaryFormat) row(b []byte, row cdc.Row) ([]byte, bool) {
	b = binary.BigEndian.AppendUint16(b, uint16(len(row)))
	for i := range row {
		if row[i].IsNull() {
			b = append(b, "\xff\xff\xff\xff"...)
			continue
		}
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		var ok bool
		if b, ok = f.columns[i](b, row[i].Text); !ok {
			return nil, false
		}
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	return b, true
}

func encodeInt(bits int) binaryEncoder {
	return func(b []byte, text string) ([]byte, bool) {
		n, err := strconv.ParseInt(text, 10, bits)
		switch bits {
		case 16:
			b = binary.BigEndian.AppendUint16(b, uint16(n))
		case 32:
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		default:
			b = binary.BigEndian.AppendUint64(b, uint64(n))
		}
		return b, err == nil
	}
}

func encodeFloat(bits int) binaryEncoder {
	return func(b []byte, text string) ([]byte, bool) {
		f, err := strconv.ParseFloat(text, bits)
		if bits == 32 {
			return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(f))), err == nil
		}
		return binary.BigEndian.AppendUint64(b, math.Float64bits(f)), err == nil
	}
}

func encodeBool(b []byte, text string) ([]byte, bool) {
	switch text {
	case "t":
		return append(b, 1), true
	case "f":
		return append(b, 0), true
	}
	return b, false
}

func encodeText(b []byte, text string) ([]byte, bool) { return append(b, text...), true }

// encodeJSONB puts the version of the format before the text.
func encodeJSONB(b []byte, text string) ([]byte, bool) { return append(append(b, 1), text...), true }

func encodeUUID(b []byte, text string) ([]byte, bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return b, false
	}
	var few [32]byte
	digits := append(few[:0], text[:8]...)
	for _, at := range [...][2]int{{9, 13}, {14, 18}, {19, 23}, {24, 36}} {
		digits = append(digits, text[at[0]:at[1]]...)
	}
	b, err := hex.AppendDecode(b, digits)
	return b, err == nil
}

func encodeBytes(b []byte, text string) ([]byte, bool) {
	digits, ok := strings.CutPrefix(text, `\x`)
	if !ok {
		return b, false
	}
	b, err := hex.AppendDecode(b, []byte(digits))
	return b, err == nil
}

// epoch is where PostgreSQL's dates and times begin.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func encodeDate(b []byte, text string) ([]byte, bool) {
	t, rest, ok := parseDate(text)
	if !ok || rest != "" {
		return b, false
	}
	return binary.BigEndian.AppendUint32(b, uint32((t.Unix()-epoch.Unix())/(24*60*60))), true
}

// encodeTime encodes a time in UTC, with microseconds, as both kinds of timestamps
// have it: "2026-01-02 03:04:05.678901", and a zone that says so.
func encodeTime(b []byte, text string) ([]byte, bool) {
	day, rest, ok := parseDate(text)
	if !ok || len(rest) < len(" 03:04:05") || rest[0] != ' ' || rest[3] != ':' || rest[6] != ':' {
		return b, false
	}
	hour, ok1 := digits(rest[1:3])
	minute, ok2 := digits(rest[4:6])
	second, ok3 := digits(rest[7:9])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return b, false
	}
	micros := 0
	if rest = rest[9:]; strings.HasPrefix(rest, ".") {
		n := 1
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n < 2 || n > 7 {
			return b, false
		}
		micros, _ = digits(rest[1:n])
		for range 7 - n {
			micros *= 10
		}
		rest = rest[n:]
	}
	if rest != "" && rest != "+00" && rest != "Z" {
		return b, false
	}
	at := day.UnixMicro() - epoch.UnixMicro() + int64((hour*60+minute)*60+second)*1_000_000 + int64(micros)
	return binary.BigEndian.AppendUint64(b, uint64(at)), true
}

// parseDate reads the date that a text begins with. Years before our era or beyond
// four digits are left to the server.
func parseDate(text string) (day time.Time, rest string, ok bool) {
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return day, "", false
	}
	y, ok1 := digits(text[:4])
	m, ok2 := digits(text[5:7])
	d, ok3 := digits(text[8:10])
	day = time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	return day, text[10:], ok1 && ok2 && ok3 && y > 0 && day.Day() == d && int(day.Month()) == m
}

func digits(text string) (n int, ok bool) {
	for i := range len(text) {
		c := text[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = 10*n + int(c)
	}
	return n, true
}

// encodeTexts encodes an array of texts.
func encodeTexts(b []byte, text string) ([]byte, bool) {
	const oidText = 25
	elements, err := parseArray([]byte(text))
	if err != nil {
		return b, false
	}
	dimensions, nulls := uint32(1), uint32(0)
	if len(elements) == 0 {
		dimensions = 0
	}
	for i := range elements {
		if elements[i].IsNull() {
			nulls = 1
		}
	}
	for _, n := range []uint32{dimensions, nulls, oidText} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	if dimensions == 0 {
		return b, true
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(elements)))
	b = binary.BigEndian.AppendUint32(b, 1) // the lower bound
	for i := range elements {
		if elements[i].IsNull() {
			b = append(b, "\xff\xff\xff\xff"...)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(elements[i].Text)))
		b = append(b, elements[i].Text...)
	}
	return b, true
}
