package mapping

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/walbridge/walbridge/configs"
)

var update = flag.Bool("update", false, "rewrite the expected errors in testdata")

// errorCases runs each .yaml file of an archive. The comment lines at its top
// that begin with "#!" are the errors that it must give, all of them and in this
// order; a file without any must be good.
func errorCases(t *testing.T, archive string, run func(t *testing.T, name string, data []byte) error) {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range a.Files {
		if !strings.HasSuffix(f.Name, ".yaml") {
			continue
		}
		t.Run(strings.TrimSuffix(f.Name, ".yaml"), func(t *testing.T) {
			want, body := splitErrors(f.Data)
			// The errors' own lines don't count, so that -update can't move them.
			got := ""
			if err := run(t, f.Name, body); err != nil {
				got = err.Error() + "\n"
			}
			if *update {
				a.Files[i].Data = append(commentErrors(got), body...)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(archive, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func splitErrors(data []byte) (want string, body []byte) {
	for {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		text, ok := bytes.CutPrefix(line, []byte("#! "))
		if !ok {
			return want, data
		}
		want += string(text) + "\n"
		data = rest
	}
}

func commentErrors(errs string) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(errs) {
		b.WriteString("#! " + line)
	}
	return b.Bytes()
}

func TestParse_Errors(t *testing.T) {
	errorCases(t, "testdata/parse.txtar", func(_ *testing.T, name string, data []byte) error {
		_, err := Parse(name, data)
		return err
	})
}

func TestParse_Presets(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(configs.Files, "*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("got %d presets and error %v, want at least 3", len(files), err)
	}
	for _, name := range files {
		data, err := configs.Read(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(name, data); err != nil {
			t.Errorf("%v", err)
		}
	}
}

// FuzzParse: no input makes Parse panic, and every error names the file.
func FuzzParse(f *testing.F) {
	files, err := fs.Glob(configs.Files, "*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := configs.Read(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	a, err := txtar.ParseFile("testdata/parse.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range a.Files {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("m.yaml", data)
		switch {
		case err == nil && len(file.tables) == 0:
			t.Error("a file without tables was taken")
		case err != nil && !strings.HasPrefix(err.Error(), "m.yaml:"):
			t.Errorf("the error has no place: %v", err)
		}
	})
}

func TestSplitName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want []string
		bad  bool
	}{
		{text: "id", want: []string{"id"}},
		{text: "contact.avatar", want: []string{"contact", "avatar"}},
		{text: `"Order"."a.b"`, want: []string{"Order", "a.b"}},
		{text: `a"b`, want: []string{`a"b`}},
		{text: `"a""b".c`, want: []string{`a"b`, "c"}},
		{text: "ação.select", want: []string{"ação", "select"}},
		{text: "x; drop table y --", want: []string{"x; drop table y --"}},
		{text: strings.Repeat("n", 63), want: []string{strings.Repeat("n", 63)}},
		{text: strings.Repeat("n", 64), bad: true},
		{text: "", bad: true},
		{text: "a..b", bad: true},
		{text: "a.", bad: true},
		{text: `"a`, bad: true},
		{text: `"a"b`, bad: true},
		{text: "a\x00b", bad: true},
		{text: "a\xffb", bad: true},
	} {
		got, err := splitName(tt.text)
		if (err != nil) != tt.bad {
			t.Errorf("splitName(%q): error %v, want one: %v", tt.text, err, tt.bad)
		}
		if !tt.bad && cmp.Diff(tt.want, got) != "" {
			t.Errorf("splitName(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

// A name that is too long is cut between characters where it is shown.
func TestCheckName_Cut(t *testing.T) {
	err := checkName("x" + strings.Repeat("ç", 32))
	if err == nil || !strings.Contains(err.Error(), `the name "xççççççççç…" has 65 bytes`) {
		t.Errorf("checkName = %v", err)
	}
}
