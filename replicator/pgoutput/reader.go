package pgoutput

import (
	"bytes"
	"encoding/binary"
)

// reader reads one frame from the front. After the first error it stands at the
// end and gives zeros, so that errors need looking at only where a loop or an
// allocation depends on what was read.
type reader struct {
	frame []byte
	// text is the frame once more, as the string that texts are cut from.
	text string
	off  int
	err  *DecodeError
}

// fail records the first error.
func (r *reader) fail(reason string) {
	if r.err == nil {
		r.err = &DecodeError{Kind: r.frame[0], Offset: r.off, Reason: reason}
		r.off = len(r.frame)
	}
}

// left is how many bytes have not been read.
func (r *reader) left() int { return len(r.frame) - r.off }

// take returns the next n bytes, or nil if there are not as many.
func (r *reader) take(n int) []byte {
	if n > r.left() {
		r.fail("message is cut short")
		return nil
	}
	b := r.frame[r.off : r.off+n]
	r.off += n
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// string reads a text that ends in a zero byte.
func (r *reader) string() string {
	n := bytes.IndexByte(r.frame[r.off:], 0)
	if n < 0 {
		r.fail("text has no end")
		return ""
	}
	s := r.text[r.off : r.off+n]
	r.off += n + 1
	return s
}

// counted reads a text that follows its length.
func (r *reader) counted() string {
	n := r.uint32()
	if uint64(n) > uint64(r.left()) {
		r.fail("text is longer than the message")
		return ""
	}
	s := r.text[r.off : r.off+int(n)]
	r.off += int(n)
	return s
}
