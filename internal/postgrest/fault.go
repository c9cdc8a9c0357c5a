package postgrest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind is a way in which a request fails.
type Kind uint8

const (
	none Kind = iota
	// DropReply does what is asked and breaks the connection instead of answering.
	DropReply
	// DropRequest breaks the connection before anything is done.
	DropRequest
	// TooManyRequests is 429 with Retry-After.
	TooManyRequests
	// BadGateway is 502 with a page of HTML.
	BadGateway
	// TooLarge is 413, whatever the size.
	TooLarge
	// Paused is what the gateway says for a project that sleeps.
	Paused
	// NotFound is what answers where there is no project, or no API.
	NotFound
	// Expired is what PostgREST says of a token that has ended.
	Expired
	// Canceled is a statement that took longer than it may.
	Canceled
	// Truncated answers with the first half of the body.
	Truncated
	// Slow answers with the headers at once and with the body after Fault.Wait.
	Slow
)

// Fault lets one request fail.
type Fault struct {
	Kind Kind
	// Match, unless empty, lets requests pass whose path doesn't hold it.
	Match string
	// Wait is Retry-After of TooManyRequests, in whole seconds, and how long Slow
	// keeps the body back.
	Wait time.Duration
}

// Fail appends faults: each befalls the first request that it matches.
func (s *Server) Fail(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Pending returns how many faults have not happened yet.
func (s *Server) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.faults)
}

func (s *Server) nextFault(r *http.Request) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if strings.Contains(r.URL.Path, f.Match) {
			s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
			return f
		}
	}
	return Fault{}
}

// before is the answer of a fault that keeps the request from the database.
func (f Fault) before() *response {
	switch f.Kind {
	case DropRequest:
		return &response{}
	case TooManyRequests:
		answer := respond(http.StatusTooManyRequests, "application/json", []byte(`{"message":"API rate limit exceeded"}`))
		answer.header.Set("Retry-After", strconv.Itoa(int(f.Wait/time.Second)))
		return answer
	case BadGateway:
		return respond(http.StatusBadGateway, "text/html", []byte("<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>"))
	case TooLarge:
		return tooLarge()
	case Paused:
		return respond(540, "application/json", []byte(`{"message":"Project paused"}`))
	case NotFound:
		return respond(http.StatusNotFound, "text/html", []byte("<html><body><h1>404 Not Found</h1></body></html>"))
	case Expired:
		return problem(http.StatusUnauthorized, "PGRST303", "JWT expired")
	case Canceled:
		return problem(http.StatusInternalServerError, "57014", "canceling statement due to statement timeout")
	}
	return nil
}

// send answers, or fails to.
func (f Fault) send(w http.ResponseWriter, r *http.Request, answer *response) {
	if f.Kind == DropReply || f.Kind == DropRequest {
		panic(http.ErrAbortHandler)
	}
	header := w.Header()
	for name, values := range answer.header {
		header[name] = values
	}
	body := answer.body
	if answer.status != http.StatusNoContent {
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(answer.status)
	switch f.Kind {
	case Truncated:
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case Slow:
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(f.Wait):
		case <-r.Context().Done():
			return
		}
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
