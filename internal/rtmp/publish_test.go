package rtmp

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/internal/flv"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// What a client publishes arrives in the hub as it was, whatever the codec.
func TestPublish(t *testing.T) {
	for _, c := range []struct {
		name    string
		pattern *streamtest.Pattern
	}{
		{"H.264 and AAC", &streamtest.Pattern{BFrames: 2}},
		{"H.265 and Opus", &streamtest.Pattern{Video: stream.H265, Audio: stream.Opus}},
		{"AV1", &streamtest.Pattern{Video: stream.AV1, NoAudio: true}},
		{"VP9", &streamtest.Pattern{Video: stream.VP9, NoAudio: true}},
		{"MP3", &streamtest.Pattern{Audio: stream.MP3, NoVideo: true}},
		{"large frames", &streamtest.Pattern{KeySize: 300000, FrameSize: 70000}},
		{"extended timestamps", &streamtest.Pattern{Start: 5 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{options: stream.PublishOptions{Jitter: stream.JitterOff}}, &Server{})
				out, err := w.dial("rtmp://server/live/cam").Publish(t.Context())
				require.NoError(t, err)
				const n = 100
				collected := make(chan []*stream.Frame)
				sub := w.subscribe("live/cam")
				go func() { collected <- streamtest.Collect(t.Context(), t, sub, n) }()
				require.NoError(t, out.SetTracks(c.pattern.Tracks()...))
				out.SetMetadata(stream.Metadata{"encoder": "test"})
				want := slices.Collect(c.pattern.Frames(n))
				require.NoError(t, streamtest.Feed(t.Context(), out, slices.Values(want), 1))
				for i, f := range <-collected {
					require.Equal(t, want[i].Track.Codec, f.Track.Codec)
					require.Equal(t, want[i].Track.Config, f.Track.Config)
					require.Equal(t, want[i].Data, f.Data)
					require.Equal(t, want[i].Key, f.Key)
					require.InDelta(t, want[i].DTS, f.DTS, float64(time.Millisecond))
					require.InDelta(t, want[i].PTS, f.PTS, float64(2*time.Millisecond))
				}
				require.Equal(t, "test", w.h.hub.Stream("live/cam").Metadata()["encoder"])
				for s := range w.h.hub.Sessions() {
					require.NotZero(t, s.Stats().BytesIn)
				}
				require.NoError(t, out.Close())
				synctest.Wait()
				require.Nil(t, w.h.hub.Stream("live/cam"))
				for range w.h.hub.Sessions() {
					t.Error("the session is still open")
				}
			})
		})
	}
}

func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		p := w.connected(amf.Object{
			{Name: "app", Value: "a/b?vhost=v.example"}, {Name: "tcUrl", Value: "rtmp://server/a/b?vhost=v.example"},
			{Name: "pageUrl", Value: "https://page.example/"},
			{Name: "fourCcList", Value: []any{"hvc1", "av01", "long name", 5}},
			{Name: "videoFourCcInfoMap", Value: amf.Object{{Name: "vp09", Value: 1.0}, {Name: "hvc1", Value: 7}, {Name: "vp08", Value: 2.0}}},
			{Name: "audioFourCcInfoMap", Value: amf.ECMAArray{{Name: "*", Value: 4.0}}},
		}...)
		p.send(1, "publish", 3, nil, "cam?token=t&x=1", "live")
		require.Equal(t, "onFCPublish", p.command().name)
		p.status("NetStream.Publish.Start")
		r := w.h.last()
		require.Equal(t, netip.MustParseAddr("127.0.0.1"), r.Remote.Addr())
		r.Remote = netip.AddrPort{}
		require.Equal(t, auth.Request{
			Action: auth.Publish, Protocol: "rtmp",
			Stream: "v.example/a/b/cam", VHost: "v.example", App: "a/b", Name: "cam",
			RawQuery: "token=t&x=1&vhost=v.example", Token: "t",
			TCURL: "rtmp://server/a/b?vhost=v.example", PageURL: "https://page.example/",
			Accept: []string{"hvc1", "av01", "vp09", "*"},
		}, r)
	})
}

// The command sequences of encoders, each followed by another publication on
// the same connection.
func TestEncoders(t *testing.T) {
	for _, c := range []struct {
		name  string
		begin func(*peer)
		end   func(*peer)
	}{
		{"Flash Media Live Encoder, ffmpeg, OBS", func(p *peer) {
			p.send(0, "releaseStream", 2, nil, "cam")
			p.send(0, "FCPublish", 3, nil, "cam")
			p.send(0, "createStream", 4, nil)
			require.Equal(p.t, 2.0, p.result())
			require.Equal(p.t, 3.0, p.result())
			require.Equal(p.t, 4.0, p.result())
			p.send(0, "_checkbw", 5, nil)
			require.Equal(p.t, 5.0, p.result())
			p.send(1, "publish", 6, nil, "cam", "record")
		}, func(p *peer) {
			p.send(0, "FCUnpublish", 7, nil, "cam")
			require.Equal(p.t, "onFCUnpublish", p.command().name)
			require.Equal(p.t, 7.0, p.result())
			p.status("NetStream.Unpublish.Success")
			p.send(0, "deleteStream", 8, nil, 1)
		}},
		{"Flash Player", func(p *peer) {
			p.send(0, "createStream", 2, nil)
			require.Equal(p.t, 2.0, p.result())
			p.send(1, "publish", 0, nil, "cam", "append")
		}, func(p *peer) {
			p.send(1, "closeStream", 0, nil)
			p.status("NetStream.Unpublish.Success")
		}},
		{"Haivision", func(p *peer) {
			p.send(0, "createStream", 2, nil)
			p.send(0, "releaseStream", 3, nil, "cam")
			p.send(0, "FCPublish", 4, nil, "cam")
			for range 3 {
				p.result()
			}
			p.send(1, "publish", 5, nil, "cam")
		}, func(p *peer) {
			p.send(0, "deleteStream", 6, nil, 1)
			p.status("NetStream.Unpublish.Success")
		}},
		{"AMF3", func(p *peer) {
			body, _ := amf.Append([]byte{0}, "publish", 2, nil, "cam", "live")
			p.write(appendChunks(nil, defaultChunkSize, csidCommand, typeCommandAMF3, 0, 1, body, nil))
		}, func(p *peer) {
			body, _ := amf.Append([]byte{0}, "closeStream", 0, nil)
			p.write(appendChunks(nil, defaultChunkSize, csidCommand, typeCommandAMF3, 0, 1, body, nil))
			p.status("NetStream.Unpublish.Success")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{}, &Server{})
				p := w.connected()
				for range 2 {
					c.begin(p)
					require.Equal(t, "onFCPublish", p.command().name)
					p.status("NetStream.Publish.Start")
					require.NotNil(t, w.h.hub.Stream("live/cam"))
					c.end(p)
					synctest.Wait()
					require.Nil(t, w.h.hub.Stream("live/cam"))
				}
			})
		})
	}
}

// result expects a _result and returns its number.
func (p *peer) result() float64 {
	p.t.Helper()
	cmd := p.command()
	require.Equal(p.t, "_result", cmd.name)
	return cmd.id
}

// publishing is a peer that may send media.
func (w *world) publishing(name string) *peer {
	w.t.Helper()
	p := w.connected()
	p.send(1, "publish", 2, nil, name, "live")
	require.Equal(w.t, "onFCPublish", p.command().name)
	p.status("NetStream.Publish.Start")
	return p
}

// mp3 is the body of an audio message that needs no configuration.
var mp3 = append([]byte{0x2f, 0xff, 0xfb, 0x90, 0x64}, make([]byte, 413)...)

func TestAggregate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		p := w.publishing("cam")
		sub := w.subscribe("live/cam")
		var body []byte
		for i := range 3 {
			body = flv.AppendTagHeader(body, flv.TagAudio, uint32(5000+26*i), len(mp3))
			body = flv.AppendTagEnd(append(body, mp3...), len(mp3))
		}
		p.write(appendChunks(nil, defaultChunkSize, 7, typeAggregate, 100, 1, body, nil))
		p.write(appendChunks(nil, defaultChunkSize, 7, typeAggregate, 178, 1, body[:len(body)-3-len(mp3)], nil)) // the last tag is cut off
		got := streamtest.Collect(t.Context(), t, sub, 5)
		for i, f := range got {
			require.Equal(t, stream.MP3, f.Track.Codec)
			require.Equal(t, time.Duration(26*i)*time.Millisecond, f.DTS-got[0].DTS)
		}
	})
}

func TestMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		p := w.publishing("cam")
		body, _ := amf.Append(nil, "@setDataFrame", "onMetaData", amf.ECMAArray{{Name: "title", Value: "one"}})
		p.write(appendChunks(nil, defaultChunkSize, 4, typeDataAMF0, 0, 1, body, nil))
		synctest.Wait()
		require.Equal(t, "one", w.h.hub.Stream("live/cam").Metadata()["title"])
		body, _ = amf.Append([]byte{0}, "onMetaData", amf.Object{{Name: "title", Value: "two"}})
		p.write(appendChunks(nil, defaultChunkSize, 4, typeDataAMF3, 0, 1, body, nil))
		synctest.Wait()
		require.Equal(t, "two", w.h.hub.Stream("live/cam").Metadata()["title"])
	})
}

// What the peer is told for each error, and that the connection is closed.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name          string
		err           error
		publish, play string
	}{
		{"denied", auth.ErrDenied, "NetStream.Publish.Denied", "NetStream.Play.Failed"},
		{"name", stream.ErrName, "NetStream.Publish.BadName", "NetStream.Play.StreamNotFound"},
		{"busy", stream.ErrBusy, "NetStream.Publish.BadName", "NetStream.Play.Failed"},
		{"not found", stream.ErrNotFound, "NetStream.Publish.BadName", "NetStream.Play.StreamNotFound"},
		{"unsupported", stream.ErrUnsupported, "NetStream.Publish.Rejected", "NetStream.Play.NoSupportedTrackFound"},
		{"closed", stream.ErrClosed, "NetStream.Publish.Rejected", "NetStream.Play.Failed"},
		{"other", context.DeadlineExceeded, "NetStream.Publish.Rejected", "NetStream.Play.Failed"},
		{"redirect", &auth.Redirect{Location: "rtmp://other/live/cam"}, "NetConnection.Connect.Rejected", "NetConnection.Connect.Rejected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{
					publish: func(*auth.Request) error { return c.err },
					play:    func(context.Context, stream.PlayConn, *auth.Request) error { return c.err },
				}, &Server{})
				for command, code := range map[string]string{"publish": c.publish, "play": c.play} {
					p := w.connected()
					p.send(1, command, 2, nil, "cam")
					info := p.status(code)
					require.Equal(t, "error", info.String("level"))
					require.NotContains(t, info.String("description"), c.err.Error())
					if c.name == "redirect" {
						ex, _ := amf.AsObject(info.Get("ex"))
						require.Equal(t, amf.Object{{Name: "code", Value: 302.0}, {Name: "redirect", Value: "rtmp://other/live/cam"}}, ex)
					}
					require.Zero(t, p.closed())
				}

				// The same as our client understands it.
				_, err := w.dial("rtmp://server/live/cam").Publish(t.Context())
				if c.name == "redirect" {
					require.Equal(t, c.err, err)
					return
				}
				var said *StatusError
				require.ErrorAs(t, err, &said)
				require.Equal(t, c.publish, said.Code)
				err = w.dial("rtmp://server/live/cam").Play(t.Context(), &record{})
				require.ErrorAs(t, err, &said)
				require.Equal(t, c.play, said.Code)
			})
		})
	}
}

// Bad names do not reach the handler.
func TestBadNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		for command, code := range map[string]string{"publish": "NetStream.Publish.BadName", "play": "NetStream.Play.StreamNotFound"} {
			for _, name := range []any{"../cam", "", "a\x00", "%2e%2e", nil, 5, "_cam"} {
				p := w.connected()
				p.send(1, command, 2, nil, name)
				p.status(code)
				p.closed()
			}
		}
		require.Empty(t, w.h.requests)
	})
}

func TestEvicted(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *world)
		want error
	}{
		{"kicked", func(w *world) {
			for s := range w.h.hub.Sessions() {
				s.Kick(nil)
			}
		}, stream.ErrKicked},
		{"replaced", func(w *world) {
			_, err := w.h.hub.Publish(w.t.Context(), "live/cam", &stream.PublishOptions{Replace: true})
			require.NoError(w.t, err)
		}, stream.ErrReplaced},
		{"hub closed", func(w *world) { w.h.hub.Close() }, stream.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, &fakeHandler{}, &Server{})
				p := w.publishing("cam")
				p.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
				synctest.Wait()
				c.end(w)
				p.status("NetStream.Publish.Rejected")
				require.Zero(t, p.closed())
			})
		})
	}
}

// Bytes that the peer is told of when it has sent a window's worth.
func TestAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, &fakeHandler{}, &Server{})
		p := w.publishing("cam")
		p.write(appendControl(nil, typeWindowAckSize, 5000))
		for range 20 {
			p.write(appendChunks(nil, defaultChunkSize, 4, typeAudio, 0, 1, mp3, nil))
		}
		m := p.message()
		require.EqualValues(t, typeAck, m.typ)
		p.write(appendEvent(nil, eventPingRequest, 77))
		for m.typ != typeUserControl {
			m = p.message()
		}
		require.Equal(t, []byte{0, eventPingResponse, 0, 0, 0, 77}, m.body)
	})
}
