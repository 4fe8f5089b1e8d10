package record

import (
	"os"
	"testing"
	"time"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

var lab *peer.Lab

// The test that kills runs alone.
func TestMain(m *testing.M) { os.Exit(peer.Main(m, &lab, 4)) }

// program builds a program of this module.
func program(t testing.TB, name string) string {
	t.Helper()
	return lab.File(t, name+".exe", func(path string) {
		peer.Run(t, 5*time.Minute, "go", "build", "-C", "../../..", "-o", path, "./examples/"+name)
	})
}
