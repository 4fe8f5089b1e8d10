package apitest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const modulePath = "github.com/runnel-media/runnel"

var update = flag.Bool("update", false, "rewrite the golden files of the exported API")

// TestAPI compares the exported API of each public package with its golden
// file, and the set of golden files with the set of packages.
func TestAPI(t *testing.T) {
	golden := map[string]bool{}
	for _, p := range publicPackages(t) {
		name := goldenName(p.ImportPath)
		golden[name] = true
		t.Run(strings.TrimSuffix(name, ".txt"), func(t *testing.T) {
			got := apiText(t, p)
			file := filepath.Join("testdata", name)
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(file, got, 0o644))
				return
			}
			want, err := os.ReadFile(file)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if d := diff(string(want), string(got)); d != "" {
				t.Errorf("the exported API of %s is not what testdata/%s says (- golden, + source):\n%s"+
					"If the change is meant: go test ./internal/apitest -update", p.ImportPath, name, d)
			}
		})
	}
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	for _, file := range files {
		if golden[filepath.Base(file)] {
			continue
		}
		if *update {
			require.NoError(t, os.Remove(file))
		} else {
			t.Errorf("%s is of no public package. If that is meant: go test ./internal/apitest -update", file)
		}
	}
}

// TestDocumented asks every public package for a package comment, a comment
// on each exported name and an Example that go test runs.
func TestDocumented(t *testing.T) {
	for _, p := range publicPackages(t) {
		t.Run(strings.TrimSuffix(goldenName(p.ImportPath), ".txt"), func(t *testing.T) {
			pkg := p.load(t)
			if pkg.Doc == "" {
				t.Error("no package comment")
			}
			for _, name := range undocumented(pkg) {
				t.Errorf("%s has no comment", name)
			}
			runnable := 0
			for _, e := range doc.Examples(p.parse(t, append(p.TestGoFiles, p.XTestGoFiles...))...) {
				if e.Output != "" || e.EmptyOutput {
					runnable++
				}
			}
			if runnable == 0 {
				t.Error("no Example with an Output comment")
			}
		})
	}
}

// A source is one public package, as it is built for Linux: the golden files
// are the same on every machine.
type source struct {
	*build.Package
	fset *token.FileSet
}

// publicPackages finds every package of the module that another module can
// import and use: not internal, not a program.
func publicPackages(t *testing.T) (found []source) {
	const root = "../.."
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled = "linux", "amd64", false
	require.NoError(t, fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dir, base := filepath.Join(root, p), path.Base(p)
		_, err = os.Stat(filepath.Join(dir, "go.mod"))
		if p != "." && (base[0] == '.' || base[0] == '_' || base == "internal" || base == "examples" ||
			base == "testdata" || base == "node_modules" || err == nil) {
			return fs.SkipDir
		}
		pkg, err := ctx.ImportDir(dir, 0)
		if noGo := (*build.NoGoError)(nil); errors.As(err, &noGo) && len(pkg.TestGoFiles)+len(pkg.XTestGoFiles) == 0 {
			return nil
		} else if err != nil {
			return err
		}
		if pkg.Name == "main" {
			return nil
		}
		pkg.ImportPath = path.Join(modulePath, p)
		found = append(found, source{pkg, token.NewFileSet()})
		return nil
	}))
	require.NotEmpty(t, found)
	return found
}

func (p source) parse(t *testing.T, names []string) (files []*ast.File) {
	for _, name := range names {
		f, err := parser.ParseFile(p.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		require.NoError(t, err)
		files = append(files, f)
	}
	return files
}

func (p source) load(t *testing.T) *doc.Package {
	pkg, err := doc.NewFromFiles(p.fset, p.parse(t, p.GoFiles), p.ImportPath)
	require.NoError(t, err)
	return pkg
}

// goldenName is "stream-streamtest.txt" for the package stream/streamtest.
func goldenName(importPath string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(importPath, modulePath), "/")
	if name == "" {
		name = path.Base(modulePath)
	}
	return strings.ReplaceAll(name, "/", "-") + ".txt"
}

// apiText is the package's exported declarations without comments, in the
// order of go doc: constants and variables, functions, then each type with
// its own constants, functions and methods.
func apiText(t *testing.T, p source) []byte {
	pkg := p.load(t)
	var b bytes.Buffer
	fmt.Fprintf(&b, "package %s // import %q\n", pkg.Name, p.ImportPath)
	decl := func(d ast.Decl) {
		ast.Inspect(d, dropComments)
		b.WriteByte('\n')
		require.NoError(t, (&printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}).Fprint(&b, p.fset, d))
		b.WriteByte('\n')
	}
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			decl(v.Decl)
		}
	}
	funcs := func(fs []*doc.Func) {
		for _, f := range fs {
			f.Decl.Body = nil
			decl(f.Decl)
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	funcs(pkg.Funcs)
	for _, typ := range pkg.Types {
		decl(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	return b.Bytes()
}

func dropComments(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GenDecl:
		n.Doc = nil
	case *ast.FuncDecl:
		n.Doc = nil
	case *ast.TypeSpec:
		n.Doc, n.Comment = nil, nil
	case *ast.ValueSpec:
		n.Doc, n.Comment = nil, nil
	case *ast.Field:
		n.Doc, n.Comment = nil, nil
	}
	return true
}

// undocumented lists the exported names that no comment speaks of. Names in a
// group of constants or variables may share the group's comment.
func undocumented(pkg *doc.Package) (names []string) {
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			for _, spec := range v.Decl.Specs {
				if s := spec.(*ast.ValueSpec); v.Doc == "" && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Names[0].Name)
				}
			}
		}
	}
	funcs := func(prefix string, fs []*doc.Func) {
		for _, f := range fs {
			if f.Doc == "" {
				names = append(names, prefix+f.Name)
			}
		}
	}
	values(pkg.Consts)
	values(pkg.Vars)
	funcs("", pkg.Funcs)
	for _, typ := range pkg.Types {
		if typ.Doc == "" {
			names = append(names, typ.Name)
		}
		values(typ.Consts)
		values(typ.Vars)
		funcs("", typ.Funcs)
		funcs(typ.Name+".", typ.Methods)
	}
	return names
}

// diff returns the lines that only one text has, "" if they are equal.
func diff(a, b string) string {
	if a == b {
		return ""
	}
	as, bs := strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n")
	// The longest common subsequence, by the textbook: API texts are short.
	lcs := make([][]int, len(as)+1)
	for i := range lcs {
		lcs[i] = make([]int, len(bs)+1)
	}
	for i := len(as) - 1; i >= 0; i-- {
		for j := len(bs) - 1; j >= 0; j-- {
			if as[i] == bs[j] {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(as) || j < len(bs); {
		switch {
		case i < len(as) && j < len(bs) && as[i] == bs[j]:
			i, j = i+1, j+1
		case j == len(bs) || i < len(as) && lcs[i+1][j] >= lcs[i][j+1]:
			fmt.Fprintf(&out, "- %s", as[i])
			i++
		default:
			fmt.Fprintf(&out, "+ %s", bs[j])
			j++
		}
	}
	return out.String()
}

func TestDiff(t *testing.T) {
	require.Empty(t, diff("a\nb\n", "a\nb\n"))
	require.Equal(t, "- b\n+ x\n+ y\n", diff("a\nb\nc\n", "a\nx\ny\nc\n"))
	require.Equal(t, "+ a\n", diff("", "a\n"))
}
