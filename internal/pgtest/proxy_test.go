package pgtest

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// sink is a server that keeps what it receives and sends what it's told to.
type sink struct {
	net.Listener
	mu   sync.Mutex
	got  bytes.Buffer
	eof  chan struct{}
	conn chan net.Conn
}

func newSink(t *testing.T) *sink {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{Listener: l, eof: make(chan struct{}, 10), conn: make(chan net.Conn, 10)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conn <- c
			wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(s, c)
				s.eof <- struct{}{}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return s
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

func (s *sink) received() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

func dial(t *testing.T, p *Proxy) net.Conn {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestProxy_Cut(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := NewProxy(t, s.Addr().String())
	c := dial(t, p)
	send(t, c, "hello")
	Eventually(t, "the bytes to arrive", bound, func() bool { return s.received() == "hello" })
	p.Cut()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("connection lives after Cut")
	}
	<-s.eof
	Eventually(t, "the connection to be forgotten", bound, func() bool { return p.Connections() == 0 })
}

func TestProxy_HalfClose(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := NewProxy(t, s.Addr().String())
	c := dial(t, p)
	server := <-s.conn
	send(t, c, "request")
	_ = server.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
		t.Errorf("got %q, %v; want an end of file", b, err)
	}
	send(t, c, "more")
	Eventually(t, "the other direction to go on", bound, func() bool { return s.received() == "requestmore" })
}

func TestProxy_CutAfter(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := NewProxy(t, s.Addr().String())

	c := dial(t, p)
	cut := p.CutAfter(7, ToServer)
	send(t, c, "abcd")
	Eventually(t, "the first bytes to arrive", bound, func() bool { return s.received() == "abcd" })
	send(t, c, "efghij")
	<-cut
	<-s.eof
	if got := s.received(); got != "abcdefg" {
		t.Errorf("server received %q, want abcdefg", got)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("sender saw a clean end of its connection")
	}
	<-s.conn

	c = dial(t, p)
	server := <-s.conn
	cut = p.CutAfter(3, ToClient)
	send(t, server, "answer")
	<-cut
	if b, err := io.ReadAll(c); string(b) != "ans" || err != nil {
		t.Errorf("client received %q, %v; want ans and an end of file", b, err)
	}

	// A fault strikes once.
	c = dial(t, p)
	server = <-s.conn
	send(t, server, "answer")
	if _, err := io.ReadFull(c, make([]byte, 6)); err != nil {
		t.Errorf("read after the fault was used up: %v", err)
	}
}

func TestProxy_Stall(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := NewProxy(t, s.Addr().String())
	c := dial(t, p)
	send(t, c, "a")
	Eventually(t, "the first byte to arrive", bound, func() bool { return s.received() == "a" })
	p.Stall()
	send(t, c, "b")
	if got := s.received(); got != "a" {
		t.Errorf("server received %q during a stall, want a", got)
	}
	p.Resume()
	Eventually(t, "the rest to arrive", bound, func() bool { return s.received() == "ab" })
	p.Stall()
	send(t, c, "c") // Close must end a stalled connection
}

func TestProxy_Refuse(t *testing.T) {
	t.Parallel()
	s := newSink(t)
	p := NewProxy(t, s.Addr().String())
	p.Refuse(true)
	// The reset may come as early as during the handshake.
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("connection was accepted")
		}
		_ = c.Close()
	}
	p.Refuse(false)
	send(t, dial(t, p), "x")
	Eventually(t, "a connection to work again", bound, func() bool { return s.received() == "x" })
}

// Ensure that a commit whose answer is lost has happened.
func TestProxy_LoseReply(t *testing.T) {
	t.Parallel()
	c := Start(t)
	p := NewProxy(t, c.Addr())
	Exec(t, c.URL("postgres"), "create table t(n int)")
	conn := Connect(t, p.URL(c.URL("postgres")))
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "insert into t values ($1)", 1); err != nil {
		t.Fatal(err)
	}
	lost := p.LoseReply("commit")
	if err := tx.Commit(t.Context()); err == nil {
		t.Error("Commit returned no error")
	}
	<-lost
	if got := QueryValue(t, c.URL("postgres"), "select count(*) from t"); got != "1" {
		t.Errorf("%s rows committed, want 1", got)
	}
	again, err := pgx.Connect(t.Context(), p.URL(c.URL("postgres")))
	if err != nil {
		t.Fatalf("connect after the fault was used up: %v", err)
	}
	_ = again.Close(t.Context())
}

func TestLink_Sees(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		parts []string
		want  bool
	}{
		{[]string{"xcommitx"}, true},
		{[]string{"com", "m", "it"}, true},
		{[]string{"comm", "xit"}, false},
		{[]string{"commi"}, false},
	} {
		l := &link{}
		got := false
		for _, part := range tc.parts {
			got = got || l.sees("commit", []byte(part))
		}
		if got != tc.want {
			t.Errorf("sees(%q) = %v, want %v", tc.parts, got, tc.want)
		}
	}
}
