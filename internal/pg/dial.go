package pg

import (
	"context"
	"net"
	"time"
)

// dial opens a connection whose dead peer is noticed within about half a minute,
// idle or with data under way.
func dial(timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     15 * time.Second,
			Interval: 5 * time.Second,
			Count:    4,
		},
		Control: setUserTimeout,
	}
	return d.DialContext
}
