package rest

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/sink/postgres"
)

// entry is a statement as a request carries it:
//
//	["id","1,4;4","r","first parameter",null,…]
//
// with what is chosen from its lists, and what is to become of its result: r to
// be sent back, m and a digest to be compared, or nothing.
type entry struct {
	st   *postgres.Statement
	head []byte // up to the result
	args []byte // behind it
	flag string
	// rows are the answer, as long as it is needed.
	rows []string
}

func encode(st *postgres.Statement) (*entry, error) {
	n := 0
	for _, a := range st.Args {
		n += len(a) + len(a)/8 + 8
	}
	e := &entry{st: st, args: make([]byte, 0, n)}
	e.head = append(append([]byte(`["`), statementID(st.Template)...), `","`...)
	for l, chosen := range st.Choose {
		if l > 0 {
			e.head = append(e.head, ';')
		}
		for i, c := range chosen {
			if i > 0 {
				e.head = append(e.head, ',')
			}
			e.head = strconv.AppendInt(e.head, int64(c)+1, 10)
		}
	}
	e.head = append(e.head, `","`...)
	for _, a := range st.Args {
		e.args = append(e.args, ',')
		if a == nil {
			e.args = append(e.args, "null"...)
			continue
		}
		if !utf8.Valid(a) {
			// What the server would say; the gateway would refuse the whole request.
			return nil, &pgconn.PgError{Severity: "ERROR", Code: "22021"}
		}
		e.args = quote(e.args, a)
	}
	if st.Read != nil {
		e.flag = "r"
	}
	st.Args = nil
	return e, nil
}

func (e *entry) size() int { return len(e.head) + len(e.flag) + len(e.args) + 4 }

func (e *entry) append(b []byte) []byte {
	b = append(append(b, e.head...), e.flag...)
	return append(append(append(b, '"'), e.args...), ']')
}

// staged lets go of what the target has now.
func (e *entry) staged() { e.head, e.args = nil, nil }

// settle asks, from now on, for the same answer.
func (e *entry) settle() {
	slices.Sort(e.rows)
	sum := md5.New()
	for i, r := range e.rows {
		if i > 0 {
			_, _ = sum.Write([]byte{'\n'})
		}
		_, _ = sum.Write([]byte(r))
	}
	e.flag = "m" + hex.EncodeToString(sum.Sum(nil))
	e.rows = nil
}

// join makes one JSON array of entries.
func join(entries []*entry) []byte {
	b := make([]byte, 0, size(entries)+len(entries)+2)
	b = append(b, '[')
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.append(b)
	}
	return append(b, ']')
}

// quote appends a as a JSON string.
func quote(b, a []byte) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i, c := range a {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, a[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(b, a[start:]...), '"')
}

// cutAt is the largest length up to n at which text can be cut without breaking a
// character.
func cutAt(text []byte, n int) int {
	if len(text) <= n {
		return len(text)
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}

func number(n int) []byte { return strconv.AppendInt(nil, int64(n), 10) }

func atoi(b []byte) (int, error) {
	n, err := strconv.Atoi(string(b))
	if err != nil {
		return 0, errReply
	}
	return n, nil
}

// statementID names a statement by its text.
func statementID(t *postgres.Template) string {
	h := sha256.New()
	for _, texts := range slices.Concat([][]string{t.Parts}, t.Lists) {
		_, _ = h.Write([]byte("\x00"))
		for _, text := range texts {
			_, _ = h.Write([]byte("\x01" + text))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// reply is what the function returns.
type reply struct {
	Results []struct {
		Op   int      `json:"op"`
		Rows []string `json:"rows"`
	} `json:"results"`
	Error *replyError `json:"error"`
	// Op is the statement that failed, from 1 on.
	Op int `json:"op"`
}

type replyError struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	Schema     string `json:"schema"`
	Table      string `json:"table"`
	Column     string `json:"column"`
	Constraint string `json:"constraint"`
}

func readReply(body []byte) (*reply, error) {
	r := new(reply)
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, errReply
	}
	return r, nil
}

// result is the rows of a statement, each as the text of a composite value, which
// is made of the output functions of its columns (PostgreSQL documentation,
// rowtypes, "Composite Type Input and Output Syntax").
type result struct {
	rows   []string
	values [][]byte
	bad    bool
}

func (r *result) NextRow() bool {
	if len(r.rows) == 0 || r.bad {
		return false
	}
	var ok bool
	if r.values, ok = composite(r.rows[0], r.values[:0]); !ok {
		r.bad = true
		return false
	}
	r.rows = r.rows[1:]
	return true
}

func (r *result) Values() [][]byte { return r.values }

func (r *result) Close() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err() }

func (r *result) err() error {
	if r.bad {
		return errReply
	}
	return nil
}

// composite reads "(1,,"a ""b""","")": nothing at all between commas is NULL.
func composite(text string, values [][]byte) ([][]byte, bool) {
	n := len(text)
	if n < 2 || text[0] != '(' || text[n-1] != ')' {
		return nil, false
	}
	text = text[1 : n-1]
	for {
		if text == "" || text[0] == ',' {
			values = append(values, nil)
		} else {
			var v []byte
			if v, text = field(text); v == nil {
				return nil, false
			}
			values = append(values, v)
		}
		if text == "" {
			return values, true
		}
		text = text[1:] // the comma
	}
}

// field reads one value up to a comma outside quotes, or the end; nil if a quote
// isn't closed.
func field(text string) (value []byte, rest string) {
	v := make([]byte, 0, min(len(text), 64))
	quoted := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && i+1 < len(text):
			i++
			v = append(v, text[i])
		case c == '"' && quoted && i+1 < len(text) && text[i+1] == '"':
			i++
			v = append(v, '"')
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return v, text[i:]
		default:
			v = append(v, c)
		}
	}
	if quoted {
		return nil, ""
	}
	return v, ""
}
