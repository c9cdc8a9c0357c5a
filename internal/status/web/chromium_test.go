package web_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// chromium is a headless browser that is spoken to over a pipe, in the DevTools
// protocol (https://chromedevtools.github.io/devtools-protocol/): messages are JSON
// and end with a zero byte. One process serves all pages of a test.
type chromium struct {
	t       *testing.T
	in      *os.File
	pipe    *os.File
	out     *bufio.Reader
	id      int
	session string
	// complaints are what the console has said: errors, and violations of the policy.
	complaints []string
	// loaded counts pages whose load event has come.
	loaded int
}

// patience is how long a browser on a busy machine may take.
const patience = 2 * time.Minute

type devtools struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
	Session string `json:"sessionId,omitempty"`
}

func startChromium(t *testing.T) *chromium {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium; make extras installs it")
	}
	toRead, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	// The test's own context ends before its cleanups, and would kill the browser
	// before it has ended its children.
	ctx, kill := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	cmd := exec.CommandContext(ctx, program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--no-first-run",
		"--hide-scrollbars", "--user-data-dir="+home, "about:blank")
	// Its own place for whatever it writes, on a machine whose home is read-only, too.
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.ExtraFiles = []*os.File{toRead, toWrite} // 3 and 4, where it looks for them
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toRead.Close()
	toWrite.Close()
	c := &chromium{t: t, in: in, pipe: out, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		c.send("Browser.close", nil)
		_ = cmd.Wait()
		in.Close()
		out.Close()
		defer kill()
		// Its children may write for a moment longer than it lives.
		for err := os.RemoveAll(home); err != nil; err = os.RemoveAll(home) {
			if ctx.Err() != nil {
				t.Errorf("chromium leaves something behind: %v", err)
				break
			}
			runtime.Gosched()
		}
	})
	var target struct {
		TargetID  string `json:"targetId"`
		SessionID string `json:"sessionId"`
	}
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	c.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		c.call(domain+".enable", nil, nil)
	}
	return c
}

func (c *chromium) send(method string, params any) {
	c.id++
	m := map[string]any{"id": c.id, "method": method}
	if params != nil {
		m["params"] = params
	}
	if c.session != "" && !strings.HasPrefix(method, "Browser.") {
		m["sessionId"] = c.session
	}
	text, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(text, 0)); err != nil {
		c.t.Errorf("chromium: %v", err)
	}
}

// call waits for the answer, and takes note of what comes meanwhile.
func (c *chromium) call(method string, params, result any) {
	c.t.Helper()
	c.send(method, params)
	for id := c.id; ; {
		m := c.receive()
		if m.ID != id {
			continue
		}
		if m.Error != nil {
			c.t.Fatalf("chromium: %s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				c.t.Fatalf("chromium: %s: %v", method, err)
			}
		}
		return
	}
}

func (c *chromium) receive() (m devtools) {
	c.t.Helper()
	err := c.pipe.SetReadDeadline(time.Now().Add(patience))
	var text []byte
	if err == nil {
		text, err = c.out.ReadBytes(0)
	}
	if err != nil {
		c.t.Fatalf("chromium says nothing more: %v", err)
	}
	if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
		c.t.Fatalf("chromium: %v", err)
	}
	switch m.Method {
	case "Page.loadEventFired":
		c.loaded++
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
		c.complaints = append(c.complaints, string(m.Params))
	}
	return m
}

// open loads a page and waits for its end.
func (c *chromium) open(url string) {
	c.t.Helper()
	before := c.loaded
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	for c.loaded == before {
		c.receive()
	}
}

// eval returns what an expression of the page, a promise or not, comes to.
func (c *chromium) eval(expression string) string {
	c.t.Helper()
	var got struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	c.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if got.ExceptionDetails != nil {
		c.t.Fatalf("%s: %s", expression, got.ExceptionDetails)
	}
	return fmt.Sprint(got.Result.Value)
}

// look makes the page as wide as a phone or a desk, light or dark.
func (c *chromium) look(width int, scheme string) {
	c.t.Helper()
	c.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// shoot writes a picture of the whole page to the directory of PAGE_SHOTS, if it is
// set, for a person to look at.
func (c *chromium) shoot(name string) {
	c.t.Helper()
	dir := os.Getenv("PAGE_SHOTS")
	if dir == "" {
		return
	}
	var got struct {
		Data string `json:"data"`
	}
	c.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &got)
	picture, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600)
	}
	if err != nil {
		c.t.Error(err)
	}
}
