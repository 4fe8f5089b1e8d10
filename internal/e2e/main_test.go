package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the clips and programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = peer.NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lab.Close()
	// Most of the time the tests wait for media at its own speed.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
