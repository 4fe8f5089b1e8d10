package srsapi

import (
	"bytes"
	"net/http"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/api/internal/process"
)

// Figures of the process and its machine are those of /proc. Where there is none
// their "ok" is false, and they are zero.
type figures map[string]any

func newFigures(ok bool) figures {
	return figures{"ok": ok, "sample_time": time.Now().UnixMilli()}
}

// statFields are the fields of /proc/self/stat behind pid, comm and state.
var statFields = strings.Fields(`ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime
	priority nice num_threads itrealvalue starttime vsize rss rsslim startcode endcode startstack kstkesp kstkeip signal blocked
	sigignore sigcatch wchan nswap cnswap exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time`)

// addresses are fields of it that would tell where the process has its memory.
var addresses = map[string]bool{"startcode": true, "endcode": true, "startstack": true, "kstkesp": true, "kstkeip": true, "wchan": true}

func (h *Handler) selfProcStats() figures {
	b, err := os.ReadFile("/proc/self/stat")
	f := parseSelfStat(b)
	f["ok"] = err == nil && f["ok"] == true
	_, idle := process.Uptime()
	f["percent"], _ = h.cpuShares(idle)
	return f
}

// parseSelfStat reads /proc/self/stat, in which the name of the program is in
// parentheses and may hold some.
func parseSelfStat(b []byte) figures {
	begin, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	f := newFigures(begin >= 0 && end > begin)
	f["pid"], f["comm"], f["state"] = os.Getpid(), "", ""
	for _, name := range statFields {
		f[name] = int64(0)
	}
	if f["ok"] == false {
		return f
	}
	f["comm"] = string(b[begin : end+1])
	words := strings.Fields(string(b[end+1:]))
	if len(words) > 0 {
		f["state"] = words[0]
		words = words[1:]
	}
	for i, name := range statFields[:min(len(statFields), len(words))] {
		if n, err := strconv.ParseInt(words[i], 10, 64); err == nil && !addresses[name] {
			f[name] = n
		}
	}
	return f
}

var cpuFields = strings.Fields("user nice sys idle iowait irq softirq steal guest")

func (h *Handler) systemProcStats() figures {
	b, err := os.ReadFile("/proc/stat")
	f := parseSystemStat(b)
	f["ok"] = err == nil && f["ok"] == true
	_, idle := process.Uptime()
	_, f["percent"] = h.cpuShares(idle)
	return f
}

func parseSystemStat(b []byte) figures {
	line, _, _ := strings.Cut(string(b), "\n")
	words := strings.Fields(line)
	f := newFigures(len(words) > 4 && words[0] == "cpu")
	for i, name := range cpuFields {
		f[name] = int64(0)
		if f["ok"] == true && i+1 < len(words) {
			f[name], _ = strconv.ParseInt(words[i+1], 10, 64)
		}
	}
	return f
}

func memInfos() figures {
	b, err := os.ReadFile("/proc/meminfo")
	return parseMemInfos(b, err == nil)
}

// parseMemInfos reads /proc/meminfo; the figures are in KiB.
func parseMemInfos(b []byte, ok bool) figures {
	in := map[string]int64{}
	for line := range bytes.Lines(b) {
		name, rest, _ := strings.Cut(string(line), ":")
		if words := strings.Fields(rest); len(words) > 0 {
			in[name], _ = strconv.ParseInt(words[0], 10, 64)
		}
	}
	f := newFigures(ok && in["MemTotal"] > 0)
	for _, name := range []string{"MemTotal", "MemFree", "Buffers", "Cached", "SwapTotal", "SwapFree"} {
		f[name] = in[name]
	}
	free := in["MemFree"] + in["Buffers"] + in["Cached"]
	f["MemActive"], f["NotInUse"], f["RealInUse"] = in["MemTotal"]-in["MemFree"], free, in["MemTotal"]-free
	f["percent_ram"], f["percent_swap"] = 0.0, 0.0
	if total := in["MemTotal"]; total > 0 {
		f["percent_ram"] = float64(total-free) / float64(total)
	}
	if total := in["SwapTotal"]; total > 0 {
		f["percent_swap"] = float64(total-in["SwapFree"]) / float64(total)
	}
	return f
}

type authors struct {
	License      string `json:"license"`
	Contributors string `json:"contributors"`
}

type requestInfo struct {
	URI     string            `json:"uri"`
	Path    string            `json:"path"`
	Method  string            `json:"METHOD"`
	Headers map[string]string `json:"headers"`
	Server  struct {
		Signature string `json:"sigature"` // SRS spells it so
		Name      string `json:"name"`
		Version   string `json:"version"`
		OS        string `json:"os"`
	} `json:"server"`
}

// request describes a request to who made it, but for what is secret in it.
func request(r *http.Request) requestInfo {
	info := requestInfo{URI: r.URL.Path, Path: path.Clean("/" + r.URL.Path), Method: r.Method, Headers: map[string]string{"Host": r.Host}}
	for name, values := range r.Header {
		if name != "Authorization" && name != "Cookie" && name != "Proxy-Authorization" {
			info.Headers[name] = strings.Join(values, ", ")
		}
	}
	info.Server.Signature, info.Server.Name, info.Server.Version, info.Server.OS = "Runnel", "Runnel", Compatible, runtime.GOOS
	return info
}

// rawDisabled is SRS's code for a raw API that is off, as it is by default, and
// always here: settings are not changed by GET.
const rawDisabled = 1061

func raw(rpc string) envelope {
	if rpc != "raw" {
		return envelope{Code: rawDisabled}
	}
	type rawAPI struct {
		Enabled bool `json:"enabled"`
		Reload  bool `json:"allow_reload"`
		Query   bool `json:"allow_query"`
		Update  bool `json:"allow_update"`
	}
	return envelope{HTTPAPI: struct {
		Enabled bool   `json:"enabled"`
		RawAPI  rawAPI `json:"raw_api"`
	}{Enabled: true}}
}

type clusterInfo struct {
	Query struct {
		IP     string `json:"ip"`
		VHost  string `json:"vhost"`
		App    string `json:"app"`
		Stream string `json:"stream"`
	} `json:"query"`
	Origin any `json:"origin"`
}

// clusters answers as an SRS that is in no origin cluster: it sends nobody
// elsewhere.
func clusters(r *http.Request) clusterInfo {
	var c clusterInfo
	q := r.URL.Query()
	c.Query.IP, c.Query.VHost, c.Query.App, c.Query.Stream = q.Get("ip"), q.Get("vhost"), q.Get("app"), q.Get("stream")
	return c
}
