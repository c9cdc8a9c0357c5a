package web_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/status/web"
)

// lived returns the state of a bridge that has been at work for a while and is now
// in the given phase.
func lived(phase status.Phase) *status.State {
	s := status.New("v1.2.3")
	safe := int64(40 << 30)
	s.Update(func(n *status.Snapshot) {
		n.Name, n.State = "niochat", status.Starting
		if phase == status.Starting || phase == status.Standby {
			n.State = phase
			return
		}
		n.State, n.Checkpoint, n.Source, n.Confirmed = status.Streaming, 0x3_16B3748, 0x3_16C3748, 0x3_16B3700
		n.Epoch, n.Rows, n.Entries, n.Held, n.Dropped, n.Batches = 3, 1_234_567, 345_678, 5, 2, 4321
		n.Slot = &status.Slot{WALStatus: "reserved", Level: status.LevelOK, Retained: 77 << 20, Safe: &safe}
		for _, table := range []string{"core_auditlog", "core_provedor", "conversations_inbox", "conversations_contact", "conversations_conversation", "conversations_message"} {
			n.Copy = append(n.Copy, status.Copy{Table: "public." + table, Done: 1000, Total: 1000, Finished: true})
		}
		n.HeldBy = []status.Held{{Table: "public.conversations_contact", Reason: "tenant", Rows: 3}, {Table: "public.conversations_message", Reason: "rejected", Rows: 1}}
	})
	if phase == status.Starting || phase == status.Standby {
		return s
	}
	for i := range 170 {
		wave := int64(i % 40)
		s.Wrote(20+wave, map[string]int64{"public.conversations_message": 100 + 9*wave, "public.conversations_conversation": wave},
			map[string]int64{"42": 60 + wave, "7": 30, fmt.Sprint("tenant-", i): 9})
		s.Update(func(n *status.Snapshot) {
			n.LagBytes, n.Behind = wave<<14, time.Now().Add(-time.Duration(wave)*100*time.Millisecond)
			if n.State = status.Streaming; i > 60 && i < 70 {
				n.State = status.Retrying
			}
		})
		s.Record()
		time.Sleep(status.SampleEvery)
	}
	s.Fail(fault.Wrap(fault.Retry, "start PostgreSQL, or wait until it is up", errors.New("target: connect to db.example.supabase.co:5432: connection refused")))
	time.Sleep(3 * time.Minute)
	s.Update(func(n *status.Snapshot) { n.State, n.LagBytes, n.Behind = phase, 0, time.Time{} })
	switch phase {
	case status.Copying:
		s.Update(func(n *status.Snapshot) {
			n.Copy[4] = status.Copy{Table: n.Copy[4].Table, Done: 120_000, Total: 300_000, Estimated: true}
			n.Copy[5] = status.Copy{Table: n.Copy[5].Table, Done: 0, Total: 2_500_000, Estimated: true}
			n.CopyRate, n.CopyLeft, n.LagBytes = 12_345, 217, 5<<20
		})
	case status.Streaming:
		s.Update(func(n *status.Snapshot) {
			n.Request = &status.Request{ID: 12, Kind: "resync", Table: "public.messages", Step: "rows", Done: 12_000, Total: 48_000, Written: 7}
		})
	case status.Blocked:
		for i := range 4 {
			s.Fail(fault.Wrap(fault.Stop, fmt.Sprintf("ALTER TABLE public.messages ADD COLUMN extra%d text", i), fmt.Errorf("transaction at 3/16C3748: table public.messages lacks column extra%d", i)))
		}
		s.Update(func(n *status.Snapshot) {
			n.Blocked, n.LagBytes, n.Behind = 0x3_16C3748, 3<<30, time.Now().Add(-90*time.Minute)
			n.Request = &status.Request{ID: 13, Kind: "skip", Done: 12_000}
			n.Slot.WALStatus, n.Slot.Level, n.Slot.Retained = "extended", status.LevelWarning, 3<<30
		})
	case status.Retrying:
		s.Update(func(n *status.Snapshot) { n.LagBytes, n.Behind = 5<<20, time.Now().Add(-12*time.Second) })
	}
	time.Sleep(12 * time.Second)
	s.Record()
	return s
}

// Each kind of request is named, with its figures in words that fit.
func TestPage_Requests(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		request status.Request
		en, pt  []string
	}{
		{status.Request{ID: 1, Kind: "repair", Table: "public.messages", Step: "repair", Done: 30, Total: 60, Written: 4},
			[]string{"Request 1: Repair", `value="50"`, "public.messages: comparing rows. 30 rows looked at, 4 changed."},
			[]string{"Pedido 1: Reparo", "public.messages: comparando registros. 30 registros examinados, 4 alterados."}},
		{status.Request{ID: 2, Kind: "held.retry", Table: "public.messages", Done: 1200, Written: 1100},
			[]string{"Request 2: Held rows are tried again", "public.messages: 1,200 rows looked at, 1,100 changed."},
			[]string{"Pedido 2: Registros retidos são tentados de novo", "public.messages: 1.200 registros examinados, 1.100 alterados."}},
		{status.Request{ID: 3, Kind: "held.drop", Table: "public.messages", Done: 5, Written: 5},
			[]string{"Request 3: Held rows are given up", "public.messages: 5 rows looked at, 5 changed."},
			[]string{"Pedido 3: Registros retidos são abandonados", "public.messages: 5 registros examinados, 5 alterados."}},
		{status.Request{ID: 4, Kind: "forget", Done: 7, Written: 7},
			[]string{"Request 4: A row is erased everywhere", `<p class="dim">rows erased: 7.</p>`},
			[]string{"Pedido 4: Um registro é apagado em toda parte", `<p class="dim">registros apagados: 7.</p>`}},
		{status.Request{ID: 5, Kind: "skip", Done: 12_000},
			[]string{"Request 5: A transaction is passed", "changes left out: 12,000."},
			[]string{"Pedido 5: Uma transação é pulada", "mudanças deixadas de fora: 12.000."}},
		{status.Request{ID: 6, Kind: "held.retry"},
			[]string{`<h2>Request 6: Held rows are tried again</h2>`},
			[]string{`<h2>Pedido 6: Registros retidos são tentados de novo</h2>`}},
	} {
		s := status.New("v1")
		s.Update(func(n *status.Snapshot) { n.State, n.Request = status.Streaming, &tt.request })
		for lang, want := range map[string][]string{"en": tt.en, "pt": tt.pt} {
			body := get(t, web.Handler(s), "GET", "/?lang="+lang).Body.String()
			for _, part := range want {
				if !strings.Contains(body, part) {
					_, section, _ := strings.Cut(body, `<section id="request"`)
					section, _, _ = strings.Cut(section, "</section>")
					t.Errorf("%s in %s: the page lacks %q: %s", tt.request.Kind, lang, part, section)
				}
			}
		}
	}
}

// said are words that a page must have, in both languages, for each state.
var said = map[status.Phase][2][]string{
	status.Starting:  {{"starting", "Checking source and target", "The history begins"}, {"iniciando", "Verificando a origem"}},
	status.Copying:   {{"copying", "Copying the rows", "First copy", "120,000 of about 300,000 rows", "3 min left"}, {"copiando", "Primeira cópia", "120.000 de cerca de 300.000 registros"}},
	status.Streaming: {{"streaming", "the target has everything", "1,234,567", "Request 12: Resync", "comparing rows", "3 min ago", "no tenant", "walbridge held list"}, {"acompanhando", "o destino tem tudo", "1.234.567", "Pedido 12: Resync", "há 3 min", "sem provedor"}},
	status.Standby:   {{"standby", "Another instance is at work"}, {"de reserva", "Outra instância está trabalhando"}},
	status.Retrying:  {{"retrying", "Nothing to do here", "connection refused", "Fix: start PostgreSQL", "5.0 MiB"}, {"tentando de novo", "Nada a fazer aqui", "connection refused", "Correção: start PostgreSQL", "5,0 MiB"}},
	status.Blocked:   {{"blocked", "A person has to mend", "lacks column extra3", "Fix: ALTER TABLE", "3/16C3748", "extended:", "2 older ones", "1 h", "Request 13: A transaction is passed", "changes left out: 12,000"}, {"bloqueada", "Alguém precisa corrigir", "Correção: ALTER TABLE", "2 mais antigos", "mudanças deixadas de fora: 12.000"}},
	status.Stopped:   {{"stopped", "The process is ending"}, {"parada", "O processo está terminando"}},
}

// A page as the handler has made it.
type made struct{ w *httptest.ResponseRecorder }

// ServeHTTP sends it as it is.
func (m made) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	maps.Copy(w.Header(), m.w.Header())
	_, _ = w.Write(m.w.Body.Bytes())
}

// livedPages serves the page of each state in both languages. Its bridges have lived
// through half an hour in no time, by a clock of their own.
func livedPages(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for _, phase := range status.Phases() {
		t.Run(string(phase), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := web.Handler(lived(phase))
				for _, lang := range []string{"en", "pt"} {
					mux.Handle("/"+string(phase)+"/"+lang, made{get(t, h, "GET", "/?lang="+lang)})
					mux.Handle("/"+string(phase)+"/"+lang+"/day", made{get(t, h, "GET", "/?span=day&lang="+lang)})
				}
			})
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// In a browser each state says what it is in both languages, on a phone as on a
// desk, and nothing breaks the policy or complains.
func TestPage_Chromium(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	server := livedPages(t)
	for i, phase := range status.Phases() {
		for l, lang := range []string{"en", "pt"} {
			width, scheme := 390, "dark"
			if l == i%2 { // half of them on a desk, in light colours
				width, scheme = 1280, "light"
			}
			c.look(width, scheme)
			c.open(server.URL + "/" + string(phase) + "/" + lang)
			text := c.eval("document.body.innerText")
			for _, want := range said[phase][l] {
				if !strings.Contains(text, want) {
					t.Errorf("%s in %s lacks %q:\n%s", phase, lang, want, text)
				}
			}
			if got := c.eval("document.documentElement.lang"); !strings.HasPrefix(got, lang) {
				t.Errorf("%s in %s is in %s", phase, lang, got)
			}
			if got := c.eval("document.documentElement.scrollWidth <= innerWidth"); got != "true" {
				t.Errorf("%s in %s is wider than a screen of %d", phase, lang, width)
			}
			if got := c.eval("getComputedStyle(document.querySelector('h1')).color"); got == c.eval("getComputedStyle(document.body).color") {
				t.Errorf("%s in %s is without its style", phase, lang)
			}
			c.shoot(fmt.Sprintf("%s-%s-%d", phase, lang, width))
			if phase == status.Streaming {
				c.open(server.URL + "/" + string(phase) + "/" + lang + "/day")
				c.shoot(fmt.Sprintf("day-%s-%d", lang, width))
			}
		}
	}
	// Without scripts it says the same, and is loaded anew by the browser.
	c.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	c.open(server.URL + "/blocked/en")
	if text := c.eval("document.body.innerText"); !strings.Contains(text, "A person has to mend") {
		t.Errorf("without scripts the page says:\n%s", text)
	}
	if got := c.eval("document.querySelector('head meta[http-equiv=refresh]').content"); got != "5" {
		t.Errorf("without scripts the page is loaded anew after %s s", got)
	}
	if c.complaints != nil {
		t.Errorf("the console says:\n%s", strings.Join(c.complaints, "\n"))
	}
}

// An open page follows the bridge without being loaded again, keeps open what
// somebody has opened, and says when nobody answers any more.
func TestPage_Refresh(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	s := fullState()
	server := httptest.NewServer(web.Handler(s))
	defer server.Close()
	c.open(server.URL + "/?lang=pt")
	loaded := c.loaded
	if got := c.eval("document.querySelector('h1').className"); got != "copying" {
		t.Fatalf("the page shows %q", got)
	}
	c.eval("document.getElementById('copied').open = true; document.getElementById('copied-summary').focus(); tables = document.getElementById('tables').firstChild; null")
	s.Update(func(n *status.Snapshot) { n.State, n.Copy[1].Done = status.Blocked, 130 })
	c.eval("refresh()")
	for expression, want := range map[string]string{
		"document.querySelector('h1').className":                        "blocked",
		"document.title":                                                "bloqueada · niochat · walbridge",
		"document.getElementById('copied').open":                        "true",
		"document.activeElement.id":                                     "copied-summary",
		"document.getElementById('tables').firstChild === tables":       "true", // nothing has changed there
		"document.getElementById('lost').hidden":                        "true",
		"document.getElementById('copy').innerText.includes('130 reg')": "true",
	} {
		if got := c.eval(expression); got != want {
			t.Errorf("after a refresh %s is %s, want %s", expression, got, want)
		}
	}
	if c.complaints != nil || c.loaded != loaded {
		t.Errorf("loaded %d times; the console says:\n%s", c.loaded-loaded, strings.Join(c.complaints, "\n"))
	}
	server.Close()
	c.eval("refresh()")
	if got := c.eval("document.getElementById('lost').innerText"); got != "A ponte não responde. O que você vê é o que ela disse por último." {
		t.Errorf("without an answer the page says %q", got)
	}
}

// Tenants are on the page, and never a label of a metric: there may be any number.
func TestMetrics_NoTenants(t *testing.T) {
	t.Parallel()
	h := web.Handler(fullState())
	if body := get(t, h, "GET", "/").Body.String(); !strings.Contains(body, "tenant-x9") {
		t.Error("the page lacks the tenant")
	}
	if body := get(t, h, "GET", "/metrics").Body.String(); strings.Contains(body, "tenant-x9") {
		t.Error("the metrics name a tenant")
	}
}

// A bridge that hasn't had the lease knows no totals, and doesn't say 0.
func TestPage_Standby(t *testing.T) {
	t.Parallel()
	s := status.New("v1")
	s.SetState(status.Standby)
	body := get(t, web.Handler(s), "GET", "/").Body.String()
	for _, want := range []string{"<dt>Lag</dt><dd>–</dd>", "<dt>Rows applied</dt><dd>–</dd>", "<dt>Held rows</dt><dd>–</dd>"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func TestPage_Language(t *testing.T) {
	t.Parallel()
	h := web.Handler(status.New("v1"))
	for _, tt := range []struct{ path, accept, want string }{
		{"/", "", "en"},
		{"/", "de", "en"},
		{"/", "pt-BR,pt;q=0.9,en;q=0.8", "pt-BR"},
		{"/", "pt", "pt-BR"},
		{"/", "pt-PT", "pt-BR"},
		{"/", "de, en;q=0.5, pt;q=0.4", "en"},
		{"/?lang=pt", "en", "pt-BR"},
		{"/?lang=en", "pt-BR", "en"},
		{"/?lang=x&span=day", "pt", "pt-BR"},
		{"/?lang=%00%22%3E", "]]]", "en"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", tt.path, nil)
		r.Header.Set("Accept-Language", tt.accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Language"); got != tt.want || !strings.Contains(w.Body.String(), `<html lang="`+tt.want+`">`) {
			t.Errorf("%s, accepting %q: %s, want %s", tt.path, tt.accept, got, tt.want)
		}
	}
}
