package peer

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A Lab is a folder of what the tests of one run share: clips and programs,
// each made by the first test that asks for it. Open it in TestMain.
type Lab struct {
	dir string

	mu   sync.Mutex
	made map[string]*sync.Once
}

// NewLab makes the folder.
func NewLab() (*Lab, error) {
	dir, err := os.MkdirTemp("", "runnel-e2e-")
	return &Lab{dir: dir, made: map[string]*sync.Once{}}, err
}

// Main runs the tests of a package with a Lab, parallel of them at once: most of the
// time they wait for media at its own speed. It is for TestMain, and returns what to
// give to os.Exit.
func Main(m *testing.M, lab **Lab, parallel int) int {
	var err error
	if *lab, err = NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer (*lab).Close()
	if err := flag.Set("test.parallel", strconv.Itoa(parallel)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Close removes the folder.
func (l *Lab) Close() error { return os.RemoveAll(l.dir) }

// File returns the path of a shared file. The first caller produces it,
// the others wait for that.
func (l *Lab) File(t testing.TB, name string, produce func(path string)) string {
	t.Helper()
	path := filepath.Join(l.dir, name)
	l.mu.Lock()
	once := l.made[name]
	if once == nil {
		once = new(sync.Once)
		l.made[name] = once
	}
	l.mu.Unlock()
	once.Do(func() { produce(path) })
	if _, err := os.Stat(path); err != nil {
		missing(t, name) // whoever was to make it skipped or failed
	}
	return path
}

// Program builds a program of this module, such as "./examples/mediaserver",
// and returns its path. The tests' folder must be two below the module's root.
func (l *Lab) Program(t testing.TB, pkg string) string {
	t.Helper()
	return l.File(t, filepath.Base(pkg)+".exe", func(path string) {
		Run(t, 5*time.Minute, "go", "build", "-C", "../..", "-o", path, pkg)
	})
}
