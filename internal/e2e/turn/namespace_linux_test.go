package turn

import (
	"os"
	"os/exec"
	"syscall"
)

// enter starts this program anew in a network namespace: loopback, and one
// network with an address, that goes nowhere. Where that is not possible it
// returns, and the tests skip.
func enter() {
	if os.Getenv(inside) != "" {
		return
	}
	path := os.Getenv("PATH") + ":/usr/sbin:/sbin"
	os.Setenv("PATH", path)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return
	}
	args := []string{unshare, "--net"}
	if os.Getuid() != 0 {
		args = append(args, "--map-root-user")
	}
	args = append(args, "sh", "-c", `ip link set lo up &&
		ip link add outer type veth peer name inner && ip addr add `+outer+`/24 dev outer &&
		ip link set outer up && ip link set inner up && ip route add default dev outer || exit 1
		exec "$@"`, "sh")
	if exec.Command(args[0], append(args[1:], "true")...).Run() != nil {
		return
	}
	// An error leaves us where we are.
	_ = syscall.Exec(unshare, append(args, os.Args...), append(os.Environ(), inside+"=1"))
}
