package replicator_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/replicator"
)

// attacker stands between a real walsender and the bridge and changes what the
// walsender sends, once for each attack.
type attacker struct {
	ln     net.Listener
	server string
	wg     sync.WaitGroup

	mu     sync.Mutex
	attack attack
	conns  []net.Conn
	// struck is closed when the attack has been made.
	struck chan struct{}
}

// attack returns what is sent instead of a frame, or nil to wait for another one.
// A frame is a protocol message with its type and length.
type attack func(frame []byte) []byte

func newAttacker(t *testing.T, server string) *attacker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{ln: ln, server: server}
	a.wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", a.server)
			if err != nil {
				_ = client.Close()
				continue
			}
			a.mu.Lock()
			a.conns = append(a.conns, client, server)
			a.mu.Unlock()
			a.wg.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			a.wg.Go(func() { a.relay(client, server); _ = client.Close(); _ = server.Close() })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		a.mu.Lock()
		for _, c := range a.conns {
			_ = c.Close()
		}
		a.mu.Unlock()
		a.wg.Wait()
	})
	return a
}

func (a *attacker) url(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	u.Host = a.ln.Addr().String()
	return u.String()
}

// arm has the next frames of a replication stream attacked.
func (a *attacker) arm(f attack) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.attack, a.struck = f, make(chan struct{})
	return a.struck
}

// relay passes on what the server sends, frame by frame.
func (a *attacker) relay(client io.Writer, server io.Reader) {
	streaming := false
	for {
		var head [5]byte
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return
		}
		frame := append([]byte(nil), head[:]...)
		frame = append(frame, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
		if _, err := io.ReadFull(server, frame[5:]); err != nil {
			return
		}
		streaming = streaming || head[0] == 'W' // CopyBothResponse
		if streaming {
			frame = a.change(frame)
		}
		if _, err := client.Write(frame); err != nil {
			return
		}
	}
}

func (a *attacker) change(frame []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.attack == nil {
		return frame
	}
	changed := a.attack(frame)
	if changed == nil {
		return frame
	}
	a.attack = nil
	close(a.struck)
	return changed
}

// Positions in a frame of the stream: a type and a length, then a replication
// message, of which 'w' has 24 bytes before the message of pgoutput.
const (
	frameBody  = 5
	outputBody = frameBody + 25
)

// framed gives a frame the length that it has.
func framed(frame []byte) []byte {
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-1))
	return frame
}

// onOutput attacks a message of pgoutput of that kind.
func onOutput(kind byte, f attack) attack {
	return func(frame []byte) []byte {
		if len(frame) <= outputBody || frame[0] != 'd' || frame[frameBody] != 'w' || frame[outputBody] != kind {
			return nil
		}
		return f(slices.Clone(frame))
	}
}

// cut shortens the message by n bytes, or to one byte.
func cut(n int) attack {
	return func(f []byte) []byte { return framed(f[:max(outputBody+1, len(f)-n)]) }
}

func number(at int, n uint32) attack {
	return func(f []byte) []byte {
		binary.BigEndian.PutUint32(f[at:], n)
		return f
	}
}

func set(at int, b byte) attack {
	return func(f []byte) []byte { f[at] = b; return f }
}

// swapped keeps a BEGIN back until the next one has passed.
func swapped() attack {
	var kept []byte
	return func(f []byte) []byte {
		if kept == nil {
			if f[0] == 'd' && f[frameBody] == 'w' && f[outputBody] == 'B' {
				kept = slices.Clone(f)
				return []byte{}
			}
			return nil
		}
		return append(slices.Clone(f), kept...)
	}
}

// Whatever comes instead of what a walsender would say: nothing of it reaches the
// target, the checkpoint stands still, memory stays where it was, and the next
// session goes on as if nothing had been.
func TestBridge_UnderAttack(t *testing.T) {
	t.Parallel()
	w := newItems(t, &steps{})
	a := newAttacker(t, w.source.Addr())
	tune := w.tune
	w.tune = func(o *replicator.Options) {
		tune(o)
		o.SourceURL = a.url(w.src)
	}
	r := w.start()
	w.catchUp(r)
	attacks := []struct {
		name string
		f    attack
	}{
		{"insert cut by a byte", onOutput('I', cut(1))},
		{"insert cut in its middle", onOutput('I', cut(7))},
		{"insert without a body", onOutput('I', cut(1<<20))},
		{"begin cut", onOutput('B', cut(4))},
		{"commit cut", onOutput('C', cut(1))},
		{"commit with more than it has", onOutput('C', func(f []byte) []byte { return framed(append(f, 0)) })},
		{"commit of another transaction", onOutput('C', number(outputBody+2, 7))},
		{"more columns than there are", onOutput('I', func(f []byte) []byte { f[outputBody+6], f[outputBody+7] = 0xff, 0xff; return f })},
		{"a column of 4 GiB", onOutput('I', number(outputBody+9, 0xffffffff))},
		{"a column of 2 GiB", onOutput('I', number(outputBody+9, 0x7fffffff))},
		{"an unknown relation", onOutput('I', number(outputBody+1, 4711))},
		{"an unknown message", onOutput('I', set(outputBody, 'z'))},
		{"an unknown replication message", onOutput('I', set(frameBody, 'z'))},
		{"an unknown frame", onOutput('I', set(0, 0xff))},
		{"a frame of 4 GiB", onOutput('I', number(1, 0xffffffff))},
		{"a frame of 2 GiB", onOutput('I', number(1, 0x7fffffff))},
		{"a frame that is shorter than its length", onOutput('I', number(1, 0))},
		{"an empty frame", onOutput('I', func(f []byte) []byte { return []byte{'d', 0, 0, 0, 4} })},
		{"a header alone", onOutput('I', func(f []byte) []byte { return framed(f[:outputBody-3]) })},
		{"begin twice", onOutput('B', func(f []byte) []byte { return append(f, f...) })},
		{"commit twice", onOutput('C', func(f []byte) []byte { return append(f, f...) })},
		{"commit for begin", onOutput('B', set(outputBody, 'C'))},
		{"a change outside a transaction", onOutput('C', func(f []byte) []byte {
			return append(f, framed(append(slices.Clone(f[:outputBody]), "T\x00\x00\x00\x00\x00"...))...)
		})},
		{"the end of the stream inside a transaction", onOutput('I', func(f []byte) []byte { return []byte{'c', 0, 0, 0, 4} })},
		{"an error inside a transaction", onOutput('I', func(f []byte) []byte {
			return framed(append([]byte{'E', 0, 0, 0, 0}, "SFATAL\x00C57P01\x00Mbye\x00\x00"...))
		})},
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i, tt := range append(attacks, struct {
		name string
		f    attack
	}{"begin behind what follows it", swapped()}) {
		struck := a.arm(tt.f)
		failed := errorsOf(r)
		for j := range 3 {
			w.exec(fmt.Sprintf("INSERT INTO item SELECT n, 1, 'good' FROM generate_series(%d, %d) n", i*30+j*10, i*30+j*10+9))
		}
		<-struck
		pgtest.Eventually(t, "the bridge's noticing "+tt.name, patience, func() error {
			if errorsOf(r) == failed {
				return errors.New("no error")
			}
			return nil
		})
		w.catchUp(r)
		w.want(tt.name, "SELECT count(*), max(id) FROM items", fmt.Sprintf("%d | %d", (i+1)*30, (i+1)*30-1))
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 128<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	w.want("entries", `SELECT count(*) = count(DISTINCT details->>'n'), count(*) = max((details->>'n')::int), count(*) = count(DISTINCT (details->>'lsn', details->>'seq')) FROM audit_logs`, "t | t | t")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

func errorsOf(r *running) (n int64) {
	for _, count := range r.status.Snapshot().Errors {
		n += count
	}
	return n
}
