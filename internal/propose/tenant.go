package propose

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// tenantName fits the names that applications give to whoever their rows belong
// to, in English and Portuguese.
var tenantName = regexp.MustCompile(`(?i)^(tenant|provedor|provider|company|empresa|organi[sz]ation|organizacao|org|account|conta|clinic|clinica|` +
	`workspace|team|shop|store|loja|site|school|escola|customer|client|cliente|institution|instituicao|franchise|unit|unidade)(_id)?$`)

// candidate is a column that may be the tenant's: a foreign key's, under the same
// name in all tables that have it.
type candidate struct {
	column  string
	reached int // tables that have it or reach it
	own     int // tables that have it
	named   bool
}

// guessTenant finds the column that most tables reach among those whose names say
// that they are a tenant's.
func guessTenant(cat *pg.Catalog, tables []*pg.Table) (string, error) {
	found := map[string]*candidate{}
	for _, t := range tables {
		for _, fk := range t.ForeignKeys {
			c := found[fk.Column]
			if c == nil {
				c = &candidate{column: fk.Column, named: tenantName.MatchString(fk.Column)}
				found[fk.Column] = c
			}
			c.own++
		}
	}
	var list []*candidate
	for _, c := range found {
		w := newWays(tables, c.column)
		for _, t := range tables {
			if len(w.from(t)) > 0 {
				c.reached++
			}
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *candidate) int {
		if a.named != b.named {
			if a.named {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.reached, a.reached), cmp.Compare(b.own, a.own), cmp.Compare(a.column, b.column))
	})
	if len(list) > 0 && list[0].named && (len(list) == 1 || !list[1].named || list[0].reached > list[1].reached) {
		return list[0].column, nil
	}
	var names []string
	for _, c := range list[:min(len(list), 5)] {
		names = append(names, fmt.Sprintf("%s (reached by %d of %d tables)", c.column, c.reached, len(tables)))
	}
	if len(names) == 0 {
		names = []string{"none: no table has a foreign key"}
	}
	return "", fault.Errorf(fault.Config, "name the column that says whose a row is: walbridge init --tenant COLUMN",
		"the tenant can't be told from the names of the columns; candidates: %s", strings.Join(names, ", "))
}
