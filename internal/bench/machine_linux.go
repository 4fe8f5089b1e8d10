package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func supported() error { return nil }

// raiseFiles lets this process and those that it starts open n files.
func raiseFiles(n uint64) error {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return err
	}
	lim.Cur = max(lim.Cur, n)
	lim.Max = max(lim.Max, n)
	// Set even if it is high enough: the runtime gives children what it found
	// at its start unless the program has spoken.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("bench: %d open files (ulimit -n): %w", n, err)
	}
	return nil
}

func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// signalGroup asks a process group to end, or kills it.
func signalGroup(pid int, kill bool) {
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(-pid, sig) // it may be gone already
}

// runGuard reads "+PID" and "-PID" of process groups that start and end, and
// kills those that are left when its input ends.
func runGuard(_ context.Context, _ []string, in io.Reader, _, _ io.Writer) error {
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	groups := make(map[int]bool)
	for s := bufio.NewScanner(in); s.Scan(); {
		pid, err := strconv.Atoi(strings.TrimLeft(s.Text(), "+-"))
		if err != nil || pid <= 1 {
			return fmt.Errorf("bench: guard: %q", s.Text())
		}
		if s.Text()[0] == '+' {
			groups[pid] = true
		} else {
			delete(groups, pid)
		}
	}
	for pid := range groups {
		signalGroup(pid, true)
	}
	return nil
}

// tree returns a process and its descendants.
func tree(pid int) []int {
	pids := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t) // a thread that has just ended has no children
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// cpuTime returns the user and system time that a process and its descendants
// have used: what /proc/PID/stat tells as utime and stime, in nanoseconds
// instead of ticks.
func cpuTime(pid int) (total time.Duration, err error) {
	for _, p := range tree(pid) {
		const scheduler = 2 // CPUCLOCK_SCHED of the kernel's clock ids
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^p<<3|scheduler), &ts); err != nil {
			return 0, fmt.Errorf("bench: CPU time of process %d: %w", p, err)
		}
		total += time.Duration(ts.Nano())
	}
	return total, nil
}

// residentBytes returns the resident memory of a process and its descendants.
func residentBytes(pid int) (total int64, err error) {
	for _, p := range tree(pid) {
		// smaps_rollup is counted when it is read; the VmRSS of status lags
		// behind by up to a few hundred KB.
		kb, err := procField(fmt.Sprintf("/proc/%d/smaps_rollup", p), "Rss:")
		if err != nil {
			kb, err = procField(fmt.Sprintf("/proc/%d/status", p), "VmRSS:")
		}
		if err != nil {
			return 0, err
		}
		total += kb << 10
	}
	return total, nil
}

func procField(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("bench: no %s in %s", name, path)
}

// busyTime returns how long the processors of the machine have worked, idle
// how long they have not, both summed over the processors.
func busyTime() (busy, idle time.Duration, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		ticks, err := strconv.ParseInt(f, 10, 64)
		if i == 0 || err != nil || i > 8 { // "cpu"; guest time is in user time already
			continue
		}
		d := time.Duration(ticks) * time.Second / 100 // USER_HZ is 100 on every architecture that Go knows
		if i == 4 || i == 5 {                         // idle, iowait
			idle += d
		} else {
			busy += d
		}
	}
	return busy, idle, nil
}

// machineFacts describes the machine in a few words.
func machineFacts() string {
	cpu := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				cpu = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel := "Linux"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
		kernel += " " + release
	}
	return fmt.Sprintf("%d cores of %s, %s, %s", runtime.NumCPU(), cpu, kernel, runtime.Version())
}
