// Package process reads figures of this process and its machine. What the
// system does not tell is zero.
package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Memory is the machine's memory in bytes. It is read from /proc, and so zero
// where there is none.
type Memory struct{ Total, Available, SwapTotal, SwapFree uint64 }

// ReadMemory reads it now.
func ReadMemory() Memory {
	b, _ := os.ReadFile("/proc/meminfo")
	return parseMemory(b)
}

func parseMemory(b []byte) (m Memory) {
	fields := map[string]*uint64{"MemTotal": &m.Total, "MemAvailable": &m.Available, "SwapTotal": &m.SwapTotal, "SwapFree": &m.SwapFree}
	for line := range bytes.Lines(b) {
		name, rest, _ := strings.Cut(string(line), ":")
		if to := fields[name]; to != nil {
			kib, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			*to = kib << 10
		}
	}
	return m
}

// Resident is the memory of this process that is in RAM, in bytes.
func Resident() uint64 {
	f := numbers("/proc/self/statm")
	if len(f) < 2 {
		return 0
	}
	return uint64(f[1]) * uint64(os.Getpagesize())
}

// Load returns the load averages over 1, 5 and 15 minutes.
func Load() (load [3]float64) {
	copy(load[:], numbers("/proc/loadavg"))
	return load
}

// Uptime returns the seconds since the machine started, and those that its CPUs
// were idle, together.
func Uptime() (up, idle float64) {
	if f := numbers("/proc/uptime"); len(f) >= 2 {
		return f[0], f[1]
	}
	return 0, 0
}

// numbers returns the numbers that a file begins with.
func numbers(file string) (list []float64) {
	b, _ := os.ReadFile(file)
	for f := range strings.FieldsSeq(string(b)) {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			break
		}
		list = append(list, n)
	}
	return list
}
