package storagetest_test

import (
	"fmt"
	"testing"

	"github.com/runnel-media/runnel/record"
	"github.com/runnel-media/runnel/record/storagetest"
	"github.com/runnel-media/runnel/stream"
)

// What the test of a driver does.
func ExampleRun() {
	test := func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) stream.Storage { return &record.Dir{Path: t.TempDir()} })
	}
	fmt.Printf("%T\n", test)
	// Output: func(*testing.T)
}
