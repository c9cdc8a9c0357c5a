package postgres

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/walbridge/walbridge/internal/cdc"
)

func TestArray(t *testing.T) {
	t.Parallel()
	tests := []struct {
		row  cdc.Row
		want string
	}{
		{nil, `{}`},
		{cdc.Row{{}}, `{NULL}`},
		{cdc.Row{cdc.TextValue("")}, `{""}`},
		{cdc.Row{cdc.TextValue("NULL"), {}, cdc.TextValue(`a"b\c`)}, `{"NULL",NULL,"a\"b\\c"}`},
		{cdc.Row{cdc.TextValue(`"`), cdc.TextValue(`\`), cdc.TextValue(`\\""`)}, `{"\"","\\","\\\\\"\""}`},
		{cdc.Row{cdc.TextValue("{a,b}"), cdc.TextValue(" ")}, `{"{a,b}"," "}`},
	}
	for _, tt := range tests {
		got, err := rowArray(tt.row)
		if err != nil || string(got) != tt.want {
			t.Errorf("rowArray(%q) = %s, %v, want %s", tt.row, got, err, tt.want)
		}
		back, err := parseArray(got)
		if err != nil || !slices.Equal(back, tt.row) {
			t.Errorf("parseArray(%s) = %q, %v", got, back, err)
		}
	}
	if _, err := rowArray(cdc.Row{{Kind: cdc.Unchanged}}); err == nil {
		t.Error("an unchanged value became part of an array")
	}
}

func TestParseArray_AsTheServerWritesIt(t *testing.T) {
	t.Parallel()
	got, err := parseArray([]byte(`{1,a b,NULL,"NULL",null,"",ação,"{}"}`))
	want := cdc.Row{cdc.TextValue("1"), cdc.TextValue("a b"), {}, cdc.TextValue("NULL"), cdc.TextValue("null"),
		cdc.TextValue(""), cdc.TextValue("ação"), cdc.TextValue("{}")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("parseArray = %q, %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", "{", "}", "a", `{"`, `{"a}`, `{"a"b}`, `{"a\`, `{a,}`, "[0:1]={1,2}"} {
		if row, err := parseArray([]byte(bad)); err == nil {
			t.Errorf("parseArray(%q) = %q, want an error", bad, row)
		}
	}
}

// An array of any texts reads back as it was, and no bytes make the reader panic.
func FuzzArray(f *testing.F) {
	for _, s := range []string{"", `"`, `\`, "NULL", `{"a",NULL}`, "a,b", "\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		row := cdc.Row{cdc.TextValue(a), {}, cdc.TextValue(b)}
		text, err := rowArray(row)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseArray(text)
		if err != nil || !slices.Equal(back, row) {
			t.Fatalf("%q became %s, then %q, %v", row, text, back, err)
		}
		_, _ = parseArray([]byte(a))
	})
}

func TestCopyReader(t *testing.T) {
	t.Parallel()
	rows := []cdc.Row{
		{cdc.TextValue("1"), {}, cdc.TextValue("")},
		{cdc.TextValue(`\N`), cdc.TextValue("a\tb\nc\rd\\"), cdc.TextValue(`\.`)},
		{cdc.TextValue(strings.Repeat("x\n", 100)), cdc.TextValue("ação"), {}},
	}
	want := "1\t\\N\t\n" + `\\N` + "\t" + `a\tb\nc\rd\\` + "\t" + `\\.` + "\n" + strings.Repeat(`x\n`, 100) + "\tação\t\\N\n"
	for _, size := range []int{1, 2, 3, 7, 64, 100, 1000} {
		var got bytes.Buffer
		if _, err := io.CopyBuffer(&got, onlyReader{&copyReader{rows: rows}}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if got.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size, got.String(), want)
		}
	}
	if err := iotest.TestReader(&copyReader{rows: rows}, []byte(want)); err != nil {
		t.Error(err)
	}
}

// onlyReader hides everything but Read.
type onlyReader struct{ io.Reader }

func BenchmarkEncode(b *testing.B) {
	row := cdc.Row{cdc.TextValue("123456"), cdc.TextValue("bom dia, tudo bem com o senhor?"), {},
		cdc.TextValue(`{"external_id": "wamid.1", "status": "delivered"}`)}
	rows := slices.Repeat([]cdc.Row{row}, 10_000)
	b.Run("copy", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = io.Copy(io.Discard, onlyReader{&copyReader{rows: rows}})
		}
	})
	b.Run("array", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 2
			for _, r := range rows {
				n += quotedSize(r[3].Text)
			}
			a := newArray(n)
			for _, r := range rows {
				a.add(r[3].Text)
			}
			a.done()
		}
	})
}
