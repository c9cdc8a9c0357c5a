package mapping

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Whoever was the last to say what a row's values are is right, the stream or a copy.
func TestPathCache(t *testing.T) {
	t.Parallel()
	c, err := newPathCache(2)
	if err != nil {
		t.Fatal(err)
	}
	node := &sink.Node{Name: "a", Columns: []string{"x"}}
	k := pathKey{node, "1"}
	row := func(text string) sink.PathRow { return sink.PathRow{Values: cdc.Row{cdc.TextValue(text)}} }
	want := func(text string) {
		t.Helper()
		p, ok := c.Get(k)
		v, found := c.Value(k, 0)
		if diff := cmp.Diff(row(text), p); diff != "" || !ok || !found || v.Text != text {
			t.Errorf("got %v, %v and %v, %v, want %s", p, ok, v, found, text)
		}
	}
	c.AddCopied(k, row("copied"))
	want("copied")
	c.Add(k, row("streamed"))
	want("streamed")
	c.AddCopied(k, row("copied again"))
	want("copied again")
	c.Add(k, row("streamed again"))
	c.Add(pathKey{node, "2"}, row("two"))
	c.Add(pathKey{node, "3"}, row("three"))
	if p, ok := c.Get(k); ok {
		t.Errorf("pushed out, and there is %v", p)
	}
	c.AddCopied(k, row("copied"))
	c.Remove(k)
	if p, ok := c.Get(k); ok {
		t.Errorf("removed, and there is %v", p)
	}
}
