package cluster

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/runnel-media/runnel/internal/e2e/peer"
)

// An hlsViewer asks for a playlist again and again, as players do.
type hlsViewer struct {
	mu       sync.Mutex
	playlist string // URL of the media playlist
	newest   int    // number of the last segment
	refused  []string
	stop     chan struct{}
	done     chan struct{}
}

var (
	mediaSequence = regexp.MustCompile(`#EXT-X-MEDIA-SEQUENCE:(\d+)`)
	segment       = regexp.MustCompile(`(?m)^#EXTINF`)
	variant       = regexp.MustCompile(`(?m)^([^#\s]+\.m3u8\S*)$`)
)

func watchHLS(t *testing.T, s *server, name string) *hlsViewer {
	t.Helper()
	v := &hlsViewer{newest: -1, stop: make(chan struct{}), done: make(chan struct{})}
	main := "http://" + s.http + "/live/" + name + ".m3u8"
	peer.Eventually(t, time.Minute, main, func() bool {
		b, err := text(main)
		if err != nil {
			return false
		}
		if m := variant.FindStringSubmatch(b); m != nil {
			v.playlist = "http://" + s.http + "/live/" + m[1]
		} else {
			v.playlist = main
		}
		return true
	})
	go func() {
		defer close(v.done)
		for {
			select {
			case <-v.stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
			v.look()
		}
	}()
	t.Cleanup(func() { close(v.stop); <-v.done })
	peer.Eventually(t, time.Minute, "a segment", func() bool { return v.last() >= 0 })
	return v
}

type status string

func (s status) Error() string { return string(s) }

func text(url string) (string, error) {
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = status(r.Status)
	}
	return string(b), err
}

func (v *hlsViewer) look() {
	b, err := text(v.playlist)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.refused = append(v.refused, err.Error())
		return
	}
	if m := mediaSequence.FindStringSubmatch(b); m != nil {
		first, _ := strconv.Atoi(m[1])
		v.newest = max(v.newest, first+len(segment.FindAllString(b, -1))-1)
	}
}

func (v *hlsViewer) last() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.newest
}

func (v *hlsViewer) errors() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refused
}

// expect waits for a segment that is not there yet.
func (v *hlsViewer) expect(t *testing.T) {
	t.Helper()
	newest := v.last()
	peer.Eventually(t, time.Minute, "a new segment", func() bool { return v.last() > newest })
}
