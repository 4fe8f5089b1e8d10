package turndb

import (
	"os"
	"testing"

	"github.com/redis/go-redis/v9/logging"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) {
	logging.Disable() // of databases that the tests stop
	os.Exit(peer.Main(m, &lab, 2))
}
