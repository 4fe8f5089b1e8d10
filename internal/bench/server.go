package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A server is what a run measures.
type server struct {
	*process
	rtmp  string // where publishers and RTMP players connect
	http  string // where HTTP players connect; "": nowhere
	stats string // URL of the server's own statistics; "": none
}

// nginxConf is what the module's documentation shows, with wait_key on, so
// that players start at a key frame, and room for the connections.
const nginxConf = `load_module %s;
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events { worker_connections %d; }
rtmp {
	access_log off;
	server {
		listen %s;
		application live {
			live on;
			wait_key on;
		}
	}
}
`

const nginxModule = "/usr/lib/nginx/modules/ngx_rtmp_module.so"

// findNginx returns the program's path. Debian's is where only root looks.
func findNginx() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return "nginx"
}

func startNginx(ctx context.Context, f *family, dir, nginx string, players int) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, nginxModule, players+100, addr), 0o600); err != nil {
		return nil, err
	}
	p, err := f.Start(exec.Command(nginx, "-p", dir, "-c", conf, "-e", "stderr")) //nolint:noctx // the family ends it
	if err != nil {
		return nil, err
	}
	return ready(ctx, &server{process: p, rtmp: addr})
}

func startRunnel(ctx context.Context, f *family, mediaserver string, interval time.Duration, extra []string) (*server, error) {
	rtmp, err := freeAddr()
	if err != nil {
		return nil, err
	}
	web, err := freeAddr()
	if err != nil {
		return nil, err
	}
	args := []string{"-rtmp", rtmp, "-srt", "", "-http", web, "-demo=false", "-publish-token", "", "-write-interval", interval.String()}
	p, err := f.Start(exec.Command(mediaserver, append(args, extra...)...)) //nolint:noctx // the family ends it
	if err != nil {
		return nil, err
	}
	return ready(ctx, &server{process: p, rtmp: rtmp, http: web, stats: "http://" + web + "/stats.json"})
}

// ready waits until the server takes connections.
func ready(ctx context.Context, s *server) (*server, error) {
	for _, addr := range []string{s.rtmp, s.http} {
		if addr == "" {
			continue
		}
		err := waitFor(ctx, s.name+" listening", 10*time.Second, func() bool {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		}, s.process)
		if err != nil {
			s.Stop()
			return nil, err
		}
	}
	return s, nil
}

// buildRunnel builds examples/mediaserver. The working directory is to be in
// the module.
func buildRunnel(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "mediaserver")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/runnel-media/runnel/examples/mediaserver").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("bench: go build ./examples/mediaserver: %w\n%s", err, out)
	}
	return path, nil
}

// freeAddr returns a loopback address that nobody listens on.
func freeAddr() (string, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// serverStats is what the bench reads of the mediaserver's /stats.json: how
// long frames took from their arrival to the socket write, counted since the
// start.
type serverStats struct {
	Latency struct {
		Buckets []bucket `json:"buckets"`
	} `json:"latency"`
}

// A bucket counts what took at most AtMost and more than the bucket before.
type bucket struct {
	AtMost float64 `json:"le_ms"` // 0 in the last: no bound
	Count  uint64  `json:"count"`
}

func (s *server) readStats(ctx context.Context) (v serverStats, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.stats, nil)
	if err != nil {
		return v, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("bench: %s: %s", s.stats, resp.Status)
	}
	return v, json.NewDecoder(resp.Body).Decode(&v)
}

// since returns the q-quantiles of what was counted after the earlier
// statistics, in ms; nothing if nothing was.
func (v serverStats) since(earlier serverStats, qs ...float64) []float64 {
	var counts []uint64
	var total uint64
	for i, b := range v.Latency.Buckets {
		if i < len(earlier.Latency.Buckets) {
			b.Count -= earlier.Latency.Buckets[i].Count
		}
		counts = append(counts, b.Count)
		total += b.Count
	}
	if total == 0 {
		return nil
	}
	var out []float64
	for _, q := range qs {
		rank := q * float64(total)
		var seen, lower, value float64
		for i, n := range counts {
			upper := v.Latency.Buckets[i].AtMost
			if n > 0 && seen+float64(n) >= rank {
				value = lower
				if upper > 0 {
					value += (rank - seen) / float64(n) * (upper - lower)
				}
				break
			}
			seen += float64(n)
			lower = upper
		}
		out = append(out, value)
	}
	return out
}
