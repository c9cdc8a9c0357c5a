package sink

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
)

// Chain is where the chain over the entries stands. Package mapping says what an
// entry's link is made of; a sink only keeps where the chain has come to.
type Chain struct {
	// From is the number of the first entry that is linked, 0 as long as none is.
	From int64
	// Head is the number of the last one, and Link its link. Entries beyond it were
	// made while the chain was off.
	Head int64
	Link Link
}

// String names the head as it is published: its number, a colon and its link; empty
// without a chain.
func (c Chain) String() string {
	if c.Head == 0 {
		return ""
	}
	return strconv.FormatInt(c.Head, 10) + ":" + c.Link.String()
}

// Link is a SHA-256 hash over an entry and over the link before it.
type Link [sha256.Size]byte

var errLink = errors.New("a link has 43 letters, digits, - and _")

// String returns the link as entries and the checkpoint have it (base64url without
// padding, RFC 4648, 5).
func (l Link) String() string { return base64.RawURLEncoding.EncodeToString(l[:]) }

// ParseLink reads what String has written.
func ParseLink(text string) (l Link, err error) {
	if len(text) != base64.RawURLEncoding.EncodedLen(len(l)) {
		return l, errLink
	}
	if n, err := strict.Decode(l[:], []byte(text)); err != nil || n != len(l) {
		return Link{}, errLink // a line break, which Decode passes over, is none either
	}
	return l, nil
}

// strict refuses a second way to write the same link.
var strict = base64.RawURLEncoding.Strict()
