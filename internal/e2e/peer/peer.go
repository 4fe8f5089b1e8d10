// Package peer finds, starts and judges the programs that end-to-end tests
// talk to, and makes the media that they send.
package peer

import (
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Need returns the path of a program. Without it the test is skipped, or
// fails where RUNNEL_E2E=1 says that every peer must be there.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, program)
	}
	return path
}

// NodeModule returns the path of a file of an npm package, such as
// "mpegts.js/dist/mpegts.js", where scripts/install-peers.sh puts it.
func NodeModule(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(cacheDir(), "node_modules", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		missing(t, name)
	}
	return path
}

// Built returns the path of a program that scripts/install-peers.sh builds, since no
// system has a package of it.
func Built(t testing.TB, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	path := filepath.Join(cacheDir(), "bin", program)
	if _, err := os.Stat(path); err != nil {
		missing(t, program)
	}
	return path
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("RUNNEL_E2E") == "1" {
		t.Fatalf("%s is missing and RUNNEL_E2E=1: make peers installs it", what)
	}
	t.Skipf("%s is missing: make peers installs it", what)
}

// cacheDir is the folder that scripts/install-peers.sh works out the same way.
func cacheDir() string {
	if dir := os.Getenv("RUNNEL_PEERS"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "runnel-peers")
	}
	home, _ := os.UserHomeDir() // without one the folder is not found, which is the answer
	return filepath.Join(home, ".cache", "runnel-peers")
}

// Listen opens a TCP listener on a free loopback port.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// FreeAddr returns a loopback address that nobody used a moment ago, by TCP or
// UDP, for programs that open their own listener. Its port is not one that the
// system gives to connections meanwhile, which are above, and not one that this
// process was given before, whose program may have yet to open it.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(12_000+int(nextPort.Add(1)%20_000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		pc, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			pc.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// nextPort begins elsewhere in each process.
var nextPort = func() *atomic.Uint32 {
	n := new(atomic.Uint32)
	n.Store(rand.Uint32N(20_000))
	return n
}()
