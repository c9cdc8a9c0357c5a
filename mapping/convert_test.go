package mapping

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
)

func TestConvert(t *testing.T) {
	t.Parallel()
	text := func(list ...string) []cdc.Value {
		var out []cdc.Value
		for _, s := range list {
			out = append(out, cdc.TextValue(s))
		}
		return out
	}
	null := cdc.Value{}
	object := convertJSONObject([]string{"text", "n", "flag", "j"}, []*pg.Type{builtin("text"), builtin("int4"), builtin("bool"), builtin("json")})
	log := pg.TableName{Schema: "public", Name: "core_auditlog"}
	for _, tt := range []struct {
		name    string
		convert Convert
		in      []cdc.Value
		want    cdc.Value
	}{
		// These ids are in targets; a change here would write every row again
		// under another id.
		{"uuid", convertUUID(log), text("50"), cdc.TextValue("09beef25-5cac-542f-a36f-bb389697ce0e")},
		{"uuid of null", convertUUID(log), []cdc.Value{cdc.TextValue("1"), null}, null},
		// HMAC-SHA-256 as OpenSSL makes it: openssl dgst -sha256 -hmac KEY.
		{"hash", convertHash(NewHashKey("key")), text("The quick brown fox jumps over the lazy dog"), cdc.TextValue("f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8")},
		{"hash of nothing", convertHash(NewHashKey("key")), text(""), cdc.TextValue("5d5d139563c95b5967b9bd9a8c9b233a9dedb45072794cd232dc1b74832607d0")},
		{"hash of null", convertHash(NewHashKey("key")), []cdc.Value{null}, null},
		{"json null", convertJSON, []cdc.Value{null}, null},
		{"json", convertJSON, text(`{"b":1,"a":[1.0,2]}`), cdc.TextValue(`{"a": [1.0, 2], "b": 1}`)},
		{"json text", convertJSON, text(`it's "x"`), cdc.TextValue(`"it's \"x\""`)},
		{"json empty", convertJSON, text(""), cdc.TextValue(`""`)},
		{"json number", convertJSON, text("12"), cdc.TextValue("12")},
		{"json nul", convertJSON, text(`"\u0000"`), cdc.TextValue(`"\"\\u0000\""`)},
		{"json lone surrogate", convertJSON, text(`{"a": "\ud800"}`), cdc.TextValue(`"{\"a\": \"\\ud800\"}"`)},
		{"object", object, text("55", "7", "t", `{"b":1,"a":2}`), cdc.TextValue(`{"j": {"a": 2, "b": 1}, "n": 7, "flag": true, "text": "55"}`)},
		{"object of JSON text", object, text(` [1]`, "-7", "f", `1`), cdc.TextValue(`{"j": 1, "n": -7, "flag": false, "text": [1]}`)},
		{"object of broken JSON", object, text(`{oops`, "0", "f", `"\u0000"`), cdc.TextValue(`{"j": "\"\\u0000\"", "n": 0, "flag": false, "text": "{oops"}`)},
		{"object without nulls", object, []cdc.Value{null, cdc.TextValue("1"), null, null}, cdc.TextValue(`{"n": 1}`)},
		{"empty object", object, []cdc.Value{null, null, null, null}, cdc.TextValue(`{}`)},
		{"jsonb", convertJSONB, []cdc.Value{null, cdc.TextValue(`{"a":1}`)}, cdc.TextValue(`{"a": 1}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.convert(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
	if got, err := convertJSONB(text(`{"secret": oops}`)); err == nil || got.Text != "" {
		t.Errorf("broken json gave %v and error %v, want an error without the value", got, err)
	}
	// Parts must not run together.
	a, _ := convertUUID(log)(text("1", "23"))
	b, _ := convertUUID(log)(text("12", "3"))
	c, _ := convertUUID(pg.TableName{Schema: "public", Name: "other"})(text("1", "23"))
	if a == b || a == c {
		t.Errorf("different rows have one id: %v %v %v", a, b, c)
	}
}
