package mapping

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// jsonSamples are texts at the edges of what jsonb takes, and of how it prints.
var jsonSamples = []string{
	"", " ", "null", "true", "nul", "truex", " 1 ", "\t[\n1\r]", "[1,]", "[,1]", "[1 2]", "{,}", `{"a":1,}`, `{"a"}`, `{a:1}`, "[", "{", "]",
	"0", "-0", "-0.0", "00", "01", "-", "+1", ".5", "5.", "1.", "1.50", "-1.0e0", "1e3", "1E+3", "1.5e1", "1.50e1", "1.5e-3", "0e5", "0.00e1",
	"0e-3", "-0e3", "1e", "1e+", "12.34e-10", "123.456e2", "9007199254740993", "1e100", "1e131071", "1e131072", "1e999999999999", "1e-16383",
	"1e-16384", "0e999999", "1.1e-16383", "0.0e-16383", "100e-2", "NaN", "Infinity",
	`""`, `"a`, `"\""`, `"\\\/\b\f\n\r\t"`, `"\u00e7\u0041\u001f\u007f"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, `"\ud83d\u0041"`,
	`"\ud83dx"`, `"\uD83D\uDE00"`, `"\u12"`, `"\u12g4"`, `"\x"`, `"\`, "\"\x01\"", "\"\x7f\"", "\"\u2028<>&/\"", `"a\u000ab"`, "\"\xc3\xa7\"",
	`{"b":1,"a":2}`, `{"bb":1,"a":2,"aa":3}`, `{"a":1,"a":2}`, `{"a":1,"b":2,"a":{"z":1,"y":[]}}`, `{"ç":1,"zz":2,"z":3}`, `{"":1}`, `{"\u0061":1,"a":2}`,
	`{ "a" : [ 1 , { } , [ ] , "x" ] }`, `[{"c":{"b":1,"a":{"d":1,"c":2}}},[[[]]]]`, `{"a":1}x`, `{"a":1} {"b":2}`, `[1]]`, `{"a\u0000":1}`,
	"\ufeff{}", "\u00a01", "[1\v]",
}

func TestCanonicalJSON(t *testing.T) {
	c := cluster(t)
	url := pgtest.CreateDB(t, c, "canonical")
	pgtest.Exec(t, url, `CREATE FUNCTION public.printed(j text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN RETURN j::pg_catalog.jsonb::pg_catalog.text; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$`)
	conn := connect(t, c, "canonical")
	samples := append(jsonSamples, strings.Repeat("[", 900)+strings.Repeat("]", 900))
	seed := uint64(20240229)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 4000 {
		samples = append(samples, randomJSON(r, 4), broken(r, randomJSON(r, 3)))
	}
	rows := query(t, conn, "SELECT public.printed(x) FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS u(x, n) ORDER BY n",
		[]string{arrayText(samples)})
	for i, s := range samples {
		want := rows[i][0]
		got, err := canonicalJSON(s)
		if (err != nil) != want.IsNull() || got != want.Text {
			t.Errorf("canonicalJSON(%.200q) = %.200q, %v; the server prints %.200q (seed %d)", s, got, err, want.Text, seed)
		}
	}
}

// randomJSON makes JSON that is rich in what canonical form changes.
func randomJSON(r *rand.Rand, depth int) string {
	space := func() string { return []string{"", "", " ", "\n\t"}[r.IntN(4)] }
	list := func(open, shut string, one func() string) string {
		parts := make([]string, r.IntN(5))
		for i := range parts {
			parts[i] = space() + one() + space()
		}
		return open + strings.Join(parts, ",") + shut
	}
	kind := r.IntN(7)
	if depth == 0 {
		kind %= 4
	}
	switch kind {
	case 0:
		return []string{"true", "false", "null"}[r.IntN(3)]
	case 1, 2:
		return fmt.Sprintf("%s%d%s%s", []string{"", "-"}[r.IntN(2)], r.IntN(1000),
			[]string{"", ".0", ".50", ".001"}[r.IntN(4)], []string{"", "e2", "E-5", "e+0", "e-1"}[r.IntN(5)])
	case 3:
		return randomText(r)
	case 4:
		return list("[", "]", func() string { return randomJSON(r, depth-1) })
	default:
		return list("{", "}", func() string {
			return randomText(r) + space() + ":" + space() + randomJSON(r, depth-1)
		})
	}
}

func randomText(r *rand.Rand) string {
	var b strings.Builder
	b.WriteByte('"')
	for range r.IntN(4) {
		b.WriteString([]string{"a", "b", "ç", `\n`, `\u0062`, `\"`, `\ud83d\ude00`, "👍", `\/`, `\u0001`}[r.IntN(10)])
	}
	b.WriteByte('"')
	return b.String()
}

// broken changes one byte, or cuts the text.
func broken(r *rand.Rand, s string) string {
	if s == "" {
		return s
	}
	i := r.IntN(len(s))
	if r.IntN(3) == 0 {
		return strings.ToValidUTF8(s[:i], "")
	}
	const bytes = `{}[],:"\0aeu-. `
	return strings.ToValidUTF8(s[:i]+string(bytes[r.IntN(len(bytes))])+s[i+1:], "")
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, s := range jsonSamples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := canonicalJSON(s)
		if err != nil {
			return
		}
		twice, err := canonicalJSON(once)
		if err != nil || twice != once {
			t.Errorf("canonicalJSON(%q) = %q, and of that %q, %v", s, once, twice, err)
		}
	})
}
