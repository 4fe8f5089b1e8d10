package webrtc

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the clips that the tests share.
var lab *peer.Lab

// live is how long anything may take that happens at once on an idle machine.
const live = 40 * time.Second

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = peer.NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lab.Close()
	if err := flag.Set("test.parallel", "2"); err != nil { // browsers that code video need the processors
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
