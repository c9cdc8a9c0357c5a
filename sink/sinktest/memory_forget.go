package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/walbridge/walbridge/sink"
)

func (t *memoryTx) dependents(q *sink.DependentQuery) []sink.Key {
	var found []sink.Key
	add := func(k, to sink.Key) {
		if slices.Contains(q.Keys, to) && len(found) < q.Limit {
			found = append(found, k)
		}
	}
	if q.Node != nil {
		for k, p := range t.data.paths.all() {
			if k.bridge == t.s.name && k.table == q.Node.Name {
				add(k.key, sink.Key(p.Values[q.Column].Text))
			}
		}
		return found
	}
	for k, r := range t.data.rows.all() {
		if k.table == q.Table.FullName() {
			add(k.key, sink.Key(r[q.Table.Columns[q.Column].Name].Text))
		}
	}
	for k, h := range t.data.held.all() {
		if k.bridge == t.s.name && k.table == q.Table.FullName() {
			add(k.key, sink.Key(h.Row[q.Column].Text))
		}
	}
	return found
}

func (t *memoryTx) EraseEntries(_ context.Context, r *sink.Erase) ([]sink.Erased, error) {
	numbers := make(map[string][]int64)
	err := t.run(OpErase, func() error {
		if t.s.schema == nil || t.s.schema.Entries == nil {
			return errors.New("Install has not told this sink of an audit table")
		}
		for k, e := range t.data.entries.all() {
			var details map[string]any
			if json.Unmarshal([]byte(e.Details), &details) != nil || details["by"] != "walbridge" || details["table"] != r.Source ||
				details["forgotten"] != nil || details["op"] == "forget" || !names(r.Keys, details["key"]) {
				continue
			}
			delete(details, "changed")
			if chain, ok := details["chain"].(map[string]any); ok {
				delete(chain, "salt")
			}
			details["forgotten"] = true
			text, err := json.Marshal(details)
			if err != nil {
				return err
			}
			e.Details = string(text)
			t.data.entries.put(k, e)
			n, _ := details["n"].(float64)
			numbers[e.Tenant] = append(numbers[e.Tenant], int64(n))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("erase entries: %w", err)
	}
	var erased []sink.Erased
	for tenant, n := range numbers {
		slices.Sort(n)
		erased = append(erased, sink.Erased{Tenant: tenant, Numbers: n})
	}
	return erased, nil
}

// names reports whether key is one of the objects.
func names(objects []string, key any) bool {
	return slices.ContainsFunc(objects, func(text string) bool {
		var object any
		return json.Unmarshal([]byte(text), &object) == nil && reflect.DeepEqual(object, key)
	})
}
