package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// TestSoak runs a server for RUNNEL_SOAK_TIME (10m) with a publisher that
// stays, one that comes and goes, players that stay, players that come and
// go, and players that never read. Memory and goroutines must not grow, nobody
// who stays may starve, and in the end everything must be given back.
func TestSoak(t *testing.T) {
	if os.Getenv("RUNNEL_SOAK") != "1" {
		t.Skip("RUNNEL_SOAK=1 (make soak) runs it")
	}
	length := 10 * time.Minute
	if s := os.Getenv("RUNNEL_SOAK_TIME"); s != "" {
		var err error
		length, err = time.ParseDuration(s)
		require.NoError(t, err)
	}
	const steady, churning, stalled = 200, 20, 10

	pprof := peer.FreeAddr(t)
	m := startMediaserver(t, "-demo=false", "-pprof", pprof, "-log-level", "error")
	push(t, peer.AV, m.rtmp+"/live/steady", "-stream_loop", "-1")
	url := m.http + "/live/steady.flv"
	peer.Eventually(t, live, "the stream", func() bool { return get(t.Context(), url, 1000) == nil })
	time.Sleep(2 * time.Second)
	idle := sample(t, m, pprof)

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var crowd sync.WaitGroup
	received := make([]atomic.Int64, steady)
	for i := range steady {
		crowd.Go(func() { _ = read(ctx, url, &received[i]) })
	}
	var visits, visitErrors, republished atomic.Int64
	for range churning {
		crowd.Go(func() {
			for ctx.Err() == nil {
				if err := get(ctx, url, 1000+rand.Int64N(200_000)); err != nil && ctx.Err() == nil {
					visitErrors.Add(1)
				}
				visits.Add(1)
			}
		})
	}
	for range stalled {
		crowd.Go(func() {
			for ctx.Err() == nil {
				stall(ctx, url)
			}
		})
	}
	clip := lab.Clip(t, peer.VideoOnly)
	crowd.Go(func() {
		for ctx.Err() == nil { // as fast as ffmpeg can: a few times a second
			if _, _, err := peer.Try(t, live, "ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-c", "copy", "-f", "flv", m.rtmp+"/live/fleeting"); err == nil {
				republished.Add(1)
			}
		}
	})

	var loaded, last figures
	start := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
		case <-time.After(length / 12):
			last = sample(t, m, pprof)
			t.Logf("%6v %v, %d visits, %d publications", time.Since(start).Round(time.Second), last, visits.Load(), republished.Load())
			if n == 3 {
				loaded = last
			}
		}
	}
	crowd.Wait()

	least, most := received[0].Load(), received[0].Load()
	for i := range received {
		least, most = min(least, received[i].Load()), max(most, received[i].Load())
	}
	t.Logf("players that stayed got %d to %d KB; %d of %d visits failed; %d publications", least>>10, most>>10, visitErrors.Load(), visits.Load(), republished.Load())
	require.True(t, m.Running())
	require.Greater(t, least, most*9/10, "a player starved")
	require.Zero(t, visitErrors.Load())
	require.Positive(t, republished.Load())
	require.Less(t, last.RSS, loaded.RSS*13/10, "memory grows")
	require.Less(t, last.Goroutines, loaded.Goroutines+100, "goroutines grow")

	peer.Eventually(t, time.Minute, "all sessions but the publisher's gone", func() bool { return sample(t, m, pprof).Sessions <= 1 })
	after := sample(t, m, pprof)
	t.Logf("idle before: %v, idle after: %v", idle, after)
	require.LessOrEqual(t, after.Goroutines, idle.Goroutines+10)
	require.NoError(t, m.Stop(t, 15*time.Second))
}

// figures are what a server takes at a moment.
type figures struct {
	RSS        int64 // bytes
	Goroutines int
	Sessions   int
}

func (f figures) String() string {
	return fmt.Sprintf("%d MB, %d goroutines, %d sessions", f.RSS>>20, f.Goroutines, f.Sessions)
}

func sample(t *testing.T, m *mediaserver, pprof string) (f figures) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(t, err)
	f.RSS = kb << 10
	_, err = fmt.Sscanf(string(fetch(t, "http://"+pprof+"/debug/pprof/goroutine?debug=1")), "goroutine profile: total %d", &f.Goroutines)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(fetch(t, m.http+"/stats.json"), &f))
	return f
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	r, err := http.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return b
}

// get plays until so many bytes have come.
func get(ctx context.Context, url string, size int64) error {
	r, err := request(ctx, url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.CopyN(io.Discard, r.Body, size)
	return err
}

// read plays until the end and counts.
func read(ctx context.Context, url string, count *atomic.Int64) error {
	r, err := request(ctx, url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	for buf := make([]byte, 16<<10); ; {
		n, err := r.Body.Read(buf)
		count.Add(int64(n))
		if err != nil {
			return err
		}
	}
}

func request(ctx context.Context, url string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := http.DefaultClient.Do(q)
	if err == nil && r.StatusCode != http.StatusOK {
		r.Body.Close()
		err = fmt.Errorf("%s: %s", url, r.Status)
	}
	return r, err
}

// stall asks for a stream and does not read it. The server must have had
// enough of that within a minute.
func stall(ctx context.Context, url string) {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	c, err := net.Dial("tcp", host)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
	}
}
