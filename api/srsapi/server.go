package srsapi

import (
	"maps"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/process"
)

type versionInfo struct {
	Major    int    `json:"major"`
	Minor    int    `json:"minor"`
	Revision int    `json:"revision"`
	Version  string `json:"version"`
}

func versions() versionInfo {
	v := versionInfo{Version: Compatible}
	parts := strings.Split(Compatible, ".")
	for i, to := range []*int{&v.Major, &v.Minor, &v.Revision} {
		*to, _ = strconv.Atoi(parts[i])
	}
	return v
}

type featureInfo struct {
	Options  string          `json:"options"`
	Options2 string          `json:"options2"`
	Build    string          `json:"build"`
	Build2   string          `json:"build2"`
	Features map[string]bool `json:"features"`
}

func (h *Handler) features() featureInfo {
	f := map[string]bool{
		"ssl": true, "hls": true, "hds": false, "callback": false, "api": true, "httpd": true, "dvr": false, "transcode": false,
		"ingest": false, "stat": true, "caster": false, "complex_send": true, "tcp_nodelay": true, "so_sendbuf": false, "mr": false,
	}
	maps.Copy(f, h.Features)
	return featureInfo{Features: f}
}

// A summary has SRS's fields; those that are always zero here are the disks'
// and the network's of the machine.
type summary struct {
	OK     bool          `json:"ok"`
	NowMS  int64         `json:"now_ms"`
	Self   selfSummary   `json:"self"`
	System systemSummary `json:"system"`
}

type selfSummary struct {
	Version    string  `json:"version"`
	PID        int     `json:"pid"`
	PPID       int     `json:"ppid"`
	Argv       string  `json:"argv"` // the program alone: arguments may be secrets
	CWD        string  `json:"cwd"`
	MemKB      uint64  `json:"mem_kbyte"`
	MemPercent float64 `json:"mem_percent"` // of 1, in SRS too
	CPUPercent float64 `json:"cpu_percent"` // of 1, a CPU
	Uptime     int64   `json:"srs_uptime"`
}

type systemSummary struct {
	CPUPercent    float64 `json:"cpu_percent"`
	DiskRead      int64   `json:"disk_read_KBps"`
	DiskWrite     int64   `json:"disk_write_KBps"`
	DiskBusy      float64 `json:"disk_busy_percent"`
	MemRAM        uint64  `json:"mem_ram_kbyte"`
	MemPercent    float64 `json:"mem_ram_percent"`
	Swap          uint64  `json:"mem_swap_kbyte"`
	SwapPercent   float64 `json:"mem_swap_percent"`
	CPUs          int     `json:"cpus"`
	CPUsOnline    int     `json:"cpus_online"`
	Uptime        float64 `json:"uptime"`
	Idle          float64 `json:"ilde_time"` // SRS spells it so
	Load1         float64 `json:"load_1m"`
	Load5         float64 `json:"load_5m"`
	Load15        float64 `json:"load_15m"`
	NetSampleTime int64   `json:"net_sample_time"`
	NetRecv       uint64  `json:"net_recv_bytes"`
	NetSend       uint64  `json:"net_send_bytes"`
	NetRecvInner  uint64  `json:"net_recvi_bytes"`
	NetSendInner  uint64  `json:"net_sendi_bytes"`
	SampleTime    int64   `json:"srs_sample_time"`
	Recv          uint64  `json:"srs_recv_bytes"` // of the sessions that are open
	Send          uint64  `json:"srs_send_bytes"`
	ConnSys       int     `json:"conn_sys"`
	ConnSysET     int     `json:"conn_sys_et"`
	ConnSysTW     int     `json:"conn_sys_tw"`
	ConnSysUDP    int     `json:"conn_sys_udp"`
	ConnSRS       int     `json:"conn_srs"`
}

// A cpuSample is what was used up to a moment: by this process, and idle by all
// CPUs of the machine. share and busy are what came of the sample before.
type cpuSample struct {
	at          time.Time
	used        time.Duration
	idle        float64
	share, busy float64
}

// sampleEvery is the least time that shares of the CPU are averaged over.
const sampleEvery = 3 * time.Second

// cpuShares returns this process's share of one CPU and the machine's of all,
// of 1, since the sample before.
func (h *Handler) cpuShares(idle float64) (share, busy float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, now := h.cpu, time.Now()
	if last.at.IsZero() {
		last.at = h.started
	}
	passed := now.Sub(last.at)
	if h.cpu.at.IsZero() || passed >= sampleEvery {
		next := cpuSample{at: now, used: process.CPUTime(), idle: idle, share: last.share, busy: last.busy}
		if passed > 0 {
			next.share = max(0, (next.used-last.used).Seconds()/passed.Seconds())
		}
		if !h.cpu.at.IsZero() && idle > 0 {
			next.busy = min(1, max(0, 1-(idle-last.idle)/(passed.Seconds()*float64(runtime.NumCPU()))))
		}
		h.cpu = next
	}
	return h.cpu.share, h.cpu.busy
}

func (h *Handler) summaries() summary {
	now := time.Now()
	memory, load := process.ReadMemory(), process.Load()
	up, idle := process.Uptime()
	share, busy := h.cpuShares(idle)
	cwd, _ := os.Getwd()
	argv := ""
	if len(os.Args) > 0 {
		argv = os.Args[0]
	}
	s := summary{
		OK: true, NowMS: now.UnixMilli(),
		Self: selfSummary{
			Version: Compatible, PID: os.Getpid(), PPID: os.Getppid(), Argv: argv, CWD: cwd, MemKB: process.Resident() >> 10,
			CPUPercent: share, Uptime: int64(now.Sub(h.started).Seconds()),
		},
		System: systemSummary{
			CPUPercent: busy, MemRAM: memory.Total >> 10, Swap: memory.SwapTotal >> 10, CPUs: runtime.NumCPU(), CPUsOnline: runtime.NumCPU(),
			Uptime: up, Idle: idle, Load1: load[0], Load5: load[1], Load15: load[2],
			NetSampleTime: now.UnixMilli(), SampleTime: now.UnixMilli(),
		},
	}
	if memory.Total > 0 {
		s.Self.MemPercent = float64(process.Resident()) / float64(memory.Total)
		s.System.MemPercent = 1 - float64(memory.Available)/float64(memory.Total)
	}
	if memory.SwapTotal > 0 {
		s.System.SwapPercent = 1 - float64(memory.SwapFree)/float64(memory.SwapTotal)
	}
	for _, c := range h.crowds() {
		s.System.ConnSRS += c.clients
		s.System.Recv += c.recv
		s.System.Send += c.sent
	}
	return s
}
