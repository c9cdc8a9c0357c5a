package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"runtime/pprof"
	"strings"

	"github.com/walbridge/walbridge/internal/postgrest"
)

// The API of bridges that write over it is a process of its own, so that its CPU
// time, which is none of theirs, can be told apart. It is this program once more.
const (
	standInURL     = "BENCH_STAND_IN"
	standInProfile = "BENCH_STAND_IN_PROFILE"
	standInSecret  = "a secret of the benchmark's own, which protects nothing"
)

// StandIn serves the API until its standard input ends, if that is what this
// process was started for. A program that calls Run calls it first.
func StandIn() {
	url := os.Getenv(standInURL)
	if url == "" {
		return
	}
	if err := serveAPI(url, os.Getenv(standInProfile)); err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveAPI(url, profile string) error {
	if profile != "" {
		file, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	server := postgrest.New(postgrest.Options{URL: url, Secret: standInSecret})
	at, err := server.Listen()
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := fmt.Println(at); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// standIn is that process.
type standIn struct {
	cmd   *osexec.Cmd
	stdin io.Closer
	url   string
}

func startStandIn(database, profile string) (*standIn, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the API: %w", err)
	}
	s := &standIn{cmd: osexec.Command(self)}
	s.cmd.Env = append(os.Environ(), standInURL+"="+database, standInProfile+"="+profile)
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		s.stdin, err = s.cmd.StdinPipe()
	}
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the API: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("start the API: %w", errors.Join(err, s.stop()))
	}
	s.url = strings.TrimSpace(line)
	return s, nil
}

func (s *standIn) stop() error {
	_ = s.stdin.Close() // it ends with that
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("stop the API: %w", err)
	}
	return nil
}

// key is that of a project whose API it is.
func (s *standIn) key() string {
	return postgrest.New(postgrest.Options{Secret: standInSecret}).Keys().Secret
}
