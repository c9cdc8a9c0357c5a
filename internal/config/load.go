package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
)

// Input is where settings come from. Flags go before the environment, the
// environment before the file, the file before the defaults.
type Input struct {
	// File is the configuration file that a flag named; empty for
	// WALBRIDGE_CONFIG, and without that for none.
	File string
	// Flags are settings by key that the command line gave.
	Flags map[string]string
	// Environ is the environment as os.Environ returns it.
	Environ []string
	// Mapping is used when the file has no tables.
	Mapping Mapping
}

const settingsHint = "docs/configuration.md lists every setting"

// Load reads all settings. Every mistake is reported, not only the first; the
// error is of class fault.Config.
func Load(in Input) (*Config, error) {
	env := environment(in.Environ)
	path := in.File
	if path == "" {
		path = env["WALBRIDGE_CONFIG"]
	}
	c := Default()
	c.Mapping = in.Mapping
	c.from, c.files = map[string]string{}, map[string]string{}

	given := map[string]bool{} // keys that the file sets
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fault.Wrap(fault.Config, "check --config and WALBRIDGE_CONFIG", fmt.Errorf("read configuration: %w", err))
		}
		if given, err = c.readFile(path, data); err != nil {
			return nil, fault.Wrap(fault.Config, settingsHint, err)
		}
		c.warnReadable(path, given)
	}
	err := errors.Join(c.readEnvironment(env, given), c.readFlags(in.Flags))
	if err != nil {
		return nil, fault.Wrap(fault.Config, settingsHint, err)
	}
	return c, nil
}

// environment makes a map of it. A variable that is set to nothing counts as not
// set: compose files pass ${NAME:-} on like that.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, line := range environ {
		if name, value, ok := strings.Cut(line, "="); ok && value != "" {
			env[name] = value
		}
	}
	return env
}

func (c *Config) readFlags(flags map[string]string) error {
	var errs []error
	for _, s := range Settings() {
		if value, ok := flags[s.Key]; ok {
			if err := s.set(c, value); err != nil {
				errs = append(errs, fmt.Errorf("--%s %w", strings.NewReplacer(".", "-", "_", "-").Replace(s.Key), err))
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Config) readEnvironment(env map[string]string, given map[string]bool) error {
	var errs []error
	known := []string{"WALBRIDGE_CONFIG"}
	for _, s := range Settings() {
		names := append([]string{s.Env}, s.More...)
		known = append(known, s.Env)
		if s.Secret {
			known = append(known, s.Env+"_FILE")
		}
		name, value, err := lookup(env, names, s.Secret)
		if err == nil && name != "" {
			if given[s.Key] && !strings.HasPrefix(name, s.Env) {
				c.Warnings = append(c.Warnings, fmt.Sprintf("%s from the environment goes before %s of the file", name, s.Key))
			}
			if err = s.set(c, value); err != nil {
				err = fmt.Errorf("%s %w", name, err)
			}
			c.from[s.Key] = name
			if s.Secret && strings.HasSuffix(name, "_FILE") {
				c.files[s.Key] = env[name]
			}
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	c.warnUnknown(env, known)
	return errors.Join(errs...)
}

// lookup returns the first of names that is set, itself or by a file. A file's
// last line break belongs to the editor that wrote it, not to the secret.
func lookup(env map[string]string, names []string, secret bool) (name, value string, err error) {
	for _, name := range names {
		value, direct := env[name]
		path, byFile := env[name+"_FILE"]
		if !secret {
			byFile = false
		}
		switch {
		case direct && byFile:
			return "", "", fmt.Errorf("%s and %s_FILE are both set: keep one", name, name)
		case direct:
			return name, value, nil
		case byFile:
			text, err := readSecret(path)
			if err != nil {
				return "", "", fmt.Errorf("%s_FILE: %w", name, err)
			}
			return name + "_FILE", text, nil
		}
	}
	return "", "", nil
}

// readSecret returns what a file holds.
func readSecret(path string) (string, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w: user %d, as whom the bridge runs, must be able to read it (chown %[2]d, or chmod o+r)", err, os.Getuid())
	case errors.Is(err, syscall.EISDIR):
		// Docker makes one, of the name on the host, where there is no file to mount.
		return "", fmt.Errorf("%w: a container gets a directory where its host has no such file: remove it there and write the file", err)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: write the URL, key or password into that file, or name the file that has it", err)
	case err != nil:
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// UseAdmin replaces the URL of one side by what a file holds, that of a role with
// more rights. A flag names the file, because arguments are there for all to see.
func (c *Config) UseAdmin(side pg.Side, flag, path string) error {
	text, err := readSecret(path)
	if err != nil {
		return fault.Wrap(fault.Config, "the file holds one URL and nothing else", fmt.Errorf("%s: %w", flag, err))
	}
	c.api = c.api || side == pg.Target && c.ByAPI()
	url := map[pg.Side]*Secret{pg.Source: &c.Source.URL, pg.Target: &c.Target.URL}[side]
	*url = NewSecret(text)
	c.from[side.String()+".url"] = flag
	return nil
}

// warnUnknown points at misspelt variables. They are no errors, because others
// set variables of that prefix, too: Kubernetes does for a service of that name.
func (c *Config) warnUnknown(env map[string]string, known []string) {
	var names []string
	for name := range env {
		if !strings.HasPrefix(name, "WALBRIDGE_") || slices.Contains(known, name) ||
			strings.HasPrefix(name, "WALBRIDGE_SERVICE_") || strings.HasPrefix(name, "WALBRIDGE_PORT") {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		text := fmt.Sprintf("%s is no setting and has no effect", name)
		if near := nearest(name, known); near != "" {
			text += fmt.Sprintf("; %s is one", near)
		}
		c.Warnings = append(c.Warnings, text)
	}
}

// warnReadable points at a file with a password in it that everybody may read.
func (c *Config) warnReadable(path string, given map[string]bool) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return
	}
	for _, s := range Settings() {
		if s.Secret && given[s.Key] {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s holds a secret (%s) and everybody may read it: chmod 600 %s", path, s.Key, path))
			return
		}
	}
}
