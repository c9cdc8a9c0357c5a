package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// What the target says about a row that it refuses has the row's values in it: in the
// detail of a constraint, and in the message itself when a text is no number. None of
// that goes where logs, probes and scrapers are.
func TestLogs_NoRowValues(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	b := launch(t, append(p.env, "WALBRIDGE_LOG_LEVEL=debug")...)
	b.await("streaming")
	pgtest.Exec(t, p.target, `
		ALTER TABLE public.contacts ADD CHECK (phone <> 'MARKER-check');
		CREATE UNIQUE INDEX ON public.contacts (name) WHERE name LIKE 'MARKER%';
		CREATE FUNCTION public.number() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.phone LIKE 'MARKER-type%' THEN PERFORM NEW.phone::integer; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER number BEFORE INSERT OR UPDATE ON public.contacts FOR EACH ROW EXECUTE FUNCTION public.number()`)
	pgtest.Exec(t, p.source, `SET session_replication_role = replica;
		INSERT INTO public.conversations_contact (id, name, phone, additional_attributes, provedor_id, created_at, updated_at)
		SELECT v.id, v.name, v.phone, '{"note": "MARKER-json"}', 1, now(), now() FROM (VALUES
			(201, 'MARKER-a', 'MARKER-check'),
			(203, 'MARKER-twice', '203'), (204, 'MARKER-twice', '204')) AS v (id, name, phone)`)
	held := func() error {
		if n := pgtest.QueryValue(t, p.target, "SELECT count(*) FROM walbridge.held"); n != "2" {
			return fmt.Errorf("%s rows are held", n)
		}
		return nil
	}
	if err := eventually(held); err != nil {
		t.Fatal(err)
	}
	retry := exec.CommandContext(t.Context(), "walbridge", "held", "retry", "--all")
	retry.Env = append(os.Environ(), p.env...)
	out, err := retry.CombinedOutput()
	if code := retry.ProcessState.ExitCode(); code != exitFound {
		t.Errorf("the retry ends with %d (%v): %s", code, err, out)
	}
	if err := held(); err != nil {
		t.Error(err)
	}
	// A function of the target's own fails with the value in its message.
	pgtest.Exec(t, p.source, `SET session_replication_role = replica;
		UPDATE public.conversations_contact SET phone = 'MARKER-type' WHERE id = 1`)
	b.await("blocked")
	everywhere := map[string]string{"the log": b.says(), "held retry": string(out)}
	for _, path := range []string{"/status.json", "/metrics", "/", "/readyz"} {
		everywhere[path] = b.get(path)
	}
	if !strings.Contains(everywhere["/metrics"], "\nwalbridge_held_rows 2\n") {
		t.Error("the metrics don't count two held rows")
	}
	pgtest.Exec(t, p.target, "DROP TRIGGER number ON public.contacts")
	p.arrives("205")
	everywhere["the log"] = b.says()
	for where, text := range everywhere {
		if i := strings.Index(text, "MARKER"); i >= 0 {
			t.Errorf("%s shows a row's value: %s", where, text[max(0, i-200):min(len(text), i+50)])
		}
	}
}

// A target that is away for many attempts is said once, and once more when it is back.
func TestLogs_TargetAway(t *testing.T) {
	t.Parallel()
	source, target := pgtest.Start(t), pgtest.Start(t)
	p := &pair{t: t, source: source.URL("postgres"), target: target.URL("postgres")}
	pgtest.Exec(t, p.source, demo.SourceSchema, seed)
	p.env = []string{"WALBRIDGE_SOURCE_URL=" + p.source, "WALBRIDGE_TARGET_URL=" + p.target}
	b := launch(t, p.env...)
	b.await("streaming")
	p.arrives("100")
	if err := target.Stop(pgtest.Fast); err != nil {
		t.Fatal(err)
	}
	failed := regexp.MustCompile(`(?m)^walbridge_errors_total\{class="retry"\} (\d+)$`)
	err := eventually(func() error {
		m := failed.FindStringSubmatch(b.get("/metrics"))
		if m == nil {
			return errors.New("no errors are counted")
		}
		if n, _ := strconv.Atoi(m[1]); n < 8 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	p.arrives("101")
	b.await("streaming")
	said, again := map[string]int{}, 0
	for line := range strings.Lines(b.says()) {
		var l struct{ Level, Msg, Err string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("no JSON, and this is no terminal: %s", line)
		}
		if l.Level == "WARN" {
			said[l.Msg+": "+l.Err]++
		}
		if strings.Contains(l.Msg, "again") {
			again++
		}
	}
	for what, times := range said {
		if times > 1 {
			t.Errorf("it says %d times: %s", times, what)
		}
	}
	if len(said) == 0 || len(said) > 4 || again != 1 {
		t.Errorf("%d warnings, and %d times that it is over:\n%s", len(said), again, b.says())
	}
}
