package srt

import (
	"fmt"
	"os"
	"testing"

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
	return m.Run()
}
