package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

const (
	// askWait bounds one question: a bridge answers from memory.
	askWait = 5 * time.Second
	// maxAnswer is far above any status.json; something else may answer there.
	maxAnswer = 4 << 20
)

// Address returns where a bridge that listens on listen (host:port) answers for
// those on its machine.
func Address(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}

// ParseAddress reads the address of a bridge elsewhere: http://host:port, with
// https and a path where a proxy is in between, or host:port alone.
func ParseAddress(text string) (string, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		// The text isn't shown: it may hold a password.
		return "", fault.Errorf(fault.Config, "the form is http://host:8787", "this is no address of a bridge")
	}
	u.RawQuery, u.Fragment = "", ""
	return u.String(), nil
}

// Ask gets the snapshot of the bridge at address, which ParseAddress or Address
// has made.
func Ask(ctx context.Context, address string) (status.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var n status.Snapshot
	body, err := fetch(ctx, address)
	if err == nil && json.Unmarshal(body, &n) != nil {
		err = errors.New("what answers is no bridge")
	}
	if err != nil {
		return status.Snapshot{}, fmt.Errorf("ask the bridge at %s: %w", Show(address), err)
	}
	n.From = status.FromBridge
	return n, nil
}

// Show returns address without a password.
func Show(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "(unreadable address)"
	}
	u.User = nil
	return u.String()
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/status.json", nil)
	if err != nil {
		return nil, errors.New("the address can't be read")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, unreached(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("what answers is no bridge (HTTP status %d)", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, unreached(err)
	}
	return body, nil
}

// unreached keeps the cause and leaves the client's own text out, which repeats
// the address with what it holds.
func unreached(err error) error {
	var (
		op  *net.OpError
		dns *net.DNSError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &dns):
		return errors.New("no such host: " + dns.Name)
	case errors.As(err, &op):
		var call *os.SyscallError
		if errors.As(op.Err, &call) {
			return call.Err
		}
		return op.Err
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
