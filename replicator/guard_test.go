package replicator

import (
	"testing"

	"github.com/walbridge/walbridge/internal/status"
)

func TestRetention_Level(t *testing.T) {
	t.Parallel()
	bytes := func(n int64) *int64 { return &n }
	r := Retention{Warning: 100, Alarm: 1000}
	for _, tt := range []struct {
		name string
		r    Retention
		slot Slot
		want status.Level
	}{
		{"Little", r, Slot{Retained: 99, WALStatus: "reserved"}, status.LevelOK},
		{"Much", r, Slot{Retained: 100, WALStatus: "reserved"}, status.LevelWarning},
		{"TooMuch", r, Slot{Retained: 1000, WALStatus: "extended"}, status.LevelAlarm},
		{"Off", Retention{}, Slot{Retained: 1 << 50, WALStatus: "reserved"}, status.LevelOK},
		{"NearTheLimit", Retention{Max: 1000}, Slot{Retained: 800, WALStatus: "reserved"}, status.LevelAlarm},
		{"FarFromTheLimit", Retention{Max: 1000}, Slot{Retained: 799, WALStatus: "reserved"}, status.LevelOK},
		{"Extended", r, Slot{Retained: 1, WALStatus: "extended"}, status.LevelWarning},
		{"Unreserved", r, Slot{Retained: 1, WALStatus: "unreserved", SafeBytes: bytes(-5)}, status.LevelAlarm},
		{"Lost", r, Slot{WALStatus: "lost"}, status.LevelAlarm},
		{"Invalidated", r, Slot{WALStatus: "reserved", Invalidation: "idle_timeout"}, status.LevelAlarm},
		{"Safe", r, Slot{Retained: 10, SafeBytes: bytes(90), WALStatus: "reserved"}, status.LevelOK},
		{"LessSafe", r, Slot{Retained: 70, SafeBytes: bytes(30), WALStatus: "reserved"}, status.LevelWarning},
		{"Unsafe", r, Slot{Retained: 90, SafeBytes: bytes(10), WALStatus: "reserved"}, status.LevelAlarm},
	} {
		level, why := tt.r.Level(tt.slot)
		if level != tt.want || (why == "") != (level == status.LevelOK) {
			t.Errorf("%s: %s (%s), want %s", tt.name, level, why, tt.want)
		}
	}
}
