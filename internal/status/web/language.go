package web

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"

	"github.com/walbridge/walbridge/internal/status"
)

// matcher prefers English where nobody asks for either.
var matcher = language.NewMatcher([]language.Tag{language.English, language.BrazilianPortuguese})

// languageOf is the language that the page is asked for: by ?lang, else by the
// browser's settings.
func languageOf(r *http.Request) *words {
	_, i := language.MatchStrings(matcher, r.URL.Query().Get("lang"), r.Header.Get("Accept-Language"))
	if i == 1 {
		return &portuguese
	}
	return &english
}

// Number renders n with its thousands set apart.
func (w *words) Number(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + w.Thousands + text[i:]
	}
	return text
}

// Count is Number for the length of a list.
func (w *words) Count(n int) string { return w.Number(int64(n)) }

// Rate renders how many of something come in a second.
func (w *words) Rate(perSecond float64) string {
	if perSecond >= 10 || perSecond == 0 {
		return w.Number(int64(perSecond + 0.5))
	}
	return w.decimal(strconv.FormatFloat(max(perSecond, 0.1), 'f', 1, 64))
}

// Bytes renders a number of bytes in its largest unit.
func (w *words) Bytes(n int64) string { return w.decimal(status.Bytes(n)) }

// Age renders a duration in its largest unit.
func (w *words) Age(d time.Duration) string { return strings.Replace(status.Age(d), "days", w.Days, 1) }

// Ago says how long before now t was.
func (w *words) Ago(now, t time.Time) string { return fmt.Sprintf(w.AgoFormat, w.Age(now.Sub(t))) }

func (w *words) decimal(text string) string { return strings.Replace(text, ".", w.Point, 1) }

// Meaning says in a sentence what the state is about.
func (w *words) Meaning(n status.Snapshot) string {
	if n.State == status.Streaming && n.LagBytes == 0 && n.LagSeconds == 0 {
		return w.Idle
	}
	return w.Meanings[n.State]
}

// Copied says how far the table is.
func (w *words) Copied(c *status.Copy) string {
	done, total := w.Number(c.Done), w.Number(c.Total)
	switch {
	case c.Finished:
		return fmt.Sprintf(w.RowsDone, done)
	case c.Estimated && c.Total <= c.Done:
		return fmt.Sprintf(w.RowsSoFar, done)
	case c.Estimated:
		return fmt.Sprintf(w.RowsOfAbout, done, total)
	}
	return fmt.Sprintf(w.RowsOf, done, total)
}
