package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tablePrint is what a table means, as far as the rows at the target depend on
// it. Policies for deletes, the audit, indexes and types are not in it: changing
// them leaves what has been written right.
type tablePrint struct {
	Target, Source string
	Key            []string
	Tenant         string
	// WithoutTenant decides which rows are held, to be released later.
	WithoutTenant Policy
	Columns       []columnPrint
}

type columnPrint struct {
	Name, Form string
	From       []string `json:",omitempty"`
	Keys       []string `json:",omitempty"`
	Const      string   `json:",omitempty"`
	When       []string `json:",omitempty"`
	Initial    string   `json:",omitempty"`
	// HashKey tells keys apart: under another one all hashes are others.
	HashKey string `json:",omitempty"`
}

func (u *unit) print() tablePrint {
	p := tablePrint{
		Target: u.t.target.SQL(), Source: u.o.name.SQL(),
		Tenant: u.t.tenantColumn, WithoutTenant: u.t.withoutTenant,
	}
	for _, i := range u.target.Table.Key {
		p.Key = append(p.Key, u.columns[i].name)
	}
	for _, tc := range u.columns {
		// The order counts: held rows are kept by position.
		c := columnPrint{Name: tc.name, Form: string(formPaths)}
		if tc.spec != nil {
			c.Form, c.Keys = string(tc.spec.form), tc.spec.keys
		}
		for _, r := range tc.routes {
			c.From = append(c.From, r.String())
		}
		if tc.col.Const != nil {
			c.Const = tc.col.Const.Text
		}
		if c.Form == string(formHash) {
			c.HashKey = u.c.opts.HashKey.print()
		}
		if o := tc.col.Observed; o != nil {
			c.From = []string{u.columns[o.Column].name}
			c.When = slices.Sorted(maps.Keys(o.When))
			c.Initial = o.Initial
		}
		p.Columns = append(p.Columns, c)
	}
	return p
}

// fingerprint is a hash of what a mapping means.
func fingerprint(prints []tablePrint) string {
	slices.SortFunc(prints, func(a, b tablePrint) int { return strings.Compare(a.Target, b.Target) })
	doc, err := json.Marshal(prints)
	if err != nil {
		panic(fmt.Sprintf("mapping: texts can't be marshalled: %v", err)) // they always can
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}
