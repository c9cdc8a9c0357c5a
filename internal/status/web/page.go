package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"time"

	"github.com/walbridge/walbridge/internal/status"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageScript string
)

var page = template.Must(template.New("page").Parse(pageText))

// policy allows the page's own script and style and nothing else. The script asks
// for the page again.
var policy = "default-src 'none'; script-src " + hashOf(pageScript) + "; style-src " + hashOf(pageStyle) +
	"; connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// view is what the page shows: the state at one moment, in one language.
type view struct {
	S      status.Snapshot
	W      *words
	Style  template.CSS
	Script template.JS
	At     time.Time
	// DayLong: the history of a day is shown rather than of minutes.
	DayLong bool
	Charts  []chart

	Copying, Copied     []bar
	CopyAll             *bar
	Asked               *bar
	Reasons             []reason
	HeldUncounted       int64
	Active, Idle        []status.Table
	Tenants             []status.Tenant
	OtherTenants        int64
	Newest, OldProblems []status.Problem
}

// bar is something that is under way, a Percent of -1 when nobody can tell how far.
type bar struct {
	Name, Text string
	Percent    int64
}

// reason is how many rows are held for one reason.
type reason struct {
	Name, Fix string
	Rows      int64
	Tables    []status.Held
}

// newestErrors are shown at once, the others on demand; busiestTenants each for
// itself, the others as a sum.
const (
	newestErrors   = 3
	busiestTenants = 8
)

// writePage renders the page: everything in one answer. Without the script the
// browser loads it anew every few seconds.
func writePage(out io.Writer, w *words, n status.Snapshot, h status.History, day bool, now time.Time) error {
	v := view{
		S: n, W: w, Style: template.CSS(pageStyle), Script: template.JS(pageScript),
		At: now, DayLong: day, Charts: charts(w, &h, day, now),
		Tenants: n.Tenants, OtherTenants: n.OtherTenants, Newest: n.Problems,
	}
	if len(n.Problems) > newestErrors {
		v.Newest, v.OldProblems = n.Problems[:newestErrors], n.Problems[newestErrors:]
	}
	if len(n.Tenants) > busiestTenants {
		v.Tenants = n.Tenants[:busiestTenants]
		for _, t := range n.Tenants[busiestTenants:] {
			v.OtherTenants += t.Rows
		}
	}
	v.addCopy()
	v.addRequest()
	v.addHeld()
	for _, t := range n.Tables {
		if t.Rows+t.Held > 0 {
			v.Active = append(v.Active, t)
		} else {
			v.Idle = append(v.Idle, t)
		}
	}
	if err := page.Execute(out, &v); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

func (v *view) addCopy() {
	var done, total int64
	for i := range v.S.Copy {
		c := &v.S.Copy[i]
		b := bar{Name: c.Table, Text: v.W.Copied(c), Percent: c.Percent()}
		done, total = done+c.Done, total+max(c.Total, c.Done)
		if c.Finished {
			v.Copied = append(v.Copied, b)
		} else {
			v.Copying = append(v.Copying, b)
		}
	}
	if len(v.Copying) == 0 {
		return
	}
	all := bar{Text: fmt.Sprintf(v.W.RowsOfAbout, v.W.Number(done), v.W.Number(total)), Percent: min(99, done*100/max(1, total))}
	if v.S.CopyRate > 0 {
		all.Text = fmt.Sprintf(v.W.CopyPace, v.W.Rate(v.S.CopyRate), v.W.Age(time.Duration(v.S.CopyLeft*float64(time.Second))))
	}
	v.CopyAll = &all
}

func (v *view) addRequest() {
	r := v.S.Request
	if r == nil {
		return
	}
	b := bar{Name: v.W.Kinds[r.Kind], Percent: r.Percent()}
	if b.Name == "" {
		b.Name = r.Kind
	}
	if r.Table != "" {
		b.Text = r.Table + ": "
	}
	if step := v.W.Steps[r.Step]; step != "" {
		b.Text += step + ". "
	}
	switch all := v.W.RequestAll[r.Kind]; {
	case r.Done == 0 && r.Total == 0:
	case all != "":
		b.Text += fmt.Sprintf(all, v.W.Number(r.Done)) + "."
	default:
		b.Text += fmt.Sprintf(v.W.RequestText, v.W.Number(r.Done)) + ", " + fmt.Sprintf(v.W.RequestWritten, v.W.Number(r.Written)) + "."
	}
	v.Asked = &b
}

// addHeld sums the held rows of each reason.
func (v *view) addHeld() {
	v.HeldUncounted = v.S.Held
	at := map[string]int{}
	for _, h := range v.S.HeldBy {
		i, ok := at[h.Reason]
		if !ok {
			i = len(v.Reasons)
			at[h.Reason] = i
			v.Reasons = append(v.Reasons, reason{Name: v.W.Reasons[h.Reason], Fix: v.W.ReasonFix[h.Reason]})
		}
		v.Reasons[i].Rows += h.Rows
		v.Reasons[i].Tables = append(v.Reasons[i].Tables, h)
		v.HeldUncounted -= h.Rows
	}
}

// Behind is the lag in time.
func (v *view) Behind() string { return v.W.Age(time.Duration(v.S.LagSeconds * float64(time.Second))) }

// Ago says how long before the page was made t was.
func (v *view) Ago(t time.Time) string { return v.W.Ago(v.At, t) }

// problemView is an error in its place on the page. Over: the bridge has got over it.
type problemView struct {
	P    status.Problem
	V    *view
	Over bool
}

// Shown is how an error is shown: one that is over looks less grave.
func (v *view) Shown(p status.Problem) problemView {
	return problemView{P: p, V: v, Over: v.S.State.Ready() || v.S.LastError == nil || !p.At.Equal(v.S.LastError.At)}
}

type problemList struct {
	List []status.Problem
	V    *view
}

// Listed is a list of errors for the page.
func (v *view) Listed(list []status.Problem) problemList { return problemList{List: list, V: v} }
