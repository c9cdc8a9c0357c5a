package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
)

// killBench is a bridge in a process of its own, that is killed again and again.
type killBench struct {
	t              *testing.T
	source, target string
	environ        []string
	bridge         *exec.Cmd
	log            bytes.Buffer
}

func newKillBench(t *testing.T) *killBench {
	t.Helper()
	k := &killBench{t: t, source: pgtest.Start(t).URL("postgres"), target: pgtest.Start(t).URL("postgres")}
	pgtest.Exec(t, k.source, demo.SourceSchema)
	if err := demo.Seed(t.Context(), pgtest.Connect(t, k.source), demo.SeedOptions{Seed: 3}); err != nil {
		t.Fatal(err)
	}
	k.environ = append(os.Environ(), "WALBRIDGE_SOURCE_URL="+k.source, "WALBRIDGE_TARGET_URL="+k.target,
		"WALBRIDGE_LISTEN=off", "WALBRIDGE_COPY_ROWS=150", "WALBRIDGE_SOURCE_HEARTBEAT=1s")
	t.Cleanup(k.kill)
	return k
}

// command is walbridge with these arguments.
func (k *killBench) command(args ...string) *exec.Cmd {
	k.t.Helper()
	path, err := exec.LookPath("walbridge")
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(k.t.Context()), path, args...)
	cmd.Env = k.environ
	return cmd
}

// must runs a command to its end and returns what it printed.
func (k *killBench) must(args ...string) string {
	k.t.Helper()
	out, err := k.command(args...).CombinedOutput()
	if err != nil {
		k.t.Fatalf("walbridge %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (k *killBench) start() {
	k.t.Helper()
	k.bridge = k.command("run")
	k.bridge.Stderr = &k.log
	if err := k.bridge.Start(); err != nil {
		k.t.Fatal(err)
	}
}

// kill is kill -9.
func (k *killBench) kill() {
	if k.bridge == nil {
		return
	}
	_ = k.bridge.Process.Kill() // it may have ended by itself
	_ = k.bridge.Wait()
	k.bridge = nil
}

// load writes at the source until it is stopped, at a pace that leaves the bridge
// time for more than that.
func (k *killBench) load() (stop func()) {
	k.t.Helper()
	conn, err := pgx.Connect(k.t.Context(), k.source)
	if err != nil {
		k.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		pace := time.NewTicker(50 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil && failed == nil {
			<-pace.C
			_, failed = conn.Exec(context.Background(), `
				UPDATE conversations_message SET content = content || '.' WHERE id = (SELECT id FROM conversations_message ORDER BY random() LIMIT 1);
				UPDATE conversations_contact SET provedor_id = (SELECT id FROM core_provedor ORDER BY random() LIMIT 1) WHERE id = (SELECT id FROM conversations_contact ORDER BY random() LIMIT 1);
				DELETE FROM conversations_message WHERE id = (SELECT id FROM conversations_message ORDER BY random() LIMIT 1) AND random() < 0.1`)
		}
	})
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
			_ = conn.Close(context.Background())
			if failed != nil {
				k.t.Errorf("the load has failed: %v", failed)
			}
		})
	}
	k.t.Cleanup(stop)
	return stop
}

// killAtEveryStage starts the bridge, kills it at every stage of the open request
// that it sees, and lets it come to the end. RESYNC_KILLS is how often it is killed at
// the same stage; without it, once, and no more than eight times in all.
func (k *killBench) killAtEveryStage() (stages map[string]int) {
	k.t.Helper()
	each, err := strconv.Atoi(os.Getenv("RESYNC_KILLS"))
	short := err != nil
	if short {
		each = 1
	}
	kills := 0
	stages = map[string]int{}
	k.start()
	for {
		stage := ""
		err := eventually(func() error {
			row := pgtest.QueryText(k.t, k.target, "SELECT state, progress FROM walbridge.requests ORDER BY id DESC LIMIT 1")[0]
			if row[0] == "done" {
				stage = "done"
				return nil
			}
			var p request.CompareProgress
			_ = json.Unmarshal([]byte(row[1]), &p) // none yet
			if stage = p.Table + " " + p.Step; stages[stage] >= each || short && kills == 8 {
				return errors.New("still at " + stage)
			}
			return nil
		})
		if err != nil {
			k.t.Fatalf("%v; the bridge says\n%s", err, k.log.String())
		}
		if stage == "done" {
			return stages
		}
		stages[stage]++
		kills++
		k.kill()
		k.start()
	}
}

// equal holds both sides against each other, the audit log's numbers included.
func (k *killBench) equal() {
	k.t.Helper()
	k.must("verify", "--audit")
	k.kill()
}

func TestResync_KilledAtEveryStage(t *testing.T) {
	t.Parallel()
	k := newKillBench(t)
	k.must("run", "--once", "--timeout", "2m")
	pgtest.Exec(t, k.target, "UPDATE messages SET content = 'forged' WHERE id % 7 = 0", "DELETE FROM contacts WHERE id % 5 = 0",
		"UPDATE conversations SET provedor_id = 1 WHERE id % 3 = 0", "DELETE FROM csat_feedback")
	stop := k.load()
	k.must("resync", "--no-wait")
	stages := k.killAtEveryStage()
	stop()
	k.equal()
	if len(stages) < 4 {
		t.Errorf("the bridge was killed at no more than %v", stages)
	}
}

func TestResync_KilledWhileItBeginsAnew(t *testing.T) {
	t.Parallel()
	k := newKillBench(t)
	k.must("run", "--once", "--timeout", "2m")
	if err := eventually(func() error {
		if pgtest.QueryValue(t, k.source, "SELECT bool_or(active) FROM pg_replication_slots") == "t" {
			return errors.New("the slot is in use")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, k.source, "SELECT pg_drop_replication_slot('walbridge')",
		"DELETE FROM csat_requests", "DELETE FROM csat_feedbacks WHERE id % 3 = 0", "DELETE FROM conversations_message WHERE id % 11 = 0",
		"UPDATE conversations_contact SET provedor_id = (SELECT max(id) FROM core_provedor) WHERE id % 4 = 0")
	k.must("resync", "--no-wait")
	stop := k.load()
	// Before there is any progress to be seen.
	for wait := 50 * time.Millisecond; wait < time.Second; wait *= 2 {
		k.start()
		pause := time.NewTimer(wait) // no condition: any moment will do
		<-pause.C
		k.kill()
	}
	k.killAtEveryStage()
	stop()
	k.equal()
	if got := pgtest.QueryValue(t, k.target, "SELECT count(*) = count(DISTINCT provedor_id) AND count(*) > 0 FROM audit_logs WHERE action = 'audit.gap'"); got != "t" {
		t.Error("not each tenant has one entry about the gap")
	}
}
