package e2e

import (
	"os"
	"testing"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// lab holds the clips and programs that the tests share.
var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(peer.Main(m, &lab, 6)) }
