package postgrest_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
)

const schema = `
CREATE TABLE public.notes (id int8 PRIMARY KEY, tenant int8 NOT NULL, text text);
INSERT INTO public.notes VALUES (1, 7, 'one'), (2, 7, 'two'), (3, 8, 'a,b "c"'), (9007199254740993, 8, NULL);
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.notes TO authenticated
	USING (tenant = (nullif(current_setting('request.jwt.claims', true), '')::json->'app_metadata'->>'provedor_id')::int8);
CREATE FUNCTION public.raw(json) RETURNS json LANGUAGE sql AS 'SELECT json_build_array($1, current_user, current_setting(''statement_timeout''))';
CREATE FUNCTION public.patient(json) RETURNS text LANGUAGE sql SET statement_timeout = '42s' AS 'SELECT current_setting(''statement_timeout'')';
CREATE FUNCTION public.add(a int8, b int8 DEFAULT 1) RETURNS int8 LANGUAGE sql STABLE AS 'SELECT a + b';
CREATE FUNCTION public.of_tenant(t int8) RETURNS SETOF public.notes LANGUAGE sql STABLE AS 'SELECT * FROM notes WHERE tenant = t ORDER BY id';
CREATE FUNCTION public.nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public.fail(code text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = ''m'', DETAIL = ''d''; END';
CREATE FUNCTION public.put(id int8) RETURNS void LANGUAGE sql AS 'INSERT INTO notes VALUES (id, 7, '''')';
CREATE FUNCTION public.locked() RETURNS int4 LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION public.locked() FROM PUBLIC, anon, authenticated;`

type api struct {
	*testing.T
	s   *postgrest.Server
	url string
}

func start(t *testing.T, opts postgrest.Options) *api {
	t.Parallel()
	c := pgtest.Start(t)
	s, url := postgrest.Start(t, c, "postgres", opts)
	pgtest.Exec(t, c.URL("postgres"), schema)
	return &api{T: t, s: s, url: url}
}

// ask sends a request; the key goes where its kind belongs, token is a user's.
func (a *api) ask(method, path, body, key, token string, header ...string) (*http.Response, string, error) {
	a.Helper()
	req, err := http.NewRequestWithContext(a.Context(), method, a.url+"/rest/v1/"+path, strings.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	if key != "" {
		req.Header.Set("apikey", key)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// want asks as the service and compares.
func (a *api) want(status int, text, method, path, body string, header ...string) {
	a.Helper()
	resp, got, err := a.ask(method, path, body, a.s.Keys().Secret, "", header...)
	if err != nil {
		a.Fatalf("%s %s: %v", method, path, err)
	}
	if resp.StatusCode != status || got != text {
		a.Errorf("%s %s = %d %s, want %d %s", method, path, resp.StatusCode, got, status, text)
	}
}

// code is the code of an error's body.
func code(body string) string {
	var e struct{ Code string }
	if json.Unmarshal([]byte(body), &e) != nil {
		return ""
	}
	return e.Code
}

func TestServer_Calls(t *testing.T) {
	a := start(t, postgrest.Options{})
	a.want(200, `[{"b":"\u0001","a":9007199254740993}, "service_role", "8s"]`, "POST", "rpc/raw", `{"b":"\u0001","a":9007199254740993}`)
	a.want(200, `"42s"`, "POST", "rpc/patient", `{"x":1}`)
	a.want(200, `9007199254740994`, "POST", "rpc/add", `{"a":9007199254740993}`)
	a.want(200, `5`, "GET", "rpc/add?a=2&b=3", "")
	a.want(200, `[{"id":1,"tenant":7,"text":"one"}, `+"\n"+` {"id":2,"tenant":7,"text":"two"}]`, "POST", "rpc/of_tenant", `{"t":7}`)
	a.want(204, "", "POST", "rpc/nothing", "")
	for _, tt := range []struct {
		path, body, code string
		status           int
	}{
		{"rpc/nowhere", "{}", "PGRST202", 404},
		{"rpc/add", `{"a":1,"c":2}`, "PGRST202", 404},
		{"rpc/add", `{"a":`, "PGRST102", 400},
		{"rpc/raw", `[[1]]`, "PGRST102", 400},
		{"rpc/fail", `{"code":"23505"}`, "23505", 409},
		{"rpc/fail", `{"code":"57014"}`, "57014", 500},
		{"rpc/fail", `{"code":"53100"}`, "53100", 503},
		{"rpc/fail", `{"code":"22P02"}`, "22P02", 400},
		{"rpc/fail", `{"code":"40001"}`, "40001", 500},
		{"rpc/fail", `{"code":"WB001"}`, "WB001", 400},
		{"rpc/fail", `{"code":"PT429"}`, "PT429", 429},
		{"rpc/put", `{"id":1}`, "23505", 409},
	} {
		resp, body, err := a.ask("POST", tt.path, tt.body, a.s.Keys().Secret, "")
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tt.status || code(body) != tt.code {
			t.Errorf("%s %s = %d %s, want %d %s", tt.path, tt.body, resp.StatusCode, body, tt.status, tt.code)
		}
	}
	if resp, body, _ := a.ask("GET", "rpc/put?id=77", "", a.s.Keys().Secret, ""); resp.StatusCode != 405 || code(body) != "25006" {
		t.Errorf("a GET that writes = %d %s", resp.StatusCode, body)
	}
}

func TestServer_Keys(t *testing.T) {
	a := start(t, postgrest.Options{})
	keys := a.s.Keys()
	user := func(claims map[string]any) string {
		claims["role"] = "authenticated"
		return a.s.Token(claims)
	}
	tenant := map[string]any{"app_metadata": map[string]any{"provedor_id": 7}}
	for _, tt := range []struct {
		name, key, token string
		status           int
		body             string
	}{
		{"no key", "", "", 401, ""},
		{"a wrong key", "sb_secret_wrong", "", 401, ""},
		{"a secret key", keys.Secret, "", 200, `[{"id":1},{"id":2},{"id":3},{"id":9007199254740993}]`},
		{"a secret key that poses as a token", keys.Secret, keys.Secret, 401, ""},
		{"a publishable key", keys.Publishable, "", 200, `[]`},
		{"the service's token", keys.ServiceRole, keys.ServiceRole, 200, `[{"id":1},{"id":2},{"id":3},{"id":9007199254740993}]`},
		{"the service's key alone", keys.ServiceRole, "", 200, `[]`},
		{"a user", keys.Anon, user(tenant), 200, `[{"id":1},{"id":2}]`},
		{"a user with a publishable key", keys.Publishable, user(tenant), 200, `[{"id":1},{"id":2}]`},
		{"a user without a tenant", keys.Anon, user(map[string]any{}), 200, `[]`},
		{"an expired token", keys.Anon, user(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), 401, ""},
		{"another project's token", keys.Anon, postgrest.New(postgrest.Options{Secret: "other"}).Keys().ServiceRole, 401, ""},
		{"a role that isn't there", keys.Anon, a.s.Token(map[string]any{"role": "nobody"}), 401, ""},
	} {
		resp, body, err := a.ask("GET", "notes?select=id&order=id", "", tt.key, tt.token)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.NewReplacer("\n", "", " ", "").Replace(body)
		if resp.StatusCode != tt.status || tt.body != "" && got != tt.body {
			t.Errorf("%s: %d %s, want %d %s", tt.name, resp.StatusCode, got, tt.status, tt.body)
		}
		if strings.Contains(body, "sb_secret") {
			t.Errorf("%s: the answer shows a key", tt.name)
		}
	}
	if resp, _, _ := a.ask("GET", "notes", "", keys.Secret, "", "User-Agent", "Mozilla/5.0"); resp.StatusCode != 401 {
		t.Errorf("a browser with a secret key: %d, want 401", resp.StatusCode)
	}
	if resp, body, _ := a.ask("POST", "rpc/locked", "{}", keys.Publishable, ""); resp.StatusCode != 401 || code(body) != "42501" {
		t.Errorf("anon on a function of the service: %d %s", resp.StatusCode, body)
	}
}

func TestServer_Reads(t *testing.T) {
	a := start(t, postgrest.Options{MaxRows: 3})
	a.want(200, `[{"id":1,"note":"one"}]`, "GET", "notes?select=id,note:text&id=eq.1", "")
	a.want(200, `[{"id":"9007199254740993"}]`, "GET", "notes?select=id::text&text=is.null", "")
	a.want(200, `[{"id":2}, `+"\n"+` {"id":1}]`, "GET", "notes?select=id&tenant=eq.7&order=tenant.asc,id.desc", "")
	a.want(200, `[{"id":3}]`, "GET", `notes?select=id&text=in.(x,"a,b+\"c\"")`, "")
	a.want(200, `[{"id":2}]`, "GET", "notes?select=id&id=not.eq.1&tenant=lt.8&text=like.t*", "")
	a.want(200, `[{"id":2}]`, "GET", "notes?select=id&order=id&limit=1&offset=1", "")
	a.want(200, `{"id":1}`, "GET", "notes?select=id&id=eq.1", "", "Accept", "application/vnd.pgrst.object+json")
	for _, tt := range []struct {
		path, accept, code string
		status             int
	}{
		{"notes?order=id", "application/vnd.pgrst.object+json", "PGRST116", 406},
		{"notes?id=1", "", "PGRST100", 400},
		{"notes?select=author(name)", "", "PGRST100", 400},
		{"nowhere", "", "42P01", 404},
		{"notes?nothing=eq.1", "", "42703", 400},
	} {
		resp, body, err := a.ask("GET", tt.path, "", a.s.Keys().Secret, "", "Accept", tt.accept)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tt.status || code(body) != tt.code {
			t.Errorf("%s = %d %s, want %d %s", tt.path, resp.StatusCode, body, tt.status, tt.code)
		}
	}
	resp, _, _ := a.ask("GET", "notes?order=id", "", a.s.Keys().Secret, "", "Prefer", "count=exact")
	if got := resp.Header.Get("Content-Range"); resp.StatusCode != 206 || got != "0-2/4" {
		t.Errorf("a read beyond the bound = %d with the range %s, want 206 with 0-2/4", resp.StatusCode, got)
	}
	if resp, body, _ := a.ask("GET", "notes", "", a.s.Keys().Secret, "", "Accept-Profile", "private"); resp.StatusCode != 406 || code(body) != "PGRST106" {
		t.Errorf("a schema that isn't exposed = %d %s", resp.StatusCode, body)
	}
}

func TestServer_Faults(t *testing.T) {
	a := start(t, postgrest.Options{MaxBody: 100})
	put := func(id string) (*http.Response, string, error) {
		return a.ask("POST", "rpc/put", `{"id":`+id+`}`, a.s.Keys().Secret, "")
	}
	a.s.Fail(postgrest.Fault{Kind: postgrest.TooManyRequests, Wait: 3 * time.Second}, postgrest.Fault{Kind: postgrest.BadGateway},
		postgrest.Fault{Kind: postgrest.TooLarge}, postgrest.Fault{Kind: postgrest.Paused})
	for _, want := range []int{429, 502, 413, 540} {
		resp, _, err := put("10")
		if err != nil || resp.StatusCode != want {
			t.Fatalf("put = %v, %v, want status %d", resp, err, want)
		}
		if want == 429 && resp.Header.Get("Retry-After") != "3" {
			t.Errorf("Retry-After = %q, want 3", resp.Header.Get("Retry-After"))
		}
	}
	a.s.Fail(postgrest.Fault{Kind: postgrest.DropRequest}, postgrest.Fault{Kind: postgrest.DropReply, Match: "put"})
	if _, _, err := put("11"); err == nil {
		t.Error("a request that was dropped has an answer")
	}
	if _, _, err := put("12"); err == nil {
		t.Error("a reply that was dropped has arrived")
	}
	a.want(200, `[{"id":12}]`, "GET", "notes?select=id&id=in.(11,12)", "")
	a.s.Fail(postgrest.Fault{Kind: postgrest.Truncated}, postgrest.Fault{Kind: postgrest.Slow, Wait: time.Millisecond})
	if _, body, err := a.ask("GET", "notes", "", a.s.Keys().Secret, ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a truncated answer = %s, %v", body, err)
	}
	a.want(200, `[{"id":1}]`, "GET", "notes?select=id&id=eq.1", "")
	if n := a.s.Pending(); n != 0 {
		t.Errorf("%d faults are left", n)
	}
	if resp, _, err := a.ask("POST", "rpc/raw", `{"a":"`+strings.Repeat("x", 100)+`"}`, a.s.Keys().Secret, ""); err != nil || resp.StatusCode != 413 {
		t.Errorf("a body beyond the bound: %v, %v, want 413", resp, err)
	}
}
