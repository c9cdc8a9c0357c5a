package sink_test

import (
	"slices"
	"testing"

	"github.com/walbridge/walbridge/sink"
)

func TestKey_RoundTrip(t *testing.T) {
	t.Parallel()
	tests := []struct {
		parts []string
		want  sink.Key
	}{
		{[]string{""}, ""},
		{[]string{`["a"]`}, `["a"]`},
		{[]string{"1", "2"}, `["1","2"]`},
		{[]string{"", ""}, `["",""]`},
		{[]string{`a"b\c/d`, "\b\f\n\r\t\x01\x1f\x7f"}, `["a\"b\\c/d","\b\f\n\r\t\u0001\u001f` + "\x7f" + `"]`},
		{[]string{"<&>", "\u2028ação 👩"}, `["<&>","` + "\u2028ação 👩" + `"]`},
	}
	for _, tt := range tests {
		got := sink.EncodeKey(tt.parts...)
		if got != tt.want {
			t.Errorf("EncodeKey(%q) = %s, want %s", tt.parts, got, tt.want)
		}
		parts, err := got.Split(len(tt.parts))
		if err != nil || !slices.Equal(parts, tt.parts) {
			t.Errorf("Split(%s) = %q, %v", got, parts, err)
		}
	}
	if _, err := sink.Key(`["a","b"]`).Split(3); err == nil {
		t.Error("Split into too many parts returned no error")
	}
	if _, err := sink.Key(`a`).Split(2); err == nil {
		t.Error("Split of no array returned no error")
	}
}
