package mapping

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// What the cache returns is what was put in last, however much has come and gone
// in between.
func TestPathTexts(t *testing.T) {
	t.Parallel()
	nodes := []*sink.Node{{Name: "a", Columns: []string{"x"}}, {Name: "b", Columns: []string{"x", "y"}}, {Name: "c"}}
	r := rand.New(rand.NewPCG(1, 2))
	c := newPathTexts(64 << 10)
	want := map[pathKey]sink.PathRow{}
	hits := 0
	for range 100_000 {
		k := pathKey{nodes[r.IntN(3)], sink.Key(fmt.Sprint(r.IntN(2000)))}
		switch r.IntN(10) {
		case 0:
			c.Remove(k)
			delete(want, k)
		case 1, 2, 3:
			p := sink.PathRow{Values: make(cdc.Row, len(k.node.Columns)), Gone: r.IntN(2) == 0}
			for i := range p.Values {
				if n := r.IntN(300); n > 0 {
					p.Values[i] = cdc.TextValue(strings.Repeat("v", n-1))
				}
			}
			c.Add(k, p)
			want[k] = p
		default:
			got, ok := c.Get(k)
			if !ok {
				continue
			}
			hits++
			if diff := cmp.Diff(want[k], got); diff != "" {
				t.Fatalf("%s %s: %s", k.node.Name, k.key, diff)
			}
		}
		if n := c.young.text.Len() + c.old.text.Len(); n > 64<<10 {
			t.Fatalf("the cache holds %d bytes", n)
		}
	}
	if hits < 1000 {
		t.Errorf("%d hits", hits)
	}
}

// Values that don't fit leave none behind that are older.
func TestPathTexts_TooLarge(t *testing.T) {
	t.Parallel()
	k := pathKey{&sink.Node{Name: "a", Columns: []string{"x"}}, "1"}
	c := newPathTexts(1 << 10)
	c.Add(k, sink.PathRow{Values: cdc.Row{cdc.TextValue("small")}})
	c.Add(k, sink.PathRow{Values: cdc.Row{cdc.TextValue(strings.Repeat("large", 1000))}})
	if p, ok := c.Get(k); ok {
		t.Errorf("got %v", p)
	}
}
