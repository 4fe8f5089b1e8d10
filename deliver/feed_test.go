package deliver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// countingMuxer counts what a feed asks of a muxer.
type countingMuxer struct {
	muxer
	frames, configs, supported atomic.Int64
}

func (m *countingMuxer) appendFrame(dst []byte, f *stream.Frame) []byte {
	m.frames.Add(1)
	return m.muxer.appendFrame(dst, f)
}

func (m *countingMuxer) configure(tracks []*stream.Track, meta stream.Metadata) error {
	m.configs.Add(1)
	return m.muxer.configure(tracks, meta)
}

func (m *countingMuxer) supports(t *stream.Track) error {
	m.supported.Add(1)
	return m.muxer.supports(t)
}

// count puts a counting muxer into the feed that players of live/x will use.
func (b *bed) count(accept string) (*countingMuxer, *feed) {
	sub, err := b.hub.Subscribe(b.t.Context(), "live/x", nil)
	require.NoError(b.t, err)
	key := feedKey{stream: sub.Stream(), container: b.kind.container, websocket: b.kind.ws, accept: accept}
	key.sound = wantedSound(&auth.Request{Accept: strings.Split(accept, ",")}, b.kind.container)
	f := b.srv.newFeed(key)
	m := &countingMuxer{muxer: f.mux}
	f.mux = m
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	b.srv.mu.Lock()
	b.srv.feeds = map[feedKey]*feed{key: f}
	p := &playing{feed: f}
	f.viewers = 1
	b.srv.players = map[*playing]struct{}{p: {}}
	b.srv.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.run(ctx, sub)
	}()
	b.t.Cleanup(func() {
		b.srv.leave(p)
		<-done
	})
	return m, f
}

// Whatever the number of players, each frame is muxed once.
func TestMuxedOnce(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(1)
		m, _ := b.count("")
		players := make([]*player, 10)
		if b.kind.name == "flv-tcp" {
			players = make([]*player, 50)
		}
		for i := range players {
			players[i] = b.must("")
		}
		for range 30 {
			src.write(10)
			time.Sleep(time.Millisecond)
		}
		for _, p := range players {
			checkRun(t, p.waitLast(t, src), src.written)
		}
		require.EqualValues(t, len(src.written), m.frames.Load())
		require.EqualValues(t, 1, m.configs.Load())
	})
}

// A track that cannot be sent costs next to nothing, and does not keep the
// others from being sent.
func TestRefusedTrack(t *testing.T) {
	b := newBed(t, kind{container: containerMP4}, nil)
	src := publish(t, b.hub, "live/x", &streamtest.Pattern{Video: stream.VP8})
	src.write(50)
	m, _ := b.count("")
	p := b.must("")
	src.write(100)
	audio := &source{written: slices.DeleteFunc(slices.Clone(src.written), func(f *stream.Frame) bool { return f.Track.Kind() == stream.Video })}
	checkRun(t, p.waitLast(t, audio), audio.written)
	require.Len(t, p.tracks, 1)
	require.Less(t, m.supported.Load(), int64(20))
}

// Of two tracks of a kind players get one, until it goes.
func TestOneTrackOfAKind(t *testing.T) {
	b := newBed(t, kind{container: containerFLV}, nil)
	pattern := &streamtest.Pattern{NoAudio: true}
	src := publish(t, b.hub, "live/x", pattern)
	first := pattern.Tracks()[0]
	second := *first
	second.ID = 7
	require.NoError(t, src.pub.SetTracks(first, &second))
	write := func(tracks ...*stream.Track) {
		f, _ := src.next()
		for _, track := range tracks {
			g := *f
			g.Track = track
			require.NoError(t, src.pub.Write(&g))
			if track == tracks[0] {
				src.written = append(src.written, &g)
			}
		}
	}
	for range 30 {
		write(first, &second)
	}
	p := b.must("")
	for range 30 { // up to the next key frame: the newest one is of the other track
		write(first, &second)
	}
	checkRun(t, p.waitLast(t, src), src.written)
	require.NoError(t, src.pub.SetTracks(&second))
	for range 30 {
		write(&second)
	}
	checkRun(t, p.waitLast(t, src), src.written)
}

// A stream's tracks may take a moment to come, and never come.
func TestSettle(t *testing.T) {
	for _, k := range kinds {
		if !k.memory {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, k, nil)
				play := func() *player {
					var p *player
					done := make(chan struct{})
					go func() { defer close(done); p = b.must("") }()
					<-done
					return p
				}
				// One picture, then nothing more.
				pattern := &streamtest.Pattern{}
				src := publish(t, b.hub, "live/x", pattern)
				require.NoError(t, src.pub.SetTracks(pattern.Tracks()[:1]...))
				p := play()
				src.write(1)
				began := time.Now()
				p.waitFrames(t, 1)
				require.LessOrEqual(t, time.Since(began), settle+10*time.Millisecond)
				p.leave()

				// Those who come later do not wait.
				time.Sleep(time.Second)
				began = time.Now()
				p = play()
				p.waitFrames(t, 1)
				require.LessOrEqual(t, time.Since(began), 10*time.Millisecond)
				p.leave()
				src.pub.Close()

				// The sound is late by a few frames.
				src = publish(t, b.hub, "live/x", pattern)
				require.NoError(t, src.pub.SetTracks(pattern.Tracks()[:1]...))
				p = play()
				src.write(1)
				time.Sleep(100 * time.Millisecond)
				require.Empty(t, p.got())
				require.NoError(t, src.pub.SetTracks(pattern.Tracks()...))
				src.write(10)
				p.waitLast(t, src)
				checkRun(t, p.got(), src.written)
				require.Len(t, p.tracks, 2)
				require.Equal(t, true, b.kind.rtmp || p.meta["hasAudio"] == true)
				p.leave()
				src.pub.Close()

				// And if it comes when nobody waits any more, it is sent as well.
				src = publish(t, b.hub, "live/x", pattern)
				require.NoError(t, src.pub.SetTracks(pattern.Tracks()[:1]...))
				p = play()
				src.write(1)
				p.waitFrames(t, 1)
				require.Len(t, p.tracks, 1)
				require.NoError(t, src.pub.SetTracks(pattern.Tracks()...))
				src.write(100)
				checkRun(t, p.waitLast(t, src), src.written)
				require.Len(t, p.tracks, 2)
			})
		})
	}
}

// Metadata that changes is passed on; data messages pass without a
// configuration being repeated for them.
func TestMetadataAndData(t *testing.T) {
	for _, k := range kinds {
		if k.container == containerMP4 {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			b := newBed(t, k, nil)
			pattern := &streamtest.Pattern{}
			src := publish(t, b.hub, "live/x", pattern)
			src.pub.SetMetadata(stream.Metadata{"title": "one"})
			src.write(20)
			m, f := b.count("")
			p := b.must("")
			p.waitFrames(t, 1)
			p.mu.Lock()
			require.Equal(t, "one", p.meta["title"])
			p.mu.Unlock()
			src.pub.SetMetadata(stream.Metadata{"title": "two"})
			src.write(20)
			p.waitLast(t, src)
			p.mu.Lock()
			require.Equal(t, "two", p.meta["title"])
			p.mu.Unlock()
			require.EqualValues(t, 2, m.configs.Load())

			cue := &stream.Track{ID: 9, Codec: stream.AMF0}
			body, err := amf.Append(nil, "onCuePoint", 1.0)
			require.NoError(t, err)
			require.NoError(t, src.pub.SetTracks(append(pattern.Tracks(), cue)...))
			last := src.written[len(src.written)-1]
			require.NoError(t, src.pub.Write(&stream.Frame{Track: cue, DTS: last.DTS, PTS: last.PTS, Data: body}))
			src.write(20)
			p.waitLast(t, src)
			i := slices.IndexFunc(p.got(), func(f *stream.Frame) bool { return f.Track.Kind() == stream.Data })
			require.GreaterOrEqual(t, i, 0)
			require.Equal(t, body, p.got()[i].Data)
			p.leave()
			b.srv.mu.Lock()
			f.cancel()
			b.srv.mu.Unlock()
			eventually(t, func() bool { return f.log.Players() == 0 }, "the end")
			require.Equal(t, 2, f.version, "what was said of the media has not changed")
		})
	}
}

// When the picture is gone for good, players start with the sound.
func TestVideoGone(t *testing.T) {
	b := newBed(t, kind{container: containerFLV}, nil)
	src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
	src.write(100)
	p := b.must("") // keeps the feed
	p.waitLast(t, src)
	audio := &streamtest.Pattern{NoVideo: true}
	require.NoError(t, src.pub.SetTracks(append(src.pub.Stream().Tracks()[:1:1], audio.Tracks()...)...))
	src.use(audio)
	for range 20 {
		src.write(50) // a second
		p.waitLast(t, src)
	}
	q := b.must("")
	got := q.waitLast(t, src)
	require.Less(t, len(got), 60)
}

// With the cache off, players wait for the next key frame.
func TestCacheOff(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		b.hub.Cache.Off = true
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		src.write(10)
		p, q := b.must(""), (*player)(nil)
		for q == nil || len(q.got()) == 0 {
			src.write(1)
			if len(p.got()) > 10 && q == nil {
				p.waitLast(t, src) // no key frame is on its way
				q = b.must("")
				time.Sleep(10 * time.Millisecond)
				require.Empty(t, q.got())
			}
			time.Sleep(500 * time.Microsecond)
		}
		src.write(10)
		first, second := checkRun(t, p.waitLast(t, src), src.written), checkRun(t, q.waitLast(t, src), src.written)
		require.Greater(t, first, 0)
		require.Greater(t, second, first)
	})
}

// A stream of the same name is another stream.
func TestSameNameAgain(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		one := publish(t, b.hub, "live/x", &streamtest.Pattern{})
		one.write(50)
		p := b.must("")
		p.waitLast(t, one)
		one.pub.Close()
		two := publish(t, b.hub, "live/x", &streamtest.Pattern{KeySize: 5000})
		two.write(50)
		q := b.must("")
		require.NoError(t, p.end(t))
		checkRun(t, p.got(), one.written)
		checkRun(t, q.waitLast(t, two), two.written)
	})
}

// Frames that a container cannot hold are left out, and nothing with them.
func TestFrameTooLarge(t *testing.T) {
	for _, k := range []kind{{name: "flv", container: containerFLV}, {name: "ws", container: containerFLV, ws: true}, {name: "rtmp", container: containerRTMP, rtmp: true}} {
		t.Run(k.name, func(t *testing.T) {
			b := newBed(t, k, nil)
			src := publish(t, b.hub, "live/x", &streamtest.Pattern{NoAudio: true})
			src.write(5)
			p := b.must("")
			p.waitLast(t, src)
			f, _ := src.next()
			f.Data = append(f.Data, make([]byte, 16<<20)...)
			require.NoError(t, src.pub.Write(f))
			src.write(5)
			checkRun(t, p.waitLast(t, src), src.written)
		})
	}
}

func TestMessageSizes(t *testing.T) {
	f := &feed{key: feedKey{websocket: true}}
	for _, n := range []int{1, 125, 126, 1000, 65535, 65536, 1 << 20} {
		body := bytes.Repeat([]byte("ab"), n)[:n]
		want := []byte{0x82}
		switch {
		case n < 126:
			want = append(want, byte(n))
		case n < 65536:
			want = binary.BigEndian.AppendUint16(append(want, 126), uint16(n))
		default:
			want = binary.BigEndian.AppendUint64(append(want, 127), uint64(n))
		}
		want = append(want, body...)
		for _, room := range []int{0, 2*n + 100} {
			dst := append(make([]byte, 0, 3+room), "pre"...)
			got := f.message(dst, func(b []byte) []byte { return append(b, body...) })
			require.Equal(t, "pre"+string(want), string(got), "%d", n)
		}
		require.Equal(t, want, f.wrap(body))
	}
	require.Equal(t, []byte("pre"), f.message([]byte("pre"), func(b []byte) []byte { return b }))
}

// Players that say what they take get what they take.
func TestAccept(t *testing.T) {
	require.Equal(t, "", accepted(nil))
	require.Equal(t, "", accepted([]string{"av01", "*"}))
	require.Equal(t, "none", accepted([]string{}))
	require.Equal(t, "none,hvc1,Opus", accepted([]string{"Opus", "avc1", "hvc1", "xxxx"}))

	b := newBed(t, kind{container: containerRTMP}, nil)
	publish(t, b.hub, "live/hevc", &streamtest.Pattern{Video: stream.H265, NoAudio: true}).write(50)
	publish(t, b.hub, "live/hevcaac", &streamtest.Pattern{Video: stream.H265}).write(50)
	publish(t, b.hub, "live/avcopus", &streamtest.Pattern{Audio: stream.Opus}).write(50)
	for _, tt := range []struct {
		stream string
		accept []string
		types  string // of the first messages that are media
	}{
		{"live/hevc", nil, "vvvv"},
		{"live/hevc", []string{"*"}, "vvvv"},
		{"live/hevc", []string{"hvc1"}, "vvvv"},
		{"live/hevc", []string{"av01"}, ""},
		{"live/hevc", []string{}, ""},
		{"live/hevcaac", []string{"hvc1"}, "vava"},
		{"live/hevcaac", []string{"av01"}, "aaaa"},
		{"live/avcopus", []string{"Opus"}, "vava"},
		{"live/avcopus", []string{}, "vvvv"},
	} {
		t.Run(fmt.Sprint(tt.stream, tt.accept), func(t *testing.T) {
			c := newFakeConn(t)
			done := c.play(b.srv, tt.stream, tt.accept)
			if tt.types == "" {
				require.ErrorIs(t, <-done, stream.ErrUnsupported)
				require.False(t, c.accepted.Load())
				return
			}
			c.expect("hello")
			types := ""
			for len(types) < 4 {
				switch m := c.message(); m.typ {
				case 8:
					types += "a"
				case 9:
					types += "v"
				}
			}
			if tt.types[0] == tt.types[1] {
				require.Equal(t, tt.types, types)
			} else {
				require.Equal(t, "va", types[:2], "the configurations")
			}
			c.leave()
			c.client.Close()
			<-done
		})
	}
}
