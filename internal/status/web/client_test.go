package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
)

func TestAsk(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(web.Handler(fullState()))
	t.Cleanup(s.Close)
	n, err := web.Ask(t.Context(), s.URL)
	if err != nil || n.From != status.FromBridge || n.Name != "niochat" || n.State != status.Copying || len(n.Copy) != 3 {
		t.Errorf("Ask() = %+v, %v", n, err)
	}

	for name, body := range map[string]string{"text": "hello", "other JSON": "{}", "list": "[]"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		t.Cleanup(s.Close)
		if n, err := web.Ask(t.Context(), s.URL); err == nil || !strings.HasSuffix(err.Error(), "what answers is no bridge") {
			t.Errorf("%s: Ask() = %+v, %v", name, n, err)
		}
	}

	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	address := strings.Replace(closed.URL, "://", "://user:hunter2@", 1)
	_, err = web.Ask(t.Context(), address)
	if want := "ask the bridge at " + closed.URL + ": connection refused"; err == nil || err.Error() != want {
		t.Errorf("Ask() = %v, want %s", err, want)
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:8787": "http://127.0.0.1:8787", ":8787": "http://127.0.0.1:8787", "0.0.0.0:1": "http://127.0.0.1:1",
		"[::]:8787": "http://[::1]:8787", "10.0.0.7:1": "http://10.0.0.7:1", "bridge:1": "http://bridge:1",
	} {
		if got := web.Address(listen); got != want {
			t.Errorf("Address(%s) = %s, want %s", listen, got, want)
		}
	}
	for text, want := range map[string]string{
		"bridge:8787": "http://bridge:8787", "https://a/b/?c#d": "https://a/b/",
		"ftp://hunter2@a": "", "http://": "", "http://a b": "",
	} {
		got, err := web.ParseAddress(text)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("ParseAddress(%s) = %s, %v", text, got, err)
		}
		if err != nil && (fault.ClassOf(err) != fault.Config || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("ParseAddress(%s): %v", text, err)
		}
	}
}
