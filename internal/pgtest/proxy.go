package pgtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Direction is a direction of traffic through a Proxy.
type Direction int

const (
	// ToServer is what the client sends.
	ToServer Direction = iota
	// ToClient is what the server sends.
	ToClient
)

// Proxy is a TCP proxy in front of a server that fails on demand. Each fault
// is either a state (Stall, Delay, Refuse) or strikes once (Cut, CutAfter, LoseReply).
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu      sync.Mutex
	resumed *sync.Cond // signalled when stalled or closed changes
	stalled bool
	delay   time.Duration
	refuse  bool
	closed  bool
	links   map[*link]bool
	trips   [2]*trip
	reply   *replyTrip
}

// trip cuts the connection that carries the byte after the next left bytes.
type trip struct {
	left int64
	done chan struct{}
}

// replyTrip cuts the connection on which pattern was sent to the server, when
// the server answers.
type replyTrip struct {
	pattern string
	link    *link // the connection that sent it, once one has
	done    chan struct{}
}

// link is one connection through the proxy: conns[d] is where direction d goes.
type link struct {
	conns [2]net.Conn
	// seen is the end of what the client sent, for patterns that span reads.
	seen string
}

// NewProxy starts a proxy in front of addr that lives as long as the test.
func NewProxy(tb TB, addr string) *Proxy {
	tb.Helper()
	p, err := ListenProxy(addr)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(p.Close)
	return p
}

// ListenProxy starts a proxy in front of addr on a free loopback port.
func ListenProxy(addr string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{listener: l, target: addr, links: make(map[*link]bool)}
	p.resumed = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is the proxy's address as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// URL is raw with the proxy's address in place of the server's.
func (p *Proxy) URL(raw string) string { return withHost(raw, p.Addr()) }

func withHost(raw, addr string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.Host = addr
	return u.String()
}

// Close ends the proxy and all connections.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.resumed.Broadcast()
	p.wg.Wait()
}

// Cut resets all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		reset(l.conns[ToServer])
		reset(l.conns[ToClient])
	}
	// Bytes that a stall holds back are of connections that are gone now.
	p.resumed.Broadcast()
}

// Stall stops forwarding in both directions and keeps the connections open, as
// a network does that swallows packets.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = true
}

// Resume ends a stall; nothing is lost.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = false
	p.resumed.Broadcast()
}

// Delay holds every read back for d before it is forwarded, until it is called
// with 0.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// late waits out the delay.
func (p *Proxy) late() {
	p.mu.Lock()
	d := p.delay
	p.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
}

// Refuse says whether new connections are reset at once.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// Connections is the number of open connections.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// CutAfter lets exactly n more bytes pass in direction d, over all connections
// together, and cuts the connection that carries the next one. Who receives gets
// those n bytes and then an end of file; who sends gets a reset. The channel is
// closed when that has happened.
func (p *Proxy) CutAfter(n int64, d Direction) <-chan struct{} {
	t := &trip{left: n, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trips[d] = t
	return t.done
}

// LoseReply lets the next request that contains pattern through to the server and
// cuts its connection when the server answers, before a byte of the answer: the
// client can't know what became of a COMMIT. The channel is closed when that has
// happened.
func (p *Proxy) LoseReply(pattern string) <-chan struct{} {
	t := &replyTrip{pattern: pattern, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reply = t
	return t.done
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse || p.closed
		p.mu.Unlock()
		if refuse {
			reset(client)
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			reset(client)
			continue
		}
		p.serve(&link{conns: [2]net.Conn{ToServer: server, ToClient: client}})
	}
}

// serve forwards in both directions until both have ended.
func (p *Proxy) serve(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		reset(l.conns[ToServer])
		reset(l.conns[ToClient])
		return
	}
	p.links[l] = true
	var both sync.WaitGroup
	both.Go(func() { p.pump(l, ToServer) })
	both.Go(func() { p.pump(l, ToClient) })
	p.wg.Go(func() {
		both.Wait()
		_ = l.conns[ToServer].Close()
		_ = l.conns[ToClient].Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	})
}

// pump forwards one direction. An end of file passes on alone, so that the other
// direction can finish; an error ends both.
func (p *Proxy) pump(l *link, d Direction) {
	from, to := l.conns[1-d], l.conns[d]
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.late()
		pass, cut := p.pass(l, d, buf[:n])
		if _, werr := to.Write(buf[:pass]); werr != nil && err == nil {
			err = werr
		}
		switch {
		case cut != nil:
			_ = to.Close()
			reset(from)
			close(cut)
			return
		case errors.Is(err, io.EOF):
			_ = to.(*net.TCPConn).CloseWrite()
			return
		case err != nil:
			reset(to)
			reset(from)
			return
		}
	}
}

// pass waits out a stall and says how many bytes of b may pass. If cut is not
// nil the connection ends after them, and cut is to be closed.
func (p *Proxy) pass(l *link, d Direction, b []byte) (n int, cut chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stalled && !p.closed {
		p.resumed.Wait()
	}
	if len(b) == 0 {
		return 0, nil
	}
	if r := p.reply; r != nil {
		if d == ToClient && r.link == l {
			p.reply = nil
			return 0, r.done
		}
		if d == ToServer && r.link == nil && l.sees(r.pattern, b) {
			r.link = l
		}
	}
	t := p.trips[d]
	if t == nil {
		return len(b), nil
	}
	if int64(len(b)) <= t.left {
		t.left -= int64(len(b))
		return len(b), nil
	}
	p.trips[d] = nil
	return int(t.left), t.done
}

// sees reports whether pattern ends in b, together with what came before it.
func (l *link) sees(pattern string, b []byte) bool {
	l.seen += string(b)
	found := strings.Contains(l.seen, pattern)
	l.seen = l.seen[max(0, len(l.seen)-len(pattern)+1):]
	return found
}

// reset closes c so that the other side gets a reset rather than an end of file.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}
