// Package web serves a bridge's status over HTTP: probes, status.json, a short
// history, metrics and a page for people. It only reads, answers GET and HEAD, and shows no row
// data and no URL.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

// Server is bound to its address and waits for Serve.
type Server struct {
	listener net.Listener
	http     *http.Server
	state    *status.State
}

// Listen binds addr, so that a port in use is an error before anything else
// starts.
func Listen(ctx context.Context, addr string, state *status.State, log *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, listenError(addr, err)
	}
	return &Server{
		listener: l,
		state:    state,
		http: &http.Server{
			Handler: Handler(state),
			// A client that sends or reads slowly must not hold a connection.
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       5 * time.Second,
			WriteTimeout:      10 * time.Second,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}, nil
}

func listenError(addr string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	err = fmt.Errorf("listen on %s: %w", addr, err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fault.Wrap(fault.Config,
			"another bridge or program has the port: end it, or set WALBRIDGE_LISTEN=127.0.0.1:8788, or WALBRIDGE_LISTEN=off", err)
	case errors.Is(err, syscall.EACCES):
		return fault.Wrap(fault.Config, "ports below 1024 need a privilege: set WALBRIDGE_LISTEN=127.0.0.1:8787", err)
	}
	return fault.Wrap(fault.Config, "set WALBRIDGE_LISTEN to an address of this machine, as in 127.0.0.1:8787", err)
}

// Addr is the address that the server is bound to.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers until ctx is done, then gives open answers a second. Meanwhile it
// keeps the history that it shows.
func (s *Server) Serve(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.listener) }()
	sample := time.NewTicker(status.SampleEvery)
	defer sample.Stop()
	s.state.Record()
serving:
	for {
		select {
		case err := <-ended:
			return fmt.Errorf("serve status: %w", err)
		case <-sample.C:
			s.state.Record()
		case <-ctx.Done():
			break serving
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.http.Shutdown(last); err != nil {
		_ = s.http.Close()
	}
	<-ended
	return nil
}

// Close frees the address of a server that isn't serving.
func (s *Server) Close() error { return s.listener.Close() }

// Handler answers for state.
func Handler(state *status.State) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		phase := state.Snapshot().State
		if !phase.Ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, phase)
	})
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, state.Snapshot())
	})
	mux.HandleFunc("GET /history.json", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, state.History())
	})
	mux.Handle("GET /metrics", metricsHandler(state))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		words := languageOf(r)
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Language", words.Lang)
		h.Set("Vary", "Accept-Language")
		_ = writePage(w, words, state.Snapshot(), state.History(), r.URL.Query().Get("span") == "day", time.Now())
	})
	return harden(mux)
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "status can't be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

// harden sets what keeps a browser from doing more with an answer than show it.
func harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
