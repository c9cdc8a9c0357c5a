package replicator

import "testing"

func TestSnapshot_Sees(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		xid  uint32
		want bool
	}{
		{"100:105:101,103", 99, true},
		{"100:105:101,103", 100, true},
		{"100:105:101,103", 101, false},
		{"100:105:101,103", 102, true},
		{"100:105:101,103", 105, false},
		{"100:105:101,103", 200, false},
		{"100:100:", 99, true},
		{"100:100:", 100, false},
		// The snapshot counts in 64 bits, the stream in 32.
		{"4294967300:4294967310:4294967305", 4, true},          // 2^32+4
		{"4294967300:4294967310:4294967305", 9, false},         // 2^32+9
		{"4294967300:4294967310:4294967305", 13, true},         // 2^32+13
		{"4294967300:4294967310:4294967305", 4294967290, true}, // before the wrap
		{"4294967200:4294967290:", 3, false},                   // after the wrap that is to come
		{"8589934600:8589934700:8589934650", 42, true},         // 2^33+42 is long past
		{"8589934600:8589934700:8589934650", uint32(8589934650 % (1 << 32)), false},
	} {
		s, err := parseSnapshot(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.sees(tt.xid); got != tt.want {
			t.Errorf("snapshot %s sees %d: %v, want %v", tt.text, tt.xid, got, tt.want)
		}
	}
}

func TestParseSnapshot_Malformed(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "1:2", "a:2:", "1:b:", "1:2:x", "1:2:3:4"} {
		if _, err := parseSnapshot(text); err == nil {
			t.Errorf("snapshot %q is taken for well-formed", text)
		}
	}
}
