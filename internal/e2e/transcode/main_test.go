package transcode

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = peer.NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lab.Close()
	// Encoders take what processors there are.
	if err := flag.Set("test.parallel", "2"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// program builds a program of this module.
func program(t testing.TB, name string) string {
	t.Helper()
	return lab.File(t, name+".exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/"+name)
	})
}
