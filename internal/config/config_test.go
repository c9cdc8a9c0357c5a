package config_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/fault"
)

var compare = cmp.Options{
	cmpopts.IgnoreUnexported(config.Config{}),
	cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() }),
}

func TestLoad_Files(t *testing.T) {
	t.Parallel()
	full := &config.Config{
		Name: "niochat_1",
		Source: config.Source{URL: config.NewSecret("postgres://app:hunter2@127.0.0.1:5432/niochat"), Heartbeat: config.Duration(90 * time.Second), InsecureTLS: true,
			WarnRetained: 1 << 30, AlarmRetained: 10 << 30},
		Target:   config.Target{URL: config.NewSecret("postgres://postgres:hunter2@127.0.0.1:5433/postgres"), InsecureTLS: true},
		Hash:     config.Hash{Key: config.NewSecret("hunter2-hunter2-hunter2")},
		Supabase: config.Supabase{URL: "https://ref.supabase.co", Key: config.NewSecret("hunter2"), MaxBody: 256 << 10},
		Listen:   "0.0.0.0:9000", Expose: true, Prepare: "manual", OnDelete: "keep",
		Audit:  config.Audit{Values: "all", Unchanged: true, MaxValue: 16384},
		Batch:  config.Batch{Rows: 500, Bytes: 1 << 20},
		Queue:  config.Queue{Bytes: 2_000_000},
		Copy:   config.Copy{Rows: 20_000, Realtime: "publish"},
		Lease:  config.Duration(2500 * time.Millisecond),
		Memory: config.Memory{Limit: 100_000_000},
		Log:    config.Log{Level: "debug", Format: "json"},
	}
	nulls := config.Default()
	nulls.Audit.Values = "all"
	for name, want := range map[string]*config.Config{"full": full, "empty": config.Default(), "nulls": nulls} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := "testdata/" + name + ".good.yaml"
			preset := config.Mapping{Name: "preset", Data: []byte("tables: {}")}
			got, err := config.Load(config.Input{File: file, Mapping: preset})
			if err != nil {
				t.Fatal(err)
			}
			want.Mapping = preset
			if name == "full" {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				want.Mapping = config.Mapping{Name: file, Data: data}
			}
			got.Warnings = nil // about the mode of the file in this checkout
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("Load() (-want +got):\n%s", diff)
			}
		})
	}
}

// A bad file says in its first comment lines what the error must contain.
func TestLoad_BadFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = config.Load(config.Input{File: file})
			if err == nil {
				t.Fatal("Load() accepts the file")
			}
			if got := fault.ClassOf(err); got != fault.Config {
				t.Errorf("class = %s, want config", got)
			}
			for line := range strings.Lines(string(data)) {
				want, ok := strings.CutPrefix(line, "# ")
				if !ok {
					break
				}
				if want = strings.TrimSpace(want); !strings.Contains(err.Error(), want) {
					t.Errorf("error = %v\nwant one with %q", err, want)
				}
			}
			if !strings.Contains(err.Error(), file) {
				t.Errorf("the error doesn't name the file: %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

func TestLoad_Precedence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("walbridge.yaml", "name: file\nsource: {url: postgres://file/db}\n")
	secret := write("secret", "postgres://secret/db\n")
	crlf := write("crlf", "postgres://secret/db \r\n")
	empty := write("empty", "\n")
	tests := []struct {
		name  string
		file  string
		flags map[string]string
		env   []string
		key   string
		want  string // "!" and a part of the error
	}{
		{name: "default", key: "name", want: "walbridge"},
		{name: "file", file: file, key: "name", want: "file"},
		{name: "file by environment", env: []string{"WALBRIDGE_CONFIG=" + file}, key: "name", want: "file"},
		{name: "environment", file: file, env: []string{"WALBRIDGE_NAME=env"}, key: "name", want: "env"},
		{name: "empty environment", file: file, env: []string{"WALBRIDGE_NAME="}, key: "name", want: "file"},
		{name: "flag", file: file, env: []string{"WALBRIDGE_NAME=env"}, flags: map[string]string{"name": "flag"}, key: "name", want: "flag"},
		{name: "bad flag", flags: map[string]string{"log.level": "loud"}, want: "!--log-level must be debug, info, warn or error"},
		{name: "section", env: []string{"WALBRIDGE_AUDIT_UNCHANGED=true"}, key: "audit.unchanged", want: "true"},
		{name: "bad environment", env: []string{"WALBRIDGE_BATCH_ROWS=0"}, want: "!WALBRIDGE_BATCH_ROWS must be at least 1"},
		{name: "on delete", env: []string{"WALBRIDGE_ON_DELETE=keep"}, key: "on_delete", want: "keep"},
		{name: "bad on delete", env: []string{"WALBRIDGE_ON_DELETE=archive"}, want: "!WALBRIDGE_ON_DELETE must be keep or delete"},

		{name: "django's", env: []string{"DATABASE_URL=postgres://django/db"}, key: "source.url", want: "postgres://django/db"},
		{name: "own before django's", env: []string{"DATABASE_URL=postgres://django/db", "WALBRIDGE_SOURCE_URL=postgres://own/db"}, key: "source.url", want: "postgres://own/db"},
		{name: "supabase's", env: []string{"SUPABASE_DB_URL=postgres://sb/db"}, key: "target.url", want: "postgres://sb/db"},
		{name: "secret key", env: []string{"SUPABASE_SECRET_KEY=two", "SUPABASE_SERVICE_ROLE_KEY=one"}, key: "supabase.key", want: "one"},
		{name: "secret file", env: []string{"WALBRIDGE_SOURCE_URL_FILE=" + secret}, key: "source.url", want: "postgres://secret/db"},
		{name: "secret file of a fallback", env: []string{"DATABASE_URL_FILE=" + crlf}, key: "source.url", want: "postgres://secret/db"},
		{name: "own file before django's", env: []string{"DATABASE_URL=postgres://django/db", "WALBRIDGE_SOURCE_URL_FILE=" + secret}, key: "source.url", want: "postgres://secret/db"},
		{name: "both", env: []string{"WALBRIDGE_SOURCE_URL=x", "WALBRIDGE_SOURCE_URL_FILE=" + secret}, want: "!are both set"},
		{name: "no such file", env: []string{"WALBRIDGE_TARGET_URL_FILE=/nowhere"}, want: "!WALBRIDGE_TARGET_URL_FILE: open /nowhere"},
		{name: "directory in place of a file", env: []string{"WALBRIDGE_TARGET_URL_FILE=" + dir}, want: "!remove it there and write the file"},
		{name: "empty file", env: []string{"WALBRIDGE_TARGET_URL_FILE=" + empty}, want: "!is empty"},
		{name: "no file for what is no secret", env: []string{"WALBRIDGE_NAME_FILE=" + secret}, key: "name", want: "walbridge"},
		{name: "no configuration", file: "/nowhere.yaml", want: "!read configuration: open /nowhere.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := config.Load(config.Input{File: tt.file, Flags: tt.flags, Environ: tt.env})
			if want, ok := strings.CutPrefix(tt.want, "!"); ok {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("Load() error = %v, want one with %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{
				"source.url": c.Source.URL.Reveal(), "target.url": c.Target.URL.Reveal(), "supabase.key": c.Supabase.Key.Reveal(),
			}[tt.key]
			if got == "" {
				i := slices.IndexFunc(config.Settings(), func(s config.Setting) bool { return s.Key == tt.key })
				got = config.Settings()[i].Value(c)
			}
			if got != tt.want {
				t.Errorf("%s = %q, want %q", tt.key, got, tt.want)
			}
		})
	}
}

// The status page is shown to other machines only on a word of the operator's.
func TestRequireListen(t *testing.T) {
	t.Parallel()
	for listen, local := range map[string]bool{
		"127.0.0.1:8787": true, "127.9.9.9:1": true, "[::1]:8787": true, "localhost:8787": true, "off": true,
		":8787": false, "0.0.0.0:8787": false, "[::]:8787": false, "10.0.0.7:8787": false, "bridge.internal:8787": false,
	} {
		c := config.Default()
		c.Listen = listen
		err := c.RequireListen()
		if local != (err == nil) {
			t.Errorf("RequireListen() with %s: %v", listen, err)
		}
		if err != nil && (fault.ClassOf(err) != fault.Config || !strings.Contains(fault.HintOf(err), "WALBRIDGE_EXPOSE=true")) {
			t.Errorf("RequireListen() with %s says %q, hint %q", listen, err, fault.HintOf(err))
		}
		c.Expose = true
		if err := c.RequireListen(); err != nil {
			t.Errorf("RequireListen() with %s and expose: %v", listen, err)
		}
	}
}

func TestLoad_Warnings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "walbridge.yaml")
	if err := os.WriteFile(file, []byte("source: {url: postgres://file/db}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Input{File: file, Environ: []string{
		"DATABASE_URL=postgres://django/db", "WALBRIDGE_ON_DELET=keep", "WALBRIDGE_SERVICE_HOST=10.0.0.1", "WALBRIDGE_PORT_8787_TCP=x", "HOME=/",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		file + " holds a secret (source.url) and everybody may read it: chmod 600 " + file,
		"DATABASE_URL from the environment goes before source.url of the file",
		"WALBRIDGE_ON_DELET is no setting and has no effect; WALBRIDGE_ON_DELETE is one",
	}
	if diff := cmp.Diff(want, c.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// token is a legacy key with a signature that nobody checks here.
func token(payload string) string {
	return "eyJhbGciOiJIUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".hunter2"
}

// A key in a file is read again, so that it can be changed under a running bridge.
func TestAPIKey_File(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	write := func(key string) {
		if err := os.WriteFile(path, []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sb_secret_one")
	c, err := config.Load(config.Input{Environ: []string{"SUPABASE_URL=https://x.supabase.co", "SUPABASE_SECRET_KEY_FILE=" + path}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sb_secret_one", "sb_secret_two"} {
		write(want)
		if got, err := c.APIKey(); err != nil || got != want {
			t.Errorf("APIKey() = %q, %v, want %q", got, err, want)
		}
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	const good = "postgres://app:hunter2@127.0.0.1:5432/"
	tests := []struct {
		name string
		env  []string
		want string
	}{
		{"both", []string{"DATABASE_URL=" + good + "a", "SUPABASE_DB_URL=" + good + "b"}, ""},
		{"no source", []string{"SUPABASE_DB_URL=" + good + "b"}, "no source: set WALBRIDGE_SOURCE_URL"},
		{"no target", []string{"DATABASE_URL=" + good + "a"}, "no target: set WALBRIDGE_TARGET_URL"},
		{"the API", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co", "SUPABASE_SECRET_KEY=sb_secret_hunter2"}, ""},
		{"the API with a legacy key", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co/", "SUPABASE_SERVICE_ROLE_KEY=" + token(`{"role":"service_role","exp":4102444800}`)}, ""},
		{"the database before the API", []string{"DATABASE_URL=" + good + "a", "SUPABASE_DB_URL=" + good + "b", "SUPABASE_SECRET_KEY=hunter2"}, ""},
		{"no key", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co"}, "no key: set SUPABASE_SECRET_KEY"},
		{"no address", []string{"DATABASE_URL=" + good + "a", "SUPABASE_SECRET_KEY=sb_secret_hunter2"}, "no address: set SUPABASE_URL"},
		{"plain http", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=http://x.supabase.co", "SUPABASE_SECRET_KEY=sb_secret_hunter2"}, "plain http"},
		{"more than an address", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co/rest/v1", "SUPABASE_SECRET_KEY=sb_secret_hunter2"}, "more than a scheme and a host"},
		{"no key at all", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co", "SUPABASE_SECRET_KEY=hunter2"}, "neither a secret key"},
		{"a publishable key", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co", "SUPABASE_SECRET_KEY=sb_publishable_hunter2"}, "a publishable one"},
		{"an anonymous key", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co", "SUPABASE_SECRET_KEY=" + token(`{"role":"anon"}`)}, "not that of service_role"},
		{"an expired key", []string{"DATABASE_URL=" + good + "a", "SUPABASE_URL=https://x.supabase.co", "SUPABASE_SECRET_KEY=" + token(`{"role":"service_role","exp":1577836800}`)}, "expired on 2020-01-01"},
		{"same database", []string{"DATABASE_URL=" + good + "a", "SUPABASE_DB_URL=" + good + "a"}, "source and target are the same database"},
		{"malformed source", []string{"DATABASE_URL=hunter2", "SUPABASE_DB_URL=" + good + "b"}, "DATABASE_URL: read source URL: it has no scheme"},
		{"malformed target", []string{"DATABASE_URL=" + good + "a", "WALBRIDGE_TARGET_URL=postgres://hunter2/"}, "WALBRIDGE_TARGET_URL: read target URL: it has no database"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := config.Load(config.Input{Environ: tt.env})
			if err != nil {
				t.Fatal(err)
			}
			err = c.RequireBoth()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.ClassOf(err) != fault.Config {
				t.Fatalf("RequireBoth() = %v, want one of class config with %q", err, tt.want)
			}
			if strings.Contains(err.Error()+fault.HintOf(err), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Source.URL = config.NewSecret("hunter2")
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("loaded", "url", c.Source.URL, "config", c, "source", c.Source)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("loaded", "url", c.Source.URL, "config", c)
	all := []string{string(j), string(y), log.String(), c.Source.URL.String(), c.Source.URL.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all = append(all, fmt.Sprintf(verb, c.Source.URL), fmt.Sprintf(verb, c.Source), fmt.Sprintf(verb, &c.Source))
	}
	for _, text := range all {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "68756e746572") {
			t.Errorf("the secret is shown: %s", text)
		}
	}
	if got := c.Source.URL.Reveal(); got != "hunter2" {
		t.Errorf("Reveal() = %q", got)
	}
}

// Every setting has what the reference needs, and no two share a name.
func TestSettings(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range config.Settings() {
		if s.Help == "" || !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s: help %q is no sentence", s.Key, s.Help)
		}
		for _, name := range append([]string{s.Key, s.Env}, s.More...) {
			if seen[name] {
				t.Errorf("%s occurs twice", name)
			}
			seen[name] = true
		}
	}
}

// What a default prints can be read again.
func TestSettings_DefaultsRoundTrip(t *testing.T) {
	t.Parallel()
	var env []string
	for _, s := range config.Settings() {
		env = append(env, s.Env+"="+s.Default())
	}
	got, err := config.Load(config.Input{Environ: env})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		file := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(config.Input{File: file}); err != nil && fault.ClassOf(err) != fault.Config {
			t.Errorf("class of %v", err)
		}
	})
}
