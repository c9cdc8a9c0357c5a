package mapping

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/walbridge/walbridge/internal/cdc"
)

// HashKey is the secret that columns are hashed with. Without it a hash could be
// undone by hashing all phone numbers there are. It prints as nothing.
type HashKey struct{ key []byte }

// NewHashKey makes a key of a secret text; an empty one is no key.
func NewHashKey(secret string) HashKey { return HashKey{[]byte(secret)} }

// Set reports whether there is a key.
func (k HashKey) Set() bool { return len(k.key) > 0 }

// String keeps the key out of whatever is printed.
func (k HashKey) String() string { return "***" }

// GoString does so for %#v.
func (k HashKey) GoString() string { return k.String() }

// hash is the HMAC-SHA-256 of text under the key, in hexadecimal.
func (k HashKey) hash(text string) string {
	mac := hmac.New(sha256.New, k.key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// print tells the key from others without giving it away: the hash of a text that
// no value is, since no text of PostgreSQL holds a NUL byte.
func (k HashKey) print() string { return k.hash("\x00walbridge")[:16] }

// convertHash replaces a value by its keyed hash. Equal values have equal hashes,
// in whatever table, so that they can be counted and joined; null stays null.
func convertHash(key HashKey) Convert {
	return func(in []cdc.Value) (cdc.Value, error) {
		if in[0].IsNull() {
			return cdc.Value{}, nil
		}
		return cdc.TextValue(key.hash(in[0].Text)), nil
	}
}
