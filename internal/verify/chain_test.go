package verify_test

import (
	"testing"

	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/sink"
)

func TestParseHead(t *testing.T) {
	t.Parallel()
	c := sink.Chain{From: 3, Head: 1042, Link: sink.Link{0: 255, 31: 1}}
	if h, err := verify.ParseHead(c.String()); err != nil || h.N != c.Head || h.Link != c.Link {
		t.Errorf("%s is read as %+v, %v", c, h, err)
	}
	link := c.Link.String()
	for _, text := range []string{"", "7", ":" + link, "x:" + link, "0:" + link, "-1:" + link, "7:" + link[1:], "7:" + link + "A", "7:" + link + "AAAA", "7:" + link[:42] + "=", "7:" + link[:42] + "/"} {
		if h, err := verify.ParseHead(text); err == nil {
			t.Errorf("%q is read as %+v", text, h)
		}
	}
}
