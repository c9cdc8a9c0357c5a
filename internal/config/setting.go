package config

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Setting describes one setting, for the reference and for messages.
type Setting struct {
	// Key is its place in the file: audit.unchanged.
	Key string
	// Env is its environment name, More are those that are looked at after it.
	Env  string
	More []string
	// OneOf are the values that it may have, if they can be listed.
	OneOf []string
	// Min is its least value, if it has one.
	Min string
	// Secret settings have …_FILE forms of their environment names.
	Secret bool
	Help   string

	index    []int // of the field in Config
	optional bool
}

// Settings lists all settings in the order of Config.
func Settings() []Setting { return settingsOf(reflect.TypeFor[Config](), "", nil) }

func settingsOf(t reflect.Type, prefix string, index []int) []Setting {
	var list []Setting
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "-" {
			continue
		}
		at := append(append([]int(nil), index...), i)
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[Secret]() {
			list = append(list, settingsOf(f.Type, prefix+name+".", at)...)
			continue
		}
		key := prefix + name
		list = append(list, Setting{
			Key:      key,
			Env:      "WALBRIDGE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_")),
			More:     strings.Fields(f.Tag.Get("env")),
			OneOf:    strings.Fields(f.Tag.Get("oneof")),
			Min:      f.Tag.Get("min"),
			Secret:   f.Type == reflect.TypeFor[Secret](),
			Help:     f.Tag.Get("help"),
			index:    at,
			optional: f.Tag.Get("optional") != "",
		})
	}
	return list
}

// Default returns the setting's default as the file would write it.
func (s Setting) Default() string { return s.Value(Default()) }

// Value returns what c has for the setting; of secrets only that there is one.
func (s Setting) Value(c *Config) string {
	return fmt.Sprint(reflect.ValueOf(c).Elem().FieldByIndex(s.index).Interface())
}

var namePattern = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// set reads text into the setting's field. Its errors are the rest of a sentence
// that begins with the setting's name, and never contain a secret.
func (s Setting) set(c *Config, text string) error {
	if !s.Secret && len(s.OneOf) > 0 {
		return s.setOneOf(c, text)
	}
	v := reflect.ValueOf(c).Elem().FieldByIndex(s.index)
	var err error
	switch field := v.Addr().Interface().(type) {
	case *Secret:
		*field = NewSecret(strings.TrimSpace(text))
		if n := len(field.Reveal()); s.Key == "hash.key" && n > 0 && n < 16 {
			err = errors.New("has less than 16 characters and could be guessed: openssl rand -hex 32")
		}
	case *Duration:
		*field, err = parseDuration(text)
	case *Size:
		*field, err = parseSize(text)
	case *bool:
		*field, err = parseBool(text)
	case *int:
		var n int
		if n, err = strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(text), "_", "")); err != nil {
			err = errors.New("is no whole number")
		}
		*field = n
	case *string:
		*field = strings.TrimSpace(text)
	default:
		return fmt.Errorf("has a type that no setting has: %s", v.Type())
	}
	if err != nil {
		return err
	}
	if s.Key == "listen" && c.Listen != "off" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			return errors.New("must be host:port, or off")
		}
	}
	if s.Key == "name" && !namePattern.MatchString(c.Name) {
		// The name goes into replication commands, whose grammar for slots knows
		// no other characters.
		return errors.New("must be 1 to 63 of a-z, 0-9 and _")
	}
	return s.checkMin(v)
}

func (s Setting) setOneOf(c *Config, text string) error {
	text = strings.ToLower(strings.TrimSpace(text))
	for _, allowed := range s.OneOf {
		if text == allowed {
			reflect.ValueOf(c).Elem().FieldByIndex(s.index).SetString(text)
			return nil
		}
	}
	return fmt.Errorf("must be %s", orList(s.OneOf))
}

func (s Setting) checkMin(v reflect.Value) error {
	if s.Min == "" {
		return nil
	}
	least := reflect.New(v.Type()).Elem()
	switch field := least.Addr().Interface().(type) {
	case *Duration:
		*field, _ = parseDuration(s.Min)
	case *Size:
		*field, _ = parseSize(s.Min)
	case *int:
		*field, _ = strconv.Atoi(s.Min)
	}
	if v.Int() < least.Int() {
		return fmt.Errorf("must be at least %s", s.Min)
	}
	return nil
}

// orList joins words as a sentence does.
func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// nearest returns the word that s is most likely a misspelling of, or "".
func nearest(s string, words []string) string {
	best, least := "", 3 // more than two changes are another word
	for _, w := range words {
		if d := distance(s, w); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
