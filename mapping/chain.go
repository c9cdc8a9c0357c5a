package mapping

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/walbridge/walbridge/sink"
)

// The chain: an entry's details say what hash it has together with the link of
// the entry before it, so that none can be altered, taken out or put in without
// all the links behind it being made anew; and the checkpoint has the last one.
//
//	values  = SHA-256(salt, changed)
//	content = SHA-256(version, number, time, id, tenant, user, action, details, values)
//	link    = SHA-256(version, number of the entry before, its link, content)
//
// Of the details that is all but "changed", "forgotten" and "chain", whatever they
// are. Values stand for themselves: they can be forgotten, with the salt without
// which somebody could try what they were, and the link stays right.
//
// Nothing is hashed as the target prints it. Details go in as canonicalJSON writes
// them, whether they come from here or from a jsonb, and times in microseconds.

// chainVersion is of the form of what is hashed.
const chainVersion = 1

const saltSize = 16

// linkage is an entry's place in the chain, the member "chain" of its details.
type linkage struct{ link, salt, values string }

// readLinkage reads it from its canonical text, which has nothing else.
func readLinkage(text []byte) (p linkage, ok bool) {
	s, open := strings.CutPrefix(string(text), "{")
	for _, m := range []struct {
		key   string
		value *string
	}{{`"link": "`, &p.link}, {`, "salt": "`, &p.salt}, {`, "values": "`, &p.values}} {
		if after, found := strings.CutPrefix(s, m.key); found {
			*m.value, s, _ = strings.Cut(after, `"`)
		}
	}
	return p, open && s == "}"
}

// Members of details with a meaning for the chain.
const (
	memberChain     = "chain"
	memberChanged   = "changed"
	memberForgotten = "forgotten"
)

// chainer makes hashes of entries, one after the other in the same room.
type chainer struct {
	parser jsonParser
	// members are those of the entry that has been parsed, in jsonb's order.
	members []member
	buf     []byte
	// salts are random bytes that have not been used yet.
	salts []byte
}

// parse takes a details object apart.
func (c *chainer) parse(details string) bool {
	p := &c.parser
	*p = jsonParser{in: details, out: p.out[:0], members: p.members[:0], spare: p.spare}
	if c.members = nil; !p.objectMembers(0) || !p.end() {
		return false
	}
	c.members = p.members
	slices.SortStableFunc(c.members, func(a, b member) int { return compareKeys(a.key, b.key) })
	for i := 1; i < len(c.members); i++ {
		if c.members[i].key == c.members[i-1].key {
			return false // which jsonb doesn't have, and nobody here writes
		}
	}
	return true
}

// member is the canonical text of one member of what has been parsed, with its
// key; nil if it isn't there.
func (c *chainer) member(key string) []byte {
	for _, m := range c.members {
		if m.key == key {
			return c.parser.out[m.from:m.to]
		}
	}
	return nil
}

// value is a member's alone. The key must be one that needs no escapes.
func (c *chainer) value(key string) []byte {
	text := c.member(key)
	if text == nil {
		return nil
	}
	return text[len(key)+len(`"": `):]
}

// salt returns bytes that nobody can guess.
func (c *chainer) salt() []byte {
	if len(c.salts) < saltSize {
		c.salts = make([]byte, 64*saltSize)
		_, _ = rand.Read(c.salts) // it never fails, see there
	}
	s := c.salts[:saltSize]
	c.salts = c.salts[saltSize:]
	return s
}

// commitment stands for the values of the entry that has been parsed.
func (c *chainer) commitment(salt []byte) [sha256.Size]byte {
	c.buf = append(append(c.buf[:0], salt...), c.member(memberChanged)...)
	return sha256.Sum256(c.buf)
}

// content is the hash of the entry that has been parsed. values is its commitment,
// empty where there is none.
func (c *chainer) content(e *sink.Entry, n int64, values []byte) [sha256.Size]byte {
	b := append(c.buf[:0], chainVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time.UnixMicro()))
	b = appendSized(b, e.ID)
	b = appendSized(b, plainID(e.Tenant))
	if e.User.IsNull() {
		b = append(b, 0)
	} else {
		b = appendSized(append(b, 1), plainID(e.User.Text))
	}
	b = appendSized(b, e.Action)
	b = append(append(b, byte(len(values))), values...)
	for _, m := range c.members {
		if m.key != memberChain && m.key != memberChanged && m.key != memberForgotten {
			b = append(append(b, c.parser.out[m.from:m.to]...), ',')
		}
	}
	c.buf = b
	return sha256.Sum256(b)
}

func appendSized(b []byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...)
}

// plainID is an identifier as a number's or a UUID's type prints it: it may have
// come as another text, and the target's column may be either.
func plainID(text string) string {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return strconv.FormatInt(n, 10)
	}
	if len(text) >= 32 {
		if id, err := uuid.Parse(text); err == nil {
			return id.String()
		}
	}
	return text
}

// next is the link of an entry with that content behind where the chain is.
func next(at *sink.Chain, content [sha256.Size]byte) sink.Link {
	var b [1 + 8 + 2*sha256.Size]byte
	b[0] = chainVersion
	binary.BigEndian.PutUint64(b[1:], uint64(at.Head))
	copy(b[9:], at.Link[:])
	copy(b[9+sha256.Size:], content[:])
	return sha256.Sum256(b[:])
}

// link adds an entry to the chain: e, whose details are all there but for their
// closing brace and its place.
func (b *Batch) link(e *sink.Entry, details []byte) []byte {
	c := &b.scratch.chain
	n := b.Counters.AuditHead
	if !c.parse(string(append(details, '}'))) {
		c.members = nil // no UTF-8, and the target won't have it either
	}
	details = append(details, `,"chain":{`...)
	var values []byte
	if c.member(memberChanged) != nil {
		salt := c.salt()
		sum := c.commitment(salt)
		values = sum[:]
		details = base64.RawURLEncoding.AppendEncode(append(details, `"salt":"`...), salt)
		details = base64.RawURLEncoding.AppendEncode(append(details, `","values":"`...), values)
		details = append(details, `",`...)
	}
	at := &b.Counters.Chain
	link := next(at, c.content(e, n, values))
	if at.From == 0 {
		at.From = n
	}
	at.Head, at.Link = n, link
	details = base64.RawURLEncoding.AppendEncode(append(details, `"link":"`...), link[:])
	return append(details, `"}`...)
}

// Linked is an entry of the log, read back.
type Linked struct {
	N int64
	// Linked says that it has a place in the chain, and Link what it says of it.
	Linked bool
	Link   sink.Link
	// Forgotten says that its values have been taken away. Whether they have, or
	// somebody claims so, other entries say: Emptied are the numbers of those that
	// this one says have lost theirs.
	Forgotten bool
	Emptied   []int64
	content   [sha256.Size]byte
}

// Follows reports whether the entry stands in the log as it was written, behind
// where the chain is.
func (l *Linked) Follows(at *sink.Chain) bool { return l.Linked && next(at, l.content) == l.Link }

// What can be said of an entry by itself.
var (
	errNoEntry  = errors.New("its details aren't those of an entry")
	errNoLink   = errors.New("its link can't be read")
	errValues   = errors.New("its values aren't those that it was written with")
	errNoNumber = errors.New("its number can't be read")
)

// LinkReader reads entries back.
type LinkReader struct{ c chainer }

// Read takes an entry apart. An error says why it can't be as the bridge has written
// it; its number and link come along as far as they can be read.
func (r *LinkReader) Read(e *sink.Entry) (l Linked, err error) {
	c := &r.c
	if !c.parse(e.Details) {
		return l, errNoEntry
	}
	// As the target's index reads it, to which "5" is a number, too.
	if l.N, err = strconv.ParseInt(strings.Trim(string(c.value("n")), `"`), 10, 64); err != nil {
		return l, errNoNumber
	}
	text := c.value(memberChain)
	if text == nil {
		return l, nil
	}
	l.Linked = true
	p, ok := readLinkage(text)
	if l.Link, err = sink.ParseLink(p.link); err != nil || !ok {
		return l, errNoLink
	}
	values, err := c.checkValues(&p, &l)
	if err != nil {
		return l, err
	}
	if string(c.value("op")) == `"forget"` {
		if list := c.value("emptied"); list != nil && json.Unmarshal(list, &l.Emptied) != nil {
			return l, errNoEntry
		}
	}
	l.content = c.content(e, l.N, values)
	return l, nil
}

// checkValues compares the values with what stands for them. Both are there, or
// neither is, or they have been forgotten.
func (c *chainer) checkValues(p *linkage, l *Linked) (values []byte, err error) {
	changed, forgotten := c.member(memberChanged) != nil, c.value(memberForgotten)
	l.Forgotten = forgotten != nil
	switch {
	case l.Forgotten && (changed || p.salt != "" || string(forgotten) != "true"):
		return nil, errValues
	case p.values == "" && (changed || p.salt != ""):
		return nil, errValues
	case p.values == "":
		return nil, nil
	}
	want, err := sink.ParseLink(p.values)
	if err != nil {
		return nil, errValues
	}
	if l.Forgotten {
		return want[:], nil
	}
	salt, err := base64.RawURLEncoding.DecodeString(p.salt)
	if err != nil || c.commitment(salt) != want {
		return nil, errValues
	}
	return want[:], nil
}

// emptiedAtMost is how many numbers one entry lists.
const emptiedAtMost = 1000

// emptied makes the entries that say which ones have lost their values, if there
// is a chain in which that would look like somebody's tampering. They are linked
// although it may be off by now: nothing else accounts for what was linked before.
func (b *Batch) emptied(p *ForgetPage, erased []sink.Erased) {
	if !b.e.m.Audit.Chain && b.Counters.Chain.Head == 0 {
		return
	}
	for _, e := range erased {
		for numbers := range slices.Chunk(e.Numbers, emptiedAtMost) {
			buf := appendLSN(append(appendTable(nil, p.Source), `,"op":"forget","lsn":`...), p.LSN)
			buf = strconv.AppendInt(append(buf, `,"request":`...), p.Request, 10)
			buf = append(buf, `,"emptied":[`...)
			for i, n := range numbers {
				if i > 0 {
					buf = append(buf, ',')
				}
				buf = strconv.AppendInt(buf, n, 10)
			}
			d := draft{Action: "audit.emptied", Time: p.Time, Rest: append(buf, ']'), linked: true}
			b.number(b.nameID(fmt.Appendf(nil, "request/%d/emptied/%d", p.Request, b.Counters.AuditHead)), &d, e.Tenant)
		}
	}
}
