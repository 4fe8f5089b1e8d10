package hls

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/stream/streamtest"
)

// Readers read everything while the stream is being packaged.
func TestConcurrentReaders(t *testing.T) {
	p := New(Config{TS: newFakeTS, Encrypt: true, KeySegments: 2, Segment: time.Second, Window: 3 * time.Second, MaxBytes: 1 << 20})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r := Rendition((i + n) % int(renditions))
				pl, err := p.Playlist(ctx, r, Directives{Skip: n%2 == 0}, noAddr)
				if err != nil {
					continue
				}
				pl.Gzip()
				for line := range strings.Lines(string(pl.Text)) {
					line = strings.TrimSpace(line)
					if _, uri, ok := strings.Cut(line, `URI="`); ok {
						line, _, _ = strings.Cut(uri, `"`)
					} else if strings.HasPrefix(line, "#") {
						continue
					}
					if strings.HasSuffix(line, ".key") {
						_, _ = p.Key(line)
						continue
					}
					short, stop := context.WithTimeout(ctx, time.Millisecond)
					c, err := p.Open(short, line, noAddr)
					stop()
					if err == nil {
						_, _ = c.WriteTo(io.Discard)
					}
				}
				_, _ = p.Multivariant(ctx, noAddr, MultivariantOptions{TS: r == TS})
				p.View(r)
				p.Stats()
			}
		})
	}
	src := &streamtest.Pattern{}
	p.SetTracks(src.Tracks()...)
	n := 0
	for f := range until(src.Frames(-1), 20*time.Second) {
		p.Add(f)
		if n++; n%20 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	p.End()
	_, err := p.Playlist(t.Context(), Video, Directives{}, noAddr)
	require.NoError(t, err)
	cancel()
	group.Wait()
}
