package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/walbridge/walbridge/internal/pg"
)

// maxName is the longest name that PostgreSQL keeps whole (NAMEDATALEN - 1). It
// cuts longer ones silently, and would then find another table or none.
const maxName = 63

// checkName says what keeps a name from being one of PostgreSQL's.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("a name is empty")
	case !utf8.ValidString(name):
		return errors.New("a name is not valid UTF-8")
	case strings.ContainsRune(name, 0):
		return errors.New("a name contains a NUL byte, which no name of PostgreSQL can")
	case len(name) > maxName:
		return fmt.Errorf("the name %q has %d bytes, PostgreSQL's names have at most %d", strings.ToValidUTF8(name[:20], "")+"…", len(name), maxName)
	}
	return nil
}

// splitName takes a dotted name apart. A part may stand in double quotes, as in
// SQL, and has to if it contains a dot or begins with a quote; without them it
// is taken as it is written, whatever its case.
func splitName(text string) ([]string, error) {
	var parts []string
	for rest, more := text, true; more; {
		var part string
		var err error
		if part, rest, more, err = cutPart(rest); err != nil {
			return nil, err
		}
		if err := checkName(part); err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// cutPart cuts the first part off a dotted name; more reports a dot after it.
func cutPart(text string) (part, rest string, more bool, err error) {
	if !strings.HasPrefix(text, `"`) {
		part, rest, more = strings.Cut(text, ".")
		return part, rest, more, nil
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		if text[i] != '"' {
			b.WriteByte(text[i])
			continue
		}
		if strings.HasPrefix(text[i+1:], `"`) {
			b.WriteByte('"')
			i++
			continue
		}
		rest, more = strings.CutPrefix(text[i+1:], ".")
		if !more && rest != "" {
			return "", "", false, errors.New("a quoted name is followed by something other than a dot")
		}
		return b.String(), rest, more, nil
	}
	return "", "", false, errors.New("a quoted name has no closing quote")
}

// parseTable reads a table's name, in schema public unless it says another.
func parseTable(text string) (pg.TableName, error) {
	parts, err := splitName(text)
	if err != nil {
		return pg.TableName{}, err
	}
	switch len(parts) {
	case 1:
		return pg.TableName{Schema: "public", Name: parts[0]}, nil
	case 2:
		return pg.TableName{Schema: parts[0], Name: parts[1]}, nil
	}
	return pg.TableName{}, fmt.Errorf("a table's name has at most two parts, schema.table, not %d", len(parts))
}

// uniqueNames sorts names and drops repeated ones.
func uniqueNames(list []pg.TableName) []pg.TableName {
	slices.SortFunc(list, compareNames)
	return slices.Compact(list)
}
