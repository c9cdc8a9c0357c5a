package main

import (
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"

	"github.com/walbridge/walbridge/internal/config"
)

// newLogger returns a logger to out, which is stderr: results alone go to stdout.
func newLogger(cfg config.Log, environ []string, out *os.File) *slog.Logger {
	return logTo(cfg, environ, out, isTerminal(out))
}

// logTo is newLogger where out stands for a terminal, or for none.
func logTo(cfg config.Log, environ []string, out io.Writer, terminal bool) *slog.Logger {
	level := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[cfg.Level]
	if cfg.Format == "json" || cfg.Format == "auto" && !terminal {
		return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(tint.NewTextHandler(out, &tint.Options{
		Level:      level,
		TimeFormat: time.TimeOnly,
		NoColor:    !terminal || !wantsColor(environ),
	}))
}

// isTerminal reports that somebody sits there. The null device, which a service
// manager or cron gives, is a character device, too.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// wantsColor follows no-color.org.
func wantsColor(environ []string) bool {
	for _, line := range environ {
		if line == "TERM=dumb" || len(line) > len("NO_COLOR=") && line[:len("NO_COLOR=")] == "NO_COLOR=" {
			return false
		}
	}
	return true
}
