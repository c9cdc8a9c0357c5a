// Package sbom says what a Go program is made of, as a CycloneDX 1.5 document.
// Everything is read from the program itself and from the module cache, so the same
// program gives the same document.
package sbom

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Document is a bill of materials: https://cyclonedx.org/docs/1.5/json/.
type Document struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     Metadata     `json:"metadata"`
	Components   []Component  `json:"components"`
	Dependencies []Dependency `json:"dependencies"`
}

// Metadata describes the program.
type Metadata struct {
	Timestamp string    `json:"timestamp"`
	Component Component `json:"component"`
}

// Component is the program, a module, or Go's standard library.
type Component struct {
	Ref      string    `json:"bom-ref"`
	Type     string    `json:"type"`
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Scope    string    `json:"scope,omitempty"`
	Hashes   []Hash    `json:"hashes,omitempty"`
	Licenses []License `json:"licenses,omitempty"`
	PURL     string    `json:"purl"`
}

// Hash is the SHA-256 of the program, or what go.sum has of a module: the SHA-256 of
// the sums of its files (golang.org/x/mod/sumdb/dirhash), here in hexadecimal.
type Hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

// License holds an SPDX identifier.
type License struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

// Dependency says what a component needs. The program names all modules: which of them
// needs which is not in it.
type Dependency struct {
	Ref     string   `json:"ref"`
	Depends []string `json:"dependsOn,omitempty"`
}

// Of describes the program at path, whose own version is version. made is the time
// that the document bears. license returns the SPDX identifier of a module's license,
// or "" if it doesn't know it.
func Of(path, version string, made time.Time, license func(module debug.Module) string) (*Document, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read what %s is made of: %w", path, err)
	}
	sum, err := sumOf(path)
	if err != nil {
		return nil, err
	}
	platform := ""
	for _, s := range info.Settings {
		if s.Key == "GOOS" || s.Key == "GOARCH" {
			platform += "&" + strings.ToLower(s.Key) + "=" + s.Value
		}
	}
	program := component("application", info.Main.Path, version, sum)
	program.PURL += strings.Replace(platform, "&", "?", 1)
	program.Ref = program.PURL
	program.licensed(license(info.Main))
	d := &Document{
		Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		Serial:   "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceURL, []byte(program.Ref+"#"+sum)).String(),
		Metadata: Metadata{Timestamp: made.UTC().Format(time.RFC3339), Component: program},
	}
	std := component("library", "std", strings.TrimPrefix(info.GoVersion, "go"), "")
	std.licensed("BSD-3-Clause")
	d.Components = append(d.Components, std)
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		sum, err := sumIn(m)
		if err != nil {
			return nil, err
		}
		c := component("library", m.Path, m.Version, sum)
		c.licensed(license(*m))
		d.Components = append(d.Components, c)
	}
	slices.SortFunc(d.Components, func(a, b Component) int { return cmp.Compare(a.Ref, b.Ref) })
	all := Dependency{Ref: program.Ref}
	for _, c := range d.Components {
		all.Depends = append(all.Depends, c.Ref)
		d.Dependencies = append(d.Dependencies, Dependency{Ref: c.Ref})
	}
	d.Dependencies = append([]Dependency{all}, d.Dependencies...)
	return d, nil
}

// component returns one whose package URL follows the purl specification's type
// golang.
func component(kind, name, version, sum string) Component {
	purl := "pkg:golang/" + strings.ToLower(name)
	if version != "" {
		purl += "@" + strings.ReplaceAll(version, "+", "%2B")
	}
	c := Component{Ref: purl, Type: kind, Name: name, Version: version, PURL: purl}
	if kind == "library" {
		c.Scope = "required"
	}
	if sum != "" {
		c.Hashes = []Hash{{Algorithm: "SHA-256", Content: sum}}
	}
	return c
}

func (c *Component) licensed(id string) {
	if id != "" {
		var l License
		l.License.ID = id
		c.Licenses = []License{l}
	}
}

// sumIn returns the sum of go.sum in hexadecimal, "" for a module without one, which
// is a directory.
func sumIn(m *debug.Module) (string, error) {
	encoded, ok := strings.CutPrefix(m.Sum, "h1:")
	if !ok {
		return "", nil
	}
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("sum of %s: %w", m.Path, err)
	}
	return hex.EncodeToString(sum), nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
