package rest

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
)

// A host that nobody knows is a project that doesn't exist, or a slip of the pen; one
// that doesn't answer comes back.
func TestRefused(t *testing.T) {
	t.Parallel()
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, tt := range []struct {
		name string
		err  error
		stop bool
	}{
		{"unknown", dial(&net.DNSError{Err: "no such host", Name: "nobody.supabase.co", IsNotFound: true}), true},
		{"no resolver", dial(&net.DNSError{Err: "server misbehaving", Name: "nobody.supabase.co", IsTemporary: true}), false},
		{"closed", dial(errors.New("connection refused")), false},
	} {
		c := &client{}
		err := c.refused("ask the API at nobody.supabase.co", tt.err, true)
		if stop := fault.ClassOf(err) == fault.Stop; stop != tt.stop {
			t.Errorf("%s: %v is %s", tt.name, err, fault.ClassOf(err))
		}
		if waits := time.Until(c.notBefore) > time.Second; waits != tt.stop || tt.stop != strings.Contains(fault.HintOf(err), "check SUPABASE_URL") {
			t.Errorf("%s: waits %v, hint %q", tt.name, waits, fault.HintOf(err))
		}
	}
}
