package pgoutput

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Ensure that what servers of each version sent is decoded as the golden files
// say.
func TestDecode_Captures(t *testing.T) {
	t.Parallel()
	for version, captures := range allCaptures(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			got, err := render(captures, true)
			if err != nil {
				t.Fatal(err)
			}
			path := "testdata/" + version + ".txt"
			if *update {
				write(t, path, []byte(got))
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("decoded captures differ (-want +got):\n%s", diff)
			}
		})
	}
}

// Ensure that decoding loses nothing.
func TestDecode_RoundTrip(t *testing.T) {
	t.Parallel()
	eachFrame(t, func(t *testing.T, d *Decoder, frame []byte) {
		var m Message
		if err := d.Decode(frame, &m); err != nil {
			t.Fatal(err)
		}
		if got := encode(&m); !bytes.Equal(got, frame) {
			t.Errorf("encoded again:\ngot  %x\nwant %x", got, frame)
		}
	})
}

// eachFrame calls f with every captured frame and a decoder that has seen those
// before it.
func eachFrame(t *testing.T, f func(t *testing.T, d *Decoder, frame []byte)) {
	for version, captures := range allCaptures(t) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			for _, c := range captures {
				d := NewDecoder()
				for _, frame := range c.frames {
					f(t, d, frame)
					var m Message
					if err := d.Decode(frame, &m); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// Ensure that a frame which ends too early, or too late, is refused wherever the
// cut is.
func TestDecode_Truncated(t *testing.T) {
	t.Parallel()
	eachFrame(t, func(t *testing.T, d *Decoder, frame []byte) {
		for n := range frame {
			mustFail(t, d, frame[:n])
		}
		mustFail(t, d, append(bytes.Clone(frame), 0))
	})
}

func mustFail(t *testing.T, d *Decoder, frame []byte) {
	t.Helper()
	var m Message
	err := d.Decode(frame, &m)
	var decodeErr *DecodeError
	switch {
	case !errors.As(err, &decodeErr):
		t.Fatalf("frame %x: got error %v, want a DecodeError", frame, err)
	case len(frame) > 0 && decodeErr.Kind != frame[0], decodeErr.Offset < 0, decodeErr.Offset > len(frame), decodeErr.Reason == "":
		t.Fatalf("frame %x: implausible error %#v", frame, decodeErr)
	}
}

// Ensure that a wrong byte anywhere does no harm: it is refused, or it is a
// frame of its own right.
func TestDecode_Mutated(t *testing.T) {
	t.Parallel()
	eachFrame(t, func(t *testing.T, d *Decoder, frame []byte) {
		for i := range frame {
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff, 'n', 't', 'u', 'b', 'K', 'O', 'N'} {
				mutated := bytes.Clone(frame)
				mutated[i] = b
				// A decoder that learned a wrong description would refuse right rows.
				checkFrame(t, &Decoder{relations: maps.Clone(d.relations)}, mutated)
			}
		}
	})
}

// checkFrame holds what is true of every frame: it is refused by a DecodeError,
// or decodes to something that encodes to the same frame.
func checkFrame(t *testing.T, d *Decoder, frame []byte) {
	t.Helper()
	var m Message
	if err := d.Decode(frame, &m); err != nil {
		var decodeErr *DecodeError
		if !errors.As(err, &decodeErr) {
			t.Fatalf("frame %x: got error %v, want a DecodeError", frame, err)
		}
		return
	}
	if got := encode(&m); !bytes.Equal(got, frame) {
		t.Fatalf("frame encodes to another:\ngot  %x\nwant %x", got, frame)
	}
}

const (
	// table describes a relation 7 with a key and a text.
	table = "R\x00\x00\x00\x07public\x00t\x00d\x00\x02" +
		"\x01id\x00\x00\x00\x00\x14\xff\xff\xff\xff" + "\x00note\x00\x00\x00\x00\x19\xff\xff\xff\xff"
	huge = "\xff\xff\xff\xff"
	most = "\x7f\xff\xff\xff"
	zero = "\x00\x00\x00\x00\x00\x00\x00\x00"
)

// hostile are frames that no server sends.
var hostile = []struct{ name, frame, reason string }{
	{"empty", "", "message is empty"},
	{"unknown_kind", "Z", "unknown kind of message"},
	{"stream_start", "S\x00\x00\x00\x01\x01", "unknown kind of message"},
	{"stream_abort", "A\x00\x00\x00\x01\x00\x00\x00\x01", "unknown kind of message"},
	{"begin_prepare", "b" + zero, "unknown kind of message"},
	{"commit_flags", "C\x01" + zero + zero + zero, "unknown flags"},
	{"relation_columns", "R\x00\x00\x00\x07\x00t\x00d\xff\xff", "message is cut short"},
	{"relation_identity", "R\x00\x00\x00\x07\x00t\x00x\x00\x00", "unknown replica identity"},
	{"relation_name", "R\x00\x00\x00\x07public\x00t", "text has no end"},
	{"relation_column_flags", "R\x00\x00\x00\x07\x00t\x00d\x00\x01\x02id\x00" + zero, "unknown flags"},
	{"relation_unknown", "I\x00\x00\x00\x08N\x00\x01n", "relation 8 was not described"},
	{"row_missing", "I\x00\x00\x00\x07", "message is cut short"},
	{"row_fewer_columns", "I\x00\x00\x00\x07N\x00\x01nn", "row has 1 columns, its relation 2"},
	{"row_more_columns", "I\x00\x00\x00\x07N\xff\xffnn", "row has 65535 columns, its relation 2"},
	{"row_kind", "I\x00\x00\x00\x07X\x00\x02nn", "unknown kind of row"},
	{"insert_old", "I\x00\x00\x00\x07K\x00\x02nn", "unknown kind of row"},
	{"delete_new", "D\x00\x00\x00\x07N\x00\x02nn", "unknown kind of row"},
	{"update_only_old", "U\x00\x00\x00\x07K\x00\x02nn", "message is cut short"},
	{"update_old_twice", "U\x00\x00\x00\x07K\x00\x02nnK\x00\x02nn", "unknown kind of row"},
	{"delete_twice", "D\x00\x00\x00\x07K\x00\x02nnN\x00\x02nn", "message has bytes after its end"},
	{"value_kind", "I\x00\x00\x00\x07N\x00\x02nx", "unknown kind of value"},
	{"value_binary", "I\x00\x00\x00\x07N\x00\x02nb\x00\x00\x00\x01x", "value is binary, which was not asked for"},
	{"value_unchanged_in_old_row", "D\x00\x00\x00\x07O\x00\x02nu", "value of an old row was not sent"},
	{"value_huge", "I\x00\x00\x00\x07N\x00\x02nt" + huge, "text is longer than the message"},
	{"value_most", "I\x00\x00\x00\x07N\x00\x02nt" + most + "x", "text is longer than the message"},
	{"truncate_huge", "T" + huge + "\x00\x00\x00\x00\x07", "message is cut short"},
	{"truncate_most", "T" + most + "\x00\x00\x00\x00\x07", "message is cut short"},
	{"truncate_flags", "T\x00\x00\x00\x01\x04\x00\x00\x00\x07", "unknown flags"},
	{"truncate_unknown", "T\x00\x00\x00\x02\x00\x00\x00\x00\x07\x00\x00\x00\x08", "relation 8 was not described"},
	{"message_flags", "M\x02" + zero + "p\x00\x00\x00\x00\x00", "unknown flags"},
	{"message_huge", "M\x01" + zero + "p\x00" + huge, "text is longer than the message"},
	{"message_prefix", "M\x01" + zero + "p", "text has no end"},
	{"origin_name", "O" + zero, "text has no end"},
}

func TestDecode_Hostile(t *testing.T) {
	t.Parallel()
	for _, tc := range hostile {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := newDecoder(t, table)
			mustFail(t, d, []byte(tc.frame))
			var m Message
			var decodeErr *DecodeError
			if err := d.Decode([]byte(tc.frame), &m); !errors.As(err, &decodeErr) || decodeErr.Reason != tc.reason {
				t.Errorf("got error %v, want reason %q", err, tc.reason)
			}
		})
	}
}

// newDecoder returns a decoder that has seen the descriptions.
func newDecoder(tb testing.TB, relations ...string) *Decoder {
	tb.Helper()
	d := NewDecoder()
	var m Message
	for _, r := range relations {
		if err := d.Decode([]byte(r), &m); err != nil {
			tb.Fatal(err)
		}
	}
	return d
}

// Ensure that no frame makes the decoder allocate more than a small multiple of
// its length, whatever lengths it claims. Not parallel: it counts allocations.
func TestDecode_Memory(t *testing.T) {
	measure := func(d *Decoder, frame []byte) uint64 {
		var m Message
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = d.Decode(frame, &m)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	check := func(name string, d *Decoder, frame []byte) {
		// A null takes one byte in the frame and 24 in the row.
		most := uint64(32*len(frame) + 1024)
		// The runtime allocates now and then, too: once is enough.
		for range 5 {
			if measure(d, frame) <= most {
				return
			}
		}
		t.Errorf("%s: frame of %d bytes allocates more than %d", name, len(frame), most)
	}
	for _, tc := range hostile {
		check(tc.name, newDecoder(t, table), []byte(tc.frame))
	}
	// A short row of a wide table.
	wide := encode(&Message{Kind: Relation, Relation: &cdc.Relation{OID: 9, Identity: 'd', Columns: make([]cdc.Column, 65535)}})
	check("wide_relation", NewDecoder(), wide)
	for _, row := range []string{"I\x00\x00\x00\x09N\xff\xff", "U\x00\x00\x00\x09K\xff\xffnnnn", "D\x00\x00\x00\x09O\xff\xff"} {
		check("wide_row", newDecoder(t, string(wide)), []byte(row))
	}
	for version, captures := range allCaptures(t) {
		for _, c := range captures {
			d := NewDecoder()
			for _, frame := range c.frames {
				check(version+" "+c.name, d, frame)
			}
		}
	}
}

// Ensure that the caller may reuse both its buffer and its message.
func TestDecode_Reuse(t *testing.T) {
	t.Parallel()
	d := newDecoder(t, table)
	var m Message
	frame := []byte("U\x00\x00\x00\x07O\x00\x02t\x00\x00\x00\x011nN\x00\x02t\x00\x00\x00\x012u")
	if err := d.Decode(frame, &m); err != nil {
		t.Fatal(err)
	}
	first := m
	for i := range frame {
		frame[i] = 'x'
	}
	if err := d.Decode([]byte("I\x00\x00\x00\x07N\x00\x02t\x00\x00\x00\x013n"), &m); err != nil {
		t.Fatal(err)
	}
	want := Message{Kind: Update, Relation: m.Relation, OldFull: true,
		Old: cdc.Row{cdc.TextValue("1"), {}}, New: cdc.Row{cdc.TextValue("2"), {Kind: cdc.Unchanged}}}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("first message (-want +got):\n%s", diff)
	}
	want = Message{Kind: Insert, Relation: m.Relation, New: cdc.Row{cdc.TextValue("3"), {}}}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("second message (-want +got):\n%s", diff)
	}
	// Appending to one row of an update must not write into the other.
	_ = append(first.Old, cdc.TextValue("overflow"))
	if got := first.New[0].Text; got != "2" {
		t.Errorf("append to Old changed New to %q", got)
	}
}

// Ensure that a table described again is another relation from then on, and
// that what was decoded before keeps its own.
func TestDecode_Redescribed(t *testing.T) {
	t.Parallel()
	d := newDecoder(t, table)
	const insert = "I\x00\x00\x00\x07N\x00\x02nn"
	var before, after Message
	if err := d.Decode([]byte(insert), &before); err != nil {
		t.Fatal(err)
	}
	wider := strings.Replace(table, "\x00d\x00\x02", "\x00f\x00\x03", 1) + "\x01more\x00\x00\x00\x00\x17\xff\xff\xff\xff"
	if err := d.Decode([]byte(wider), &after); err != nil {
		t.Fatal(err)
	}
	mustFail(t, d, []byte(insert))
	if err := d.Decode([]byte("I\x00\x00\x00\x07N\x00\x03nnn"), &after); err != nil {
		t.Fatal(err)
	}
	if before.Relation == after.Relation || len(before.Relation.Columns) != 2 || len(after.Relation.Columns) != 3 {
		t.Errorf("relation before %+v, after %+v", before.Relation, after.Relation)
	}
	want := &cdc.Relation{OID: 7, Schema: "public", Name: "t", Identity: cdc.IdentityFull, Columns: []cdc.Column{
		{Name: "id", Type: 20, Mod: -1, Key: true}, {Name: "note", Type: 25, Mod: -1}, {Name: "more", Type: 23, Mod: -1, Key: true}}}
	if diff := cmp.Diff(want, after.Relation); diff != "" {
		t.Errorf("relation (-want +got):\n%s", diff)
	}
	// One that can't be read leaves the one before in force.
	mustFail(t, d, []byte(table[:len(table)-1]))
	if err := d.Decode([]byte("I\x00\x00\x00\x07N\x00\x03nnn"), &after); err != nil {
		t.Error(err)
	}
}

func TestDecode_Time(t *testing.T) {
	t.Parallel()
	d := NewDecoder()
	var m Message
	if err := d.Decode([]byte("B"+zero+"\xff\xff\xff\xff\xff\xff\xff\xff"+"\x00\x00\x00\x01"), &m); err != nil {
		t.Fatal(err)
	}
	if want := time.Date(1999, 12, 31, 23, 59, 59, 999_999_000, time.UTC); m.CommitTime != want {
		t.Errorf("CommitTime = %v, want %v", m.CommitTime, want)
	}
}

func TestDecodeError(t *testing.T) {
	t.Parallel()
	d := newDecoder(t, table)
	var m Message
	err := d.Decode([]byte("I\x00\x00\x00\x07N\x00\x02t\x00\x00\x00\x06secretx"), &m)
	if got, want := err.Error(), "decode pgoutput message 'I' at byte 20: unknown kind of value"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
