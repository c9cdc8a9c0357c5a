package main

import (
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
)

// profileVar names the file that a CPU profile of the process goes to. It is no
// setting: the benchmark sets it.
const profileVar = "WALBRIDGE_CPUPROFILE="

// profiled calls f, with a profile if the environment asks for one, and returns
// environ without that wish.
func profiled(environ []string, stderr io.Writer, f func(environ []string) int) int {
	i := slices.IndexFunc(environ, func(line string) bool { return strings.HasPrefix(line, profileVar) && line != profileVar })
	if i < 0 {
		return f(environ)
	}
	path := strings.TrimPrefix(environ[i], profileVar)
	file, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "walbridge: no CPU profile: %v\n", err)
		return f(environ)
	}
	defer func() {
		pprof.StopCPUProfile()
		if err := file.Close(); err != nil {
			_, _ = fmt.Fprintf(stderr, "walbridge: no CPU profile: %v\n", err)
		}
	}()
	return f(slices.Delete(slices.Clone(environ), i, i+1))
}
