package mapping

import (
	"encoding/json"
	"strconv"

	"github.com/walbridge/walbridge/internal/cdc"
)

// MessagePrefix is the prefix of logical messages by which an application tells
// the bridge who acts:
//
//	SELECT pg_logical_emit_message(true, 'walbridge', '{"user_id": 7}');
//
// It holds for the changes that follow in the same transaction.
const MessagePrefix = "walbridge"

// message reads a logical message. Somebody else's message never stops the
// stream: what can't be read is counted.
func (w *work) message(c *cdc.Change) {
	if c.Prefix != MessagePrefix {
		return
	}
	var m struct {
		UserID json.RawMessage `json:"user_id"`
	}
	if err := json.Unmarshal([]byte(c.Content), &m); err != nil {
		w.b.badMessage(w.t)
		return
	}
	var text string
	var number int64
	switch {
	case string(m.UserID) == "null" || len(m.UserID) == 0:
		w.b.user = cdc.Value{}
	case json.Unmarshal(m.UserID, &number) == nil:
		w.b.user = cdc.TextValue(strconv.FormatInt(number, 10))
	case json.Unmarshal(m.UserID, &text) == nil:
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			w.b.badMessage(w.t)
			return
		}
		w.b.user = cdc.TextValue(text)
	default:
		w.b.badMessage(w.t)
	}
}

func (b *Batch) badMessage(t *cdc.Transaction) {
	b.BadMessages++
	b.e.opts.Log.Warn("logical message skipped", "lsn", t.Commit.String(), "xid", t.XID,
		"hint", `its content must be a JSON object such as {"user_id": 7}`)
}
