package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
)

func get(t *testing.T, h http.Handler, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w
}

func TestHandler_Paths(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, path string
		code         int
		kind, body   string // Content-Type's and the body's beginning
	}{
		{"GET", "/livez", 200, "text/plain", "ok\n"},
		{"HEAD", "/livez", 200, "text/plain", ""},
		{"GET", "/readyz", 503, "text/plain", "starting\n"},
		{"GET", "/status.json", 200, "application/json", "{\n  \"state\": \"starting\""},
		{"GET", "/metrics", 200, "text/plain", "#"},
		{"GET", "/history.json", 200, "application/json", "{\n  \"recent\": []"},
		{"GET", "/", 200, "text/html", "<!doctype html>"},
		{"GET", "/other", 404, "text/plain", ""},
		{"GET", "/debug/pprof/", 404, "text/plain", ""},
		{"POST", "/", 405, "text/plain", ""},
		{"POST", "/status.json", 405, "text/plain", ""},
		{"DELETE", "/metrics", 405, "text/plain", ""},
	}
	h := web.Handler(status.New("v1"))
	for _, tt := range tests {
		w := get(t, h, tt.method, tt.path)
		if w.Code != tt.code {
			t.Errorf("%s %s: status %d, want %d", tt.method, tt.path, w.Code, tt.code)
		}
		if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, tt.kind) {
			t.Errorf("%s %s: Content-Type %q, want %q", tt.method, tt.path, got, tt.kind)
		}
		if !strings.HasPrefix(w.Body.String(), tt.body) {
			t.Errorf("%s %s: body %.60q, want %q", tt.method, tt.path, w.Body, tt.body)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: headers %v", tt.method, tt.path, w.Header())
		}
	}
}

func TestHandler_Ready(t *testing.T) {
	t.Parallel()
	s := status.New("v1")
	h := web.Handler(s)
	for _, p := range status.Phases() {
		s.SetState(p)
		w := get(t, h, "GET", "/readyz")
		if got := w.Code == http.StatusOK; got != p.Ready() {
			t.Errorf("%s: status %d, ready %t", p, w.Code, p.Ready())
		}
		if w := get(t, h, "GET", "/livez"); w.Code != http.StatusOK {
			t.Errorf("%s: not alive", p)
		}
	}
}

func fullState() *status.State {
	s := status.New("v1.2")
	safe := int64(1 << 20)
	s.Update(func(n *status.Snapshot) {
		n.Name, n.State, n.Checkpoint, n.Source, n.LagBytes = "niochat", status.Copying, 0x10, 0x30, 5<<20
		n.Rows, n.Entries, n.Held, n.Batches = 10, 20, 3, 4
		n.Confirmed, n.Epoch, n.Takeovers = 0x10, 7, 1
		n.Slot = &status.Slot{WALStatus: "reserved", Level: status.LevelOK, Retained: 77, Safe: &safe}
		n.Copy = []status.Copy{
			{Table: "public.contacts", Done: 50, Total: 50, Finished: true},
			{Table: "public.<messages>", Done: 120, Total: 100, Estimated: true},
			{Table: "public.empty"},
		}
	})
	s.Update(func(n *status.Snapshot) {
		n.HeldBy = []status.Held{{Table: "public.contacts", Reason: "tenant", Rows: 3}}
	})
	s.Wrote(1, map[string]int64{"public.contacts": 7}, map[string]int64{"tenant-x9": 7})
	s.Fail(fault.Wrap(fault.Stop, "run <b>this</b>", errors.New("it is <i>broken</i>")))
	return s
}

func TestHandler_Metrics(t *testing.T) {
	t.Parallel()
	body := get(t, web.Handler(fullState()), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`walbridge_state{state="copying"} 1`, `walbridge_state{state="blocked"} 0`, `walbridge_ready 1`,
		`walbridge_lag_bytes 5.24288e+06`, `walbridge_lag_seconds 0`, `walbridge_rows_applied_total 10`,
		`walbridge_audit_rows_total 20`, `walbridge_held_rows 3`,
		`walbridge_table_rows_total{table="public.contacts"} 7`, `walbridge_table_held_rows{table="public.contacts"} 3`, `walbridge_batches_total 4`,
		`walbridge_errors_total{class="stop"} 1`, `walbridge_copy_rows_done{table="public.contacts"} 50`,
		`walbridge_slot_retained_bytes 77`, `walbridge_slot_safe_bytes 1.048576e+06`,
		`walbridge_checkpoint_lsn_bytes 16`, `walbridge_errors_total{class="retry"} 0`,
		`walbridge_lease_epoch 7`, `walbridge_takeovers_total 1`, `version="v1.2"`, `process_resident_memory_bytes `, `go_goroutines `,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestHandler_Page(t *testing.T) {
	t.Parallel()
	body := get(t, web.Handler(fullState()), "GET", "/").Body.String()
	for _, want := range []string{
		`<h1 class="copying">copying</h1>`, "niochat", "5.0 MiB", "0/10", "it is &lt;i&gt;broken&lt;/i&gt;", "run &lt;b&gt;this", `class="error over"`,
		"50 rows", "120 rows so far", "77 B", "Fix: run", `value="99"`, `value="100"`, "public.&lt;messages&gt;", "v1.2",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	// Self-contained: nothing is fetched from anywhere.
	for _, bad := range []string{"src=", "@import", "http://", "https://", "url(", "ZgotmplZ"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	s, err := web.Listen(t.Context(), "127.0.0.1:0", status.New("v1"), log)
	if err != nil {
		t.Fatal(err)
	}

	_, err = web.Listen(t.Context(), s.Addr(), status.New("v1"), log)
	if err == nil || err.Error() != "listen on "+s.Addr()+": bind: address already in use" {
		t.Errorf("Listen() on a port in use = %v", err)
	}
	if got := fault.ClassOf(err); got != fault.Config {
		t.Errorf("class = %s, want config", got)
	}
	if got := fault.HintOf(err); !strings.Contains(got, "WALBRIDGE_LISTEN") {
		t.Errorf("hint = %q", got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/status.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var n status.Snapshot
	if err := json.Unmarshal(body, &n); err != nil || n.State != status.Starting {
		t.Errorf("status.json = %s, %v", body, err)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve() = %v", err)
	}
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		conn.Close()
		t.Error("the port is still bound after Serve")
	}
}

func TestListen_NoAddress(t *testing.T) {
	t.Parallel()
	_, err := web.Listen(t.Context(), "192.0.2.1:1", status.New("v1"), slog.New(slog.DiscardHandler))
	if err == nil || fault.ClassOf(err) != fault.Config || fault.HintOf(err) == "" {
		t.Errorf("Listen() = %v, hint %q", err, fault.HintOf(err))
	}
}
