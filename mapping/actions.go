package mapping

import (
	"encoding/json"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
)

// action names what a step did: a transition of the mapping, else the plain verb.
func (t *Target) action(s *step) string {
	for i := range t.Audit.Transitions {
		if tr := &t.Audit.Transitions[i]; tr.fits(s) {
			return t.Audit.Entity + "." + tr.Verb
		}
	}
	switch s.op {
	case cdc.Insert:
		return t.Audit.Entity + ".created"
	case cdc.Update:
		return t.Audit.Entity + ".updated"
	default:
		return t.Audit.Entity + ".deleted"
	}
}

func (tr *Transition) fits(s *step) bool {
	if tr.OnInsert != (s.op == cdc.Insert) || s.op == cdc.Delete {
		return false
	}
	if tr.Column < 0 {
		return true
	}
	now := s.next.row[tr.Column]
	if tr.NotNull && now.Kind != cdc.Text || len(tr.To) > 0 && !(now.Kind == cdc.Text && tr.To[now.Text]) {
		return false
	}
	if tr.OnInsert {
		return true
	}
	if s.prev.row == nil {
		return false
	}
	before := s.prev.row[tr.Column]
	switch {
	case before == now:
		return false
	case len(tr.From) > 0 && !(before.Kind == cdc.Text && tr.From[before.Text]):
		return false
	case len(tr.To) > 0 && before.Kind == cdc.Text && tr.To[before.Text]:
		return false // from one of the values to another is no transition
	case len(tr.From) > 0 && now.Kind == cdc.Text && tr.From[now.Text]:
		return false
	}
	return len(tr.Keys) == 0 || keysChanged(before, now, tr.Keys)
}

// keysChanged reports whether one of the named top-level keys differs between
// two JSON objects. What isn't an object has no keys.
func keysChanged(before, now cdc.Value, names []string) bool {
	a, b := object(before), object(now)
	for k, v := range b {
		if named(k, names) && string(a[k]) != string(v) {
			return true
		}
	}
	for k := range a {
		if _, ok := b[k]; !ok && named(k, names) {
			return true
		}
	}
	return false
}

func object(v cdc.Value) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if v.Kind != cdc.Text || json.Unmarshal([]byte(v.Text), &m) != nil {
		return nil
	}
	return m
}

func named(key string, names []string) bool {
	for _, n := range names {
		if prefix, ok := strings.CutSuffix(n, "*"); ok && strings.HasPrefix(key, prefix) || n == key {
			return true
		}
	}
	return false
}
