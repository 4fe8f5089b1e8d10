package archtest

import (
	"fmt"
	"go/ast"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// checks are the rules applied: each returns what it finds wrong, one
// sentence per finding.
var checks = map[string]func(*tree) []string{
	"placed":  checkPlaced,
	"layers":  checkLayers,
	"modules": checkModules,
	"apart":   checkApart,
	"bans":    checkBans,
	"length":  checkLength,
}

func TestArchitecture(t *testing.T) {
	tr := load(t, os.DirFS("../.."))
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			for _, finding := range check(tr) {
				t.Error(finding)
			}
		})
	}
}

// TestRules: no package and no module is written down twice.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range places {
		require.False(t, seen[p.path], p.path)
		seen[p.path] = true
	}
	for _, m := range modules {
		require.False(t, seen[m.path], m.path)
		seen[m.path] = true
	}
}

// checkPlaced: every package has a place in the rules.
func checkPlaced(tr *tree) (findings []string) {
	for _, dir := range tr.dirs() {
		if _, ok := placeOf(dir); !ok {
			findings = append(findings, fmt.Sprintf("%s is in no layer: give it a place in internal/archtest/rules_test.go", dir))
		}
	}
	return findings
}

// checkLayers: shipped code imports from lower layers, or what its place
// allows beside it. Tests are free, but nobody imports a host, and only the
// harness the harness.
func checkLayers(tr *tree) (findings []string) {
	for _, dir := range tr.dirs() {
		here, _ := placeOf(dir)
		for _, f := range tr.packages[dir] {
			for imported := range f.imports {
				target, ok := tr.inside(imported)
				if !ok || target == dir {
					continue
				}
				there, ok := placeOf(target)
				if !ok {
					continue // checkPlaced tells
				}
				switch {
				case there.layer >= host && !matchAny(here.also, target):
					findings = append(findings, fmt.Sprintf("%s imports %s, which is of the layer %q: nobody may", f, target, there.layer))
				case f.test || there.layer < here.layer || matchAny(here.also, target):
				case there.layer == here.layer:
					findings = append(findings, fmt.Sprintf("%s imports %s sideways: both are of the layer %q", f, target, here.layer))
				default:
					findings = append(findings, fmt.Sprintf("%s (layer %q) imports %s (layer %q) upward", f, here.layer, target, there.layer))
				}
			}
		}
	}
	return findings
}

// checkModules: third-party modules are on the list and used in their layers.
func checkModules(tr *tree) (findings []string) {
	for _, dir := range tr.dirs() {
		here, _ := placeOf(dir)
		for _, f := range tr.packages[dir] {
			for imported := range f.imports {
				first, _, _ := strings.Cut(imported, "/")
				if _, ok := tr.inside(imported); ok || !strings.Contains(first, ".") {
					continue
				}
				i := slices.IndexFunc(modules, func(m module) bool { return match(m.path+"/...", imported) })
				if i < 0 {
					findings = append(findings, fmt.Sprintf("%s imports %s, which is not on the list of modules", f, imported))
				} else if !f.test && here.layer != harness && !slices.Contains(modules[i].layers, here.layer) {
					findings = append(findings, fmt.Sprintf("%s imports %s, which the layer %q may do in tests only", f, imported, here.layer))
				}
			}
		}
	}
	return findings
}

// checkApart: neither side of a pair links the other.
func checkApart(tr *tree) (findings []string) {
	for _, pair := range aparts {
		for _, dir := range tr.dirs() {
			if !matchAny(pair.these, dir) {
				continue
			}
			for linked, by := range tr.links(dir) {
				if matchAny(pair.those, linked) {
					findings = append(findings, fmt.Sprintf("%s links %s (through %s): a host that imports the one must not get the other", dir, linked, by))
				}
			}
		}
	}
	return findings
}

// checkBans: banned names and packages are not used.
func checkBans(tr *tree) (findings []string) {
	for _, b := range bans {
		for _, dir := range tr.dirs() {
			here, _ := placeOf(dir)
			if slices.Contains(b.except, here.layer) {
				continue
			}
			for _, f := range tr.packages[dir] {
				local, ok := f.imports[b.pkg]
				if !ok || f.test && !b.tests {
					continue
				}
				for _, name := range b.used(f, local) {
					findings = append(findings, fmt.Sprintf("%s uses %s: %s", f, name, b.why))
				}
			}
		}
	}
	return findings
}

// used returns the banned names that a file uses of a package it calls local.
func (b ban) used(f *file, local string) (names []string) {
	if b.names == nil {
		return []string{b.pkg}
	}
	if local == "." {
		return []string{"a dot import of " + b.pkg}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if ok && x.Name == local && slices.ContainsFunc(b.names, func(pattern string) bool {
			prefix, open := strings.CutSuffix(pattern, "*")
			return sel.Sel.Name == pattern || open && strings.HasPrefix(sel.Sel.Name, prefix)
		}) {
			names = append(names, b.pkg+"."+sel.Sel.Name)
		}
		return true
	})
	return names
}

// checkLength: no file of shipped code is too long to read at once.
func checkLength(tr *tree) (findings []string) {
	for _, dir := range tr.dirs() {
		for _, f := range tr.shipped(dir) {
			if f.lines > maxLines {
				findings = append(findings, fmt.Sprintf("%s has %d lines, %d are allowed: split it by concept", f, f.lines, maxLines))
			}
		}
	}
	return findings
}

// TestChecksFire breaks each rule in a tree made up for it: a check that finds
// nothing in the real tree must be able to find something.
func TestChecksFire(t *testing.T) {
	const mod = "example.test/m"
	for _, c := range []struct {
		name, check string
		files       map[string]string // path to body after the package clause
		want        []string          // one finding each, in order of their files
	}{
		{"clean", "layers", map[string]string{
			"stream/a.go":            `import "` + mod + `/internal/h264"`,
			"internal/h264/a.go":     ``,
			"internal/rtmp/a.go":     `import "` + mod + `/stream"`,
			"ingest/whip/a.go":       `import "` + mod + `/ingest"`,
			"ingest/a.go":            `import "` + mod + `/internal/rtmp"`,
			"ingest/a_test.go":       `import "` + mod + `/deliver"`,
			"deliver/a.go":           ``,
			"internal/e2e/a_test.go": `import "` + mod + `/internal/e2e/peer"`,
			"internal/e2e/peer/a.go": ``,
		}, nil},
		{"upward", "layers", map[string]string{
			"stream/a.go":        `import "` + mod + `/internal/rtmp"`,
			"internal/rtmp/a.go": ``,
		}, []string{`stream/a.go (layer "vocabulary") imports internal/rtmp (layer "engine") upward`}},
		{"sideways", "layers", map[string]string{
			"ingest/a.go":  `import "` + mod + `/deliver"`,
			"deliver/a.go": ``,
		}, []string{`ingest/a.go imports deliver sideways`}},
		{"host imported", "layers", map[string]string{
			"internal/e2e/a_test.go":    `import "` + mod + `/examples/mediaserver"`,
			"examples/mediaserver/a.go": ``,
		}, []string{`internal/e2e/a_test.go imports examples/mediaserver`}},
		{"harness imported", "layers", map[string]string{
			"stream/a_test.go":       `import "` + mod + `/internal/e2e/peer"`,
			"internal/e2e/peer/a.go": ``,
		}, []string{`stream/a_test.go imports internal/e2e/peer`}},
		{"unknown package", "placed", map[string]string{"util/a.go": ``}, []string{`util is in no layer`}},
		{"extension is placed by pattern", "placed", map[string]string{"auth/sqlauth/a.go": ``, "examples/x/y/a.go": ``}, nil},
		{"unknown module", "modules", map[string]string{
			"stream/a_test.go": `import "example.org/other"`,
		}, []string{`stream/a_test.go imports example.org/other, which is not on the list`}},
		{"test module shipped", "modules", map[string]string{
			"stream/a.go":            `import "github.com/stretchr/testify/require"`,
			"stream/a_test.go":       `import "github.com/stretchr/testify/require"`,
			"internal/e2e/peer/a.go": `import "github.com/stretchr/testify/require"`,
		}, []string{`stream/a.go imports github.com/stretchr/testify/require, which the layer "vocabulary" may do in tests only`}},
		{"turn links media through another", "apart", map[string]string{
			"turn/a.go":         `import "` + mod + `/internal/udp"`,
			"internal/udp/a.go": `import "` + mod + `/stream"`,
			"stream/a.go":       ``,
		}, []string{`turn links stream (through internal/udp)`}},
		{"media links turn", "apart", map[string]string{
			"turn/a.go":   ``,
			"stream/a.go": `import "` + mod + `/turn"`,
		}, []string{`stream links turn (through stream)`}},
		{"dialing client", "bans", map[string]string{
			"stun/a_test.go": `import "github.com/pion/stun/v2"; var c, _ = stun.Dial("udp", ""); var m stun.Message`,
			"stun/b.go":      `import s "github.com/pion/stun/v2"; var c = s.DialURI; var n = s.NewClient`,
			"stun/c.go":      `import . "github.com/pion/stun/v2"`,
		}, []string{
			`stun/a_test.go uses github.com/pion/stun/v2.Dial:`,
			`stun/b.go uses github.com/pion/stun/v2.DialURI:`,
			`stun/b.go uses github.com/pion/stun/v2.NewClient:`,
			`stun/c.go uses a dot import`,
		}},
		{"prints", "bans", map[string]string{
			"stream/a.go":           `import "log"; var _ = log.Default()`,
			"stream/b.go":           `import "fmt"; func f() { fmt.Println(fmt.Sprint()) }`,
			"stream/c_test.go":      `import "fmt"; func f() { fmt.Println() }`,
			"examples/minimal/a.go": `import ("fmt"; "log"); func f() { fmt.Println(); log.Print() }`,
		}, []string{`stream/a.go uses log:`, `stream/b.go uses fmt.Println:`}},
		{"long file", "length", map[string]string{
			"stream/a.go":      strings.Repeat("\n", maxLines+1),
			"stream/a_test.go": strings.Repeat("\n", maxLines+1),
		}, []string{`stream/a.go has 502 lines`}},
		{"what the go command ignores", "placed", map[string]string{
			"stream/a.go": ``, "stream/testdata/x/a.go": ``, "_old/a.go": ``, ".cache/a.go": ``, "node_modules/x/a.go": ``,
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := fstest.MapFS{"go.mod": {Data: []byte("module " + mod + "\n")}}
			for name, body := range c.files {
				fsys[name] = &fstest.MapFile{Data: []byte("package p\n" + body)}
			}
			findings := checks[c.check](load(t, fsys))
			slices.Sort(findings)
			require.Len(t, findings, len(c.want), "%q", findings)
			for i, want := range c.want {
				require.Contains(t, findings[i], want)
			}
		})
	}
}
