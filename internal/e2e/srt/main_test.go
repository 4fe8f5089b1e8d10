package srt

import (
	"os"
	"testing"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

var lab *peer.Lab

func TestMain(m *testing.M) { os.Exit(peer.Main(m, &lab, 8)) }
