package rtmp

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A publisher who is sent elsewhere is asked to reconnect if it said that it can,
// and refused with a redirect otherwise.
func TestReconnectRequest(t *testing.T) {
	to := &auth.Redirect{Location: "rtmp://other/live/cam?token=t"}
	kick := func(w *world) {
		for s := range w.h.hub.Sessions() {
			require.True(t, s.Kick(to))
		}
	}
	for _, knows := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, &fakeHandler{}, &Server{})
			var caps []amf.Property
			if knows {
				caps = append(caps, amf.Property{Name: "capsEx", Value: float64(capsReconnect)})
			}
			p := w.connected(caps...)
			p.send(1, "publish", 2, nil, "cam?token=t")
			require.Equal(t, "onFCPublish", p.command().name)
			p.status(publishStart.code)
			p.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
			synctest.Wait()
			kick(w)
			if knows {
				info := p.status(reconnect.code)
				require.Equal(t, "status", info.String("level"))
				require.Equal(t, "rtmp://other/live", info.String("tcUrl"))
			} else {
				ex, _ := amf.AsObject(p.status(redirected.code).Get("ex"))
				require.Equal(t, to.Location, ex.String("redirect"))
			}
			p.closed()
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		out, err := w.dial("rtmp://server/live/cam?token=own").Publish(t.Context())
		require.NoError(t, err)
		require.NoError(t, out.SetTracks((&streamtest.Pattern{NoAudio: true}).Tracks()...))
		synctest.Wait()
		kick(w)
		<-out.Done()
		require.Equal(t, &auth.Redirect{Location: "rtmp://other/live/cam?token=own"}, out.Err())
		_ = out.Close()
	})
}

// What a server says of where to reconnect is followed as far as it is RTMP, and
// not to where there is less secrecy.
func TestReconnectTo(t *testing.T) {
	for _, tt := range []struct{ from, to, want string }{
		{"rtmp://a/live", "rtmp://b:1936/x/live", "rtmp://b:1936/x/live/cam?k=1"},
		{"rtmp://a/live", "rtmps://b/live/?q=1#f", "rtmps://b/live/cam?k=1"},
		{"rtmp://a/live", "", "rtmp://a/live/cam?k=1"},
		{"rtmp://a/live?vhost=v", "", "rtmp://a/live?vhost=v/cam?k=1"},
		{"rtmp://a/live", "//b/other", "rtmp://b/other/cam?k=1"},
		{"rtmps://a/live", "rtmp://b/live", ""},
		{"rtmp://a/live", "http://b/live", ""},
		{"rtmp://a/live", "rtmp://b/%zz", ""},
	} {
		c := &Client{tcURL: tt.from, stream: "cam?k=1"}
		err := c.reconnect(amf.Object{{Name: "code", Value: reconnect.code}, {Name: "tcUrl", Value: tt.to}})
		if tt.want == "" {
			require.ErrorIs(t, err, errCommand, "%v", tt)
			continue
		}
		require.Equal(t, &auth.Redirect{Location: tt.want}, err, "%v", tt)
	}
	require.NoError(t, (&Client{}).reconnect(amf.Object{{Name: "code", Value: publishStart.code}}))
}
