package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// inside is set in the environment of the program once it is in a network of
// its own.
const inside = "RUNNEL_CLUSTER_NETWORK"

// enter starts this program anew in a network namespace, for the tests that make
// hosts, which are long. Where that is not possible it returns, and they skip.
func enter() {
	if os.Getenv("RUNNEL_SOAK") != "1" || os.Getenv(inside) != "" {
		return
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return
	}
	args := []string{unshare, "--net"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", `ip link set lo up && ip link add hosts type bridge && ip addr add 10.77.0.254/24 dev hosts &&
		ip link set hosts up && unshare --net true || exit 1
		exec "$@"`, "sh")
	if exec.Command(args[0], append(args[1:], "true")...).Run() != nil {
		return
	}
	// An error leaves us where we are.
	_ = syscall.Exec(unshare, append(args, os.Args...), append(os.Environ(), inside+"=1"))
}

// newHosts makes hosts that reach each other and us.
func newHosts(t *testing.T, n int) []*host {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Skip("no network namespaces: unshare, ip and the right to use them are missing")
	}
	list := make([]*host, n)
	for i := range list {
		p := peer.Start(t, "unshare", "--net", "sleep", "100000")
		h := &host{pid: strconv.Itoa(p.PID()), addr: fmt.Sprint("10.77.0.", i+1), link: fmt.Sprint("host", i)}
		list[i] = h
		ours, err := os.Readlink("/proc/self/ns/net")
		peer.Eventually(t, time.Minute, "a namespace", func() bool {
			var theirs string
			if err == nil {
				theirs, err = os.Readlink("/proc/" + h.pid + "/ns/net")
			}
			return err == nil && theirs != ours
		})
		ip(t, nil, "link", "add", h.link, "type", "veth", "peer", "name", "wire", "netns", h.pid)
		ip(t, nil, "link", "set", h.link, "master", "hosts", "up")
		ip(t, h, "link", "set", "lo", "up")
		ip(t, h, "addr", "add", h.addr+"/24", "dev", "wire")
		ip(t, h, "link", "set", "wire", "up")
		t.Cleanup(func() { _ = exec.Command("ip", "link", "del", h.link).Run() })
	}
	return list
}

var lost = regexp.MustCompile(`counter packets (\d+)`)

func ip(t *testing.T, h *host, args ...string) {
	t.Helper()
	command := append(append(h.enter(), "ip"), args...)
	peer.Run(t, time.Minute, command[0], command[1:]...)
}

// cut pulls the host's plug, or puts it in again.
func (h *host) cut(t *testing.T, cut bool) {
	t.Helper()
	state := "up"
	if cut {
		state = "down"
	}
	ip(t, nil, "link", "set", h.link, state)
}

// lossy drops some of every hundred packets that arrive at the host from others,
// by nobody's pattern. We are not others.
func (h *host) lossy(t *testing.T, percent int) {
	t.Helper()
	for _, rule := range []string{
		"add table inet loss",
		"add chain inet loss arriving { type filter hook input priority 0 ; }",
		fmt.Sprint("add rule inet loss arriving ip saddr 10.77.0.0/24 ip saddr != 10.77.0.254 ip saddr != ", h.addr,
			" numgen random mod 100 < ", percent, " counter drop"),
	} {
		peer.Run(t, time.Minute, "nsenter", append(h.enter()[1:], peer.Need(t, "nft"), rule)...)
	}
	t.Cleanup(func() {
		out, _, err := peer.Try(t, time.Minute, "nsenter", append(h.enter()[1:], "nft", "list table inet loss")...)
		m := lost.FindStringSubmatch(string(out))
		if err != nil || m == nil || m[1] == "0" {
			t.Errorf("nothing was lost on the way to %s: %v %s", h.addr, err, out)
			return
		}
		t.Logf("%s packets to %s were lost", m[1], h.addr)
	})
}
