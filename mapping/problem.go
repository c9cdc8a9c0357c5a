package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// Problem is one thing that is wrong with a mapping file.
type Problem struct {
	File string
	Line int
	// Path leads to the place, like tables.messages.columns[2].
	Path string
	// What is wrong, and what mends it.
	What, Fix string
	// Table is the source table that can't be followed, when it is that which is
	// wrong, and not what the file says of it.
	Table pg.TableName
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.What)
	if p.Fix != "" {
		b.WriteString("; " + p.Fix)
	}
	return b.String()
}

// pos is a place in a mapping file.
type pos struct {
	line int
	path string
}

// problems collects what is wrong with one file, so that all of it is reported
// at once.
type problems struct {
	file string
	list []*Problem
}

// add notes that something is wrong at a place; fix says what mends it.
func (p *problems) add(at pos, fix, format string, args ...any) {
	p.list = append(p.list, &Problem{
		File: p.file, Line: at.line, Path: at.path, What: fmt.Sprintf(format, args...), Fix: fix,
	})
}

// err joins the problems in the order of their lines; nil when there are none.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b *Problem) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, problem := range p.list {
		if i > 0 && *problem == *p.list[i-1] {
			continue
		}
		errs = append(errs, problem)
	}
	return errors.Join(errs...)
}

// nearest returns the known name that was probably meant, or "".
func nearest(name string, known []string) string {
	best, distance := "", 1+max(1, len(name)/4)
	for _, k := range known {
		if d := editDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts the bytes to insert, remove, replace or swap with their
// neighbour to make b of a.
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

// oneOf lists names for a message: "a, b or c".
func oneOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
