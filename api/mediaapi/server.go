package mediaapi

import (
	_ "embed"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/runnel-media/runnel/api/internal/process"
	"github.com/runnel-media/runnel/api/internal/rest"
)

// A serverInfo is this process.
type serverInfo struct {
	Name       string    `json:"name,omitempty"`
	Version    string    `json:"version,omitempty"`
	Go         string    `json:"go"`
	OS         string    `json:"os"`
	Arch       string    `json:"arch"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Time       time.Time `json:"time"`
	CPUs       int       `json:"cpus"`
	CPUTime    float64   `json:"cpu_time"` // seconds so far, of all CPUs; 0: not known
	Memory     uint64    `json:"memory"`   // bytes taken from the system by Go
	Heap       uint64    `json:"heap"`     // bytes of them in use
	Goroutines int       `json:"goroutines"`

	Streams  int                       `json:"streams"`
	Sessions map[string]map[string]int `json:"sessions"` // by role and protocol
	BytesIn  uint64                    `json:"bytes_in"` // of the sessions that are open
	BytesOut uint64                    `json:"bytes_out"`
	Latency  latency                   `json:"latency"`
}

func (h *Handler) getServer(c *rest.Call) {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	info := serverInfo{
		Name: h.Name, Version: h.Version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, PID: os.Getpid(),
		Started: h.started, Time: time.Now(), CPUs: runtime.GOMAXPROCS(0), CPUTime: process.CPUTime().Seconds(),
		Memory: samples[0].Value.Uint64(), Heap: samples[1].Value.Uint64(), Goroutines: runtime.NumGoroutine(),
		Sessions: map[string]map[string]int{}, Latency: latencyOf(&h.Hub.Latency),
	}
	for range h.Hub.Streams() {
		info.Streams++
	}
	for s := range h.Hub.Sessions() {
		i, st := s.Info(), s.Stats()
		role := info.Sessions[string(i.Role)]
		if role == nil {
			role = map[string]int{}
			info.Sessions[string(i.Role)] = role
		}
		role[i.Protocol]++
		info.BytesIn += st.BytesIn
		info.BytesOut += st.BytesOut
	}
	c.Answer(info)
}

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the document of what a Handler serves, for package api.
func (h *Handler) OpenAPI() []byte { return openAPI }

func (h *Handler) getOpenAPI(c *rest.Call) { c.AnswerBytes(openAPI) }
