package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A tree is the parsed source of a module, files of every platform included:
// build constraints are not looked at, so that each machine sees the same.
type tree struct {
	module   string
	packages map[string][]*file // by directory below the root, "." is the root
}

type file struct {
	dir, name string
	test      bool
	lines     int
	syntax    *ast.File
	imports   map[string]string // path to the name it has in the file
}

func (f *file) String() string { return path.Join(f.dir, f.name) }

// load parses every Go file below the root. Folders that the go command
// ignores and modules of their own are left out.
func load(t testing.TB, fsys fs.FS) *tree {
	mod, err := fs.ReadFile(fsys, "go.mod")
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(mod), "\n")
	tr := &tree{module: strings.TrimSpace(strings.TrimPrefix(line, "module ")), packages: map[string][]*file{}}

	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(p)
		hidden := p != "." && (base[0] == '.' || base[0] == '_')
		if d.IsDir() {
			_, err := fs.Stat(fsys, path.Join(p, "go.mod"))
			if hidden || base == "testdata" || base == "vendor" || base == "node_modules" || (p != "." && err == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if hidden || path.Ext(p) != ".go" {
			return nil
		}
		src, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), p, src, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f := &file{
			dir: path.Dir(p), name: base, test: strings.HasSuffix(base, "_test.go"),
			lines: bytes.Count(src, []byte("\n")), syntax: syntax, imports: map[string]string{},
		}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports[imported] = localName(spec, imported)
		}
		tr.packages[f.dir] = append(tr.packages[f.dir], f)
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, tr.packages)
	return tr
}

// localName returns the name that a file uses for an import. Without the
// imported package's source that is a guess, right for every module listed.
func localName(spec *ast.ImportSpec, imported string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	base := path.Base(imported)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(imported))
	}
	return base
}

// inside returns the directory of an import of the module itself.
func (tr *tree) inside(imported string) (dir string, ok bool) {
	if imported == tr.module {
		return ".", true
	}
	return strings.CutPrefix(imported, tr.module+"/")
}

// dirs returns the directories of all packages in order.
func (tr *tree) dirs() []string {
	dirs := make([]string, 0, len(tr.packages))
	for dir := range tr.packages {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs
}

// shipped returns the files of a package that are not tests.
func (tr *tree) shipped(dir string) []*file {
	return slices.DeleteFunc(slices.Clone(tr.packages[dir]), func(f *file) bool { return f.test })
}

// links returns every package of the module that dir's shipped code links,
// itself included, each with the package through which it came.
func (tr *tree) links(dir string) map[string]string {
	linked := map[string]string{dir: ""}
	for todo := []string{dir}; len(todo) > 0; todo = todo[1:] {
		for _, f := range tr.shipped(todo[0]) {
			for imported := range f.imports {
				next, ok := tr.inside(imported)
				if _, seen := linked[next]; ok && !seen {
					linked[next] = todo[0]
					todo = append(todo, next)
				}
			}
		}
	}
	return linked
}

// match reports whether dir is the pattern, or below it where the pattern
// ends in "/...".
func match(pattern, dir string) bool {
	root, deep := strings.CutSuffix(pattern, "/...")
	return dir == root || deep && strings.HasPrefix(dir, root+"/")
}

func matchAny(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, dir) })
}

// placeOf returns the place of a directory: its own, else that of the longest
// pattern which covers it.
func placeOf(dir string) (found place, ok bool) {
	for _, p := range places {
		if p.path == dir {
			return p, true
		}
		if match(p.path, dir) && len(p.path) > len(found.path) {
			found, ok = p, true
		}
	}
	return found, ok
}
