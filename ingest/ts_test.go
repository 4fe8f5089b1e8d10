package ingest

import (
	"context"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// tsFile is the beginning of a transport stream with n frames.
func tsFile(t testing.TB, p *streamtest.Pattern, n int) (b []byte) {
	var m mpegts.Muxer
	require.NoError(t, m.Configure(p.Tracks()))
	b = m.AppendTables(b)
	for f := range p.Frames(n) {
		b = m.AppendFrame(b, f)
	}
	return b
}

// The frames of a transport stream come out as they went in.
func TestTSPublish(t *testing.T) {
	both(t, func(t *testing.T, h2 bool) {
		for name, p := range map[string]*streamtest.Pattern{
			"H.264 and AAC":  {BFrames: 2},
			"H.265 and Opus": {Video: stream.H265, Audio: stream.Opus},
			"MP3":            {NoVideo: true, Audio: stream.MP3},
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newServer()
					var asked auth.Request
					s.Auth = auth.Func(func(_ context.Context, r *auth.Request) (*auth.Grant, error) {
						asked = *r
						return nil, nil
					})
					w := newHTTPWorld(t, s, h2)
					sub := make(chan []*stream.Frame, 1)
					go func() {
						r, err := s.Hub.Subscribe(t.Context(), "live/cam", &stream.SubscribeOptions{Wait: 1e9})
						require.NoError(t, err)
						sub <- streamtest.Collect(t.Context(), t, r, -1)
					}()
					synctest.Wait()
					file := tsFile(t, p, 200)
					in, out := io.Pipe()
					go func() { // the subscriber is there before the second key frame
						_, _ = out.Write(file[:20*mpegts.PacketSize])
						time.Sleep(time.Millisecond)
						_, _ = out.Write(file[20*mpegts.PacketSize:])
						_ = out.Close()
					}()
					code, err := w.post("/live/cam.ts", in)
					require.NoError(t, err)
					require.Equal(t, http.StatusNoContent, code)
					require.Equal(t, "http-ts", asked.Protocol)
					got := <-sub
					require.Greater(t, len(got), 190)
					kinds := map[stream.Codec]bool{}
					for _, f := range got {
						kinds[f.Track.Codec] = true
					}
					for _, track := range p.Tracks() {
						require.True(t, kinds[track.Codec], track.Codec)
					}
				})
			})
		}
	})
}
