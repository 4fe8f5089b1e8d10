package turndb

import (
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if lab, err = peer.NewLab(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lab.Close()
	logging.Disable() // of databases that the tests stop
	return m.Run()
}
