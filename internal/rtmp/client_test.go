package rtmp

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/memnet"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// A foreign server, as others wrote them: it knows nothing of releaseStream,
// numbers its message streams in its own way, and sends what nobody asked for.
func foreignServer(t *testing.T, after func(p *peer)) *memnet.Net {
	t.Helper()
	network := memnet.New()
	ln, err := network.Listen("server:1935")
	require.NoError(t, err)
	t.Cleanup(func() { _ = network.Close() })
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		p := &peer{t: t, nc: nc}
		require.NoError(t, serverHandshake(nc))
		p.rd.init(nc, commandBuffer)
		p.rd.expectMedia()
		for {
			cmd := p.command()
			switch cmd.name {
			case "connect":
				require.Equal(t, "live", cmd.object.String("app"))
				require.Equal(t, "rtmp://server/live", cmd.object.String("tcUrl"))
				require.Contains(t, cmd.object.Get("fourCcList"), "hvc1")
				p.write(appendEvent(nil, eventPingRequest, 3))
				p.send(0, "onBWDone", 0, nil, 8192)
				body, _ := amf.Append(nil, "onFCPublish")
				p.write(appendChunks(nil, defaultChunkSize, csidCommand, typeCommandAMF0, 0, 0, body, nil))
				p.send(0, "_result", cmd.id, nil, amf.Object{{Name: "code", Value: "NetConnection.Connect.Success"}})
			case "createStream":
				p.send(0, "_result", cmd.id, nil, 5)
			case "publish", "play":
				require.EqualValues(t, 5, cmd.stream)
				require.Equal(t, "cam?token=t", cmd.text(0))
				after(p)
				return
			default:
				p.send(0, "_error", cmd.id, nil, amf.Object{{Name: "level", Value: "error"}, {Name: "code", Value: "NetConnection.Call.Failed"}})
			}
		}
	}()
	return network
}

func TestClientAtForeignServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pattern := &streamtest.Pattern{NoAudio: true}
		network := foreignServer(t, func(p *peer) {
			p.send(5, "onStatus", 0, nil, amf.Object{{Name: "level", Value: "status"}, {Name: "code", Value: "NetStream.Publish.Start"}})
			for {
				if m := p.message(); m.typ == typeVideo && len(m.body) > 1000 {
					require.EqualValues(t, 5, m.stream)
					break
				}
			}
			time.Sleep(time.Second)
			p.send(5, "onStatus", 0, nil, amf.Object{{Name: "level", Value: "error"}, {Name: "code", Value: "NetStream.Publish.Failed"}, {Name: "description", Value: "enough"}})
			_, _ = io.Copy(io.Discard, p.nc)
		})
		d := Dialer{DialContext: network.Dial}
		c, err := d.Dial(t.Context(), "rtmp://server/live/cam?token=t")
		require.NoError(t, err)
		w, err := c.Publish(t.Context())
		require.NoError(t, err)
		require.NoError(t, w.SetTracks(pattern.Tracks()...))
		for f := range pattern.Frames(3) {
			require.NoError(t, w.Write(f))
		}
		<-w.Done()
		require.Equal(t, &StatusError{"NetStream.Publish.Failed", "enough"}, w.Err())
		require.Contains(t, w.Err().Error(), "enough")
		require.Equal(t, w.Err(), w.SetTracks(pattern.Tracks()...))
		_ = w.Close()
	})
}

func TestClientRedirected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := foreignServer(t, func(p *peer) {
			p.send(5, "onStatus", 0, nil, amf.Object{
				{Name: "level", Value: "error"}, {Name: "code", Value: "NetConnection.Connect.Rejected"},
				{Name: "ex", Value: amf.Object{{Name: "code", Value: 302}, {Name: "redirect", Value: "rtmp://other/live"}}},
			})
		})
		d := Dialer{DialContext: network.Dial}
		c, err := d.Dial(t.Context(), "rtmp://server/live/cam?token=t")
		require.NoError(t, err)
		require.Equal(t, &auth.Redirect{Location: "rtmp://other/live"}, c.Play(t.Context(), &record{}))
		require.NoError(t, c.Close())
	})
}

// A Writer sends what RTMP can carry, and says when that is nothing.
func TestWriterTracks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		out, err := w.dial("rtmp://server/live/cam").Publish(t.Context())
		require.NoError(t, err)
		defer out.Close()
		pcm := &stream.Track{ID: 2, Codec: stream.PCMA, Rate: 16000, Channels: 1}
		require.ErrorIs(t, out.SetTracks(pcm), stream.ErrUnsupported)
		require.NoError(t, out.Write(&stream.Frame{Track: pcm, Data: []byte{1}})) // dropped

		mp3 := &stream.Track{ID: 3, Codec: stream.MP3}
		second := &stream.Track{ID: 4, Codec: stream.MP3, Language: "fr"}
		out.SetMetadata(stream.Metadata{"title": "x"})
		require.NoError(t, out.SetTracks(pcm, mp3, second))
		got := make(chan []*stream.Frame)
		sub := w.subscribe("live/cam")
		go func() { got <- streamtest.Collect(t.Context(), t, sub, 1) }()
		for _, track := range []*stream.Track{pcm, second, mp3} {
			require.NoError(t, out.Write(&stream.Frame{Track: track, Data: []byte{0xff, 0xfb, 0x90, track.ID}}))
		}
		require.Equal(t, []byte{0xff, 0xfb, 0x90, 3}, (<-got)[0].Data)
		require.Equal(t, "x", w.h.hub.Stream("live/cam").Metadata()["title"])
	})
}

// What goes with the tcUrl reaches our Authorizer beside the stream's own query,
// and changes no name.
func TestDialerQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHandler{}
		w := newWorld(t, h, &Server{})
		for url, want := range map[string]string{
			"rtmp://server/live/cam":           "hops=a,b",
			"rtmp://server/live/cam?token=t":   "token=t&hops=a,b",
			"rtmp://server/live?vhost=v.x/cam": "vhost=v.x",
		} {
			d := Dialer{DialContext: w.net.Dial, Query: "hops=a,b"}
			c, err := d.Dial(t.Context(), url)
			require.NoError(t, err)
			out, err := c.Publish(t.Context())
			require.NoError(t, err)
			got := h.last()
			require.Equal(t, "cam", got.Name)
			require.Equal(t, "live", got.App)
			require.Contains(t, got.RawQuery, want)
			require.NoError(t, out.Close())
			synctest.Wait() // the name is free for the next
		}
	})
}
