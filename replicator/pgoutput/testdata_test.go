package pgoutput

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
)

// capture is what a server sent for one case. It describes each relation that it
// mentions, so that it can be decoded by itself.
type capture struct {
	name   string
	frames [][]byte
}

// captures reads a file of testdata: frames in hexadecimal, one in a line, under
// lines that name their case after a #.
func captures(tb testing.TB, path string) []capture {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var out []capture
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "# "); ok {
			out = append(out, capture{name: name})
			continue
		}
		frame, err := hex.DecodeString(line)
		if err != nil || len(out) == 0 {
			tb.Fatalf("%s: not a case and not a frame: %q", path, line)
		}
		last := &out[len(out)-1]
		last.frames = append(last.frames, frame)
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// allCaptures reads the captures of all servers, by major version.
func allCaptures(tb testing.TB) map[string][]capture {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no captures in testdata: %v", err)
	}
	all := make(map[string][]capture)
	for _, path := range paths {
		all[strings.TrimSuffix(filepath.Base(path), ".hex")] = captures(tb, path)
	}
	return all
}

// render decodes captures and says what is in them. Without exact it leaves out
// what differs from one server to the next: positions, times and ids.
func render(captures []capture, exact bool) (string, error) {
	var b strings.Builder
	for _, c := range captures {
		fmt.Fprintf(&b, "# %s\n", c.name)
		d := NewDecoder()
		var m Message
		for i, frame := range c.frames {
			if err := d.Decode(frame, &m); err != nil {
				return "", fmt.Errorf("case %s, frame %d: %w", c.name, i, err)
			}
			fmt.Fprintln(&b, text(&m, exact))
		}
	}
	return b.String(), nil
}

// text is a message for people.
func text(m *Message, exact bool) string {
	var b strings.Builder
	b.WriteByte(byte(m.Kind))
	number := func(name string, v any) {
		if exact {
			fmt.Fprintf(&b, " %s=%v", name, v)
		}
	}
	switch m.Kind {
	case Begin:
		number("xid", m.XID)
		number("commit", m.CommitLSN)
		number("time", m.CommitTime.Format("2006-01-02T15:04:05.000000Z07:00"))
	case Commit:
		number("commit", m.CommitLSN)
		number("end", m.EndLSN)
		number("time", m.CommitTime.Format("2006-01-02T15:04:05.000000Z07:00"))
	case Relation:
		b.WriteByte(' ')
		b.WriteString(name(m.Relation))
		fmt.Fprintf(&b, " identity=%c", m.Relation.Identity)
		number("oid", m.Relation.OID)
		for _, c := range m.Relation.Columns {
			fmt.Fprintf(&b, "\n    %q mod=%d key=%t", c.Name, c.Mod, c.Key)
			number("type", c.Type)
		}
	case Insert, Update, Delete:
		b.WriteByte(' ')
		b.WriteString(name(m.Relation))
		if m.Old != nil {
			fmt.Fprintf(&b, "\n    old full=%t%s", m.OldFull, row(m.Old))
		}
		if m.New != nil {
			fmt.Fprintf(&b, "\n    new%s", row(m.New))
		}
	case Truncate:
		fmt.Fprintf(&b, " cascade=%t restart_identity=%t", m.Cascade, m.RestartIdentity)
		for _, rel := range m.Relations {
			b.WriteByte(' ')
			b.WriteString(name(rel))
		}
	case LogicalMessage:
		fmt.Fprintf(&b, " transactional=%t prefix=%q content=%q", m.Transactional, m.Prefix, m.Content)
		number("lsn", m.LSN)
	case Type:
		fmt.Fprintf(&b, " %q.%q", m.Schema, m.Name)
		number("oid", m.OID)
	case Origin:
		fmt.Fprintf(&b, " %q commit=%s", m.Name, m.CommitLSN)
	}
	return b.String()
}

func name(rel *cdc.Relation) string { return fmt.Sprintf("%q.%q", rel.Schema, rel.Name) }

func row(row cdc.Row) string {
	var b strings.Builder
	for _, v := range row {
		switch v.Kind {
		case cdc.Null:
			b.WriteString(" null")
		case cdc.Unchanged:
			b.WriteString(" unchanged")
		default:
			text := v.Text
			if len(text) > 100 {
				text = fmt.Sprintf("%s… and %d bytes", text[:20], len(text)-20)
			}
			fmt.Fprintf(&b, " %q", text)
		}
	}
	return b.String()
}

// hexFile is captures as a file of testdata.
func hexFile(captures []capture) []byte {
	var b bytes.Buffer
	for _, c := range captures {
		fmt.Fprintf(&b, "# %s\n", c.name)
		for _, frame := range c.frames {
			fmt.Fprintf(&b, "%x\n", frame)
		}
	}
	return b.Bytes()
}
