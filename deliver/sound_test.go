package deliver

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/stream"
	"github.com/runnel-media/runnel/stream/streamtest"
)

// dub gives a stream a rendition of its sound in another codec: each frame becomes one of
// a pattern of that codec. runs counts how often it was made.
func dub(t *testing.T, s *stream.Stream, codec stream.Codec, runs *atomic.Int32) (remove func()) {
	var made *stream.Track
	var data []byte
	pattern := &streamtest.Pattern{NoVideo: true, Audio: codec}
	for f := range pattern.Frames(1) {
		made, data = f.Track, f.Data
	}
	for _, own := range s.Tracks() {
		if own.Kind() == stream.Audio {
			c := *made
			c.ID = own.ID
			made = &c
		}
	}
	remove, err := s.Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{{Name: codec.String(), Tracks: []*stream.Track{made}}},
		Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
			runs.Add(1)
			if err := outs[0].SetTracks(made); err != nil {
				return err
			}
			for f, err := range src.Frames(ctx) {
				if err != nil {
					return err
				}
				if f.Track.Kind() != stream.Audio {
					continue
				}
				if err := outs[0].Write(&stream.Frame{Track: made, DTS: f.DTS, PTS: f.PTS, Key: true, Data: data}); err != nil {
					return err
				}
			}
			return nil
		},
	})
	require.NoError(t, err)
	return remove
}

// sounds returns the codecs of what a player was told, and how many frames of each it got.
func sounds(p *player) (told []stream.Codec, frames map[stream.Codec]int) {
	frames = make(map[stream.Codec]int)
	for _, f := range p.got() {
		frames[f.Track.Codec]++
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, track := range p.tracks {
		if track.Kind() == stream.Audio {
			told = append(told, track.Codec)
		}
	}
	return told, frames
}

// Players get the sound in a codec that they know, made once for all of them.
func TestSound(t *testing.T) {
	overKinds(t, func(t *testing.T, b *bed) {
		src := publish(t, b.hub, "live/x", &streamtest.Pattern{Audio: stream.Opus})
		var runs atomic.Int32
		dub(t, src.pub.Stream(), stream.AAC, &runs)
		src.write(3)
		stop := src.run()
		defer stop()
		want, other := stream.AAC, stream.Opus
		switch {
		case b.kind.rtmp: // ours, which lists Opus
			want, other = other, want
		case b.kind.container == containerMP4:
			want, other = other, want
		}
		players := []*player{b.must(""), b.must(""), b.must("live/x?audio=" + other.String())}
		for i, codec := range []stream.Codec{want, want, other} {
			eventually(t, func() bool {
				_, frames := sounds(players[i])
				return frames[codec] > 8 && frames[stream.H264] > 4
			}, "sound and pictures")
			told, frames := sounds(players[i])
			require.Equal(t, []stream.Codec{codec}, told)
			require.Len(t, frames, 2)
		}
		require.EqualValues(t, 1, runs.Load())
	})
}

// Sound that a container can't carry is taken from what rendition it can carry.
func TestSoundCarried(t *testing.T) {
	mp3 := &stream.Track{Codec: stream.MP3, ID: 2}
	opus, aac := &stream.Track{Codec: stream.Opus, ID: 2}, &stream.Track{Codec: stream.AAC, ID: 2}
	hub := &stream.Hub{}
	defer hub.Close()
	pub, err := hub.Publish(t.Context(), "live/x", nil)
	require.NoError(t, err)
	s := pub.Stream()
	_, err = s.Derive(&stream.Derivation{
		Renditions: []stream.RenditionInfo{
			{Name: "opus", Tracks: []*stream.Track{opus}}, {Name: "aac", Tracks: []*stream.Track{aac}},
			{Name: "both", Tracks: []*stream.Track{{Codec: stream.H264, ID: 1}, aac}},
		},
		Make: func(context.Context, *stream.Subscriber, []*stream.Publisher) error { return nil },
	})
	require.NoError(t, err)
	pcm := &stream.Track{Codec: stream.PCMA, ID: 2}
	for _, c := range []struct {
		own     *stream.Track
		wanted  stream.Codec
		carried []stream.Codec
		name    string // "": its own
		lacking bool
	}{
		{own: opus, carried: []stream.Codec{stream.Opus, stream.AAC}},
		{own: opus, wanted: stream.AAC, carried: []stream.Codec{stream.Opus, stream.AAC}, name: "aac"},
		{own: aac, wanted: stream.AAC, carried: []stream.Codec{stream.Opus, stream.AAC}},
		{own: mp3, wanted: stream.AC3, carried: []stream.Codec{stream.MP3, stream.AAC}},
		{own: pcm, carried: []stream.Codec{stream.Opus, stream.AAC}, name: "aac"},
		{own: pcm, carried: []stream.Codec{stream.Opus}, name: "opus"},
		{own: pcm, carried: []stream.Codec{stream.PCMA, stream.Opus}},
		{own: pcm, wanted: stream.AC3, carried: []stream.Codec{stream.PCMA, stream.Opus}, lacking: true},
		{own: nil, wanted: stream.AAC, carried: []stream.Codec{stream.AAC}},
	} {
		var tracks []*stream.Track
		if c.own != nil {
			tracks = append(tracks, c.own)
		}
		r, lacking := soundOf(tracks, s.Renditions(), c.wanted, func(t *stream.Track) bool {
			for _, codec := range c.carried {
				if t.Codec == codec {
					return true
				}
			}
			return false
		})
		name := ""
		if r != nil {
			name = r.Name()
		}
		require.Equal(t, c.name, name, "%v", c)
		require.Equal(t, c.lacking, lacking, "%v", c)
	}
}

// A peer says what it wants, or is taken to know what all do.
func TestWantedSound(t *testing.T) {
	for _, c := range []struct {
		container container
		query     string
		accept    []string
		want      stream.Codec
	}{
		{container: containerFLV, want: stream.AAC},
		{container: containerTS, want: stream.AAC},
		{container: containerMP4},
		{container: containerRTMP, want: stream.AAC},
		{container: containerRTMP, accept: []string{}, want: stream.AAC},
		{container: containerRTMP, accept: []string{"hvc1"}, want: stream.AAC},
		{container: containerRTMP, accept: []string{"hvc1", "Opus"}},
		{container: containerRTMP, accept: []string{"*"}},
		{container: containerRTMP, accept: []string{"*"}, query: "audio=aac", want: stream.AAC},
		{container: containerFLV, query: "token=x&audio=opus", want: stream.Opus},
		{container: containerFLV, query: "audio=h264", want: stream.AAC},
		{container: containerFLV, query: "audio=%zz", want: stream.AAC},
	} {
		got := wantedSound(&auth.Request{RawQuery: c.query, Accept: c.accept}, c.container)
		require.Equal(t, c.want, got, "%v", c)
	}
}

// A rendition that comes and goes while players play is followed, and when the stream
// ends they get the rest of it.
func TestSoundComesAndGoes(t *testing.T) {
	b := newBed(t, kind{container: containerFLV, memory: true}, nil)
	src := publish(t, b.hub, "live/x", &streamtest.Pattern{Audio: stream.Opus})
	src.write(3)
	stop := src.run()
	defer stop()
	p := b.must("")
	eventually(t, func() bool { _, frames := sounds(p); return frames[stream.Opus] > 10 }, "its own sound")
	var runs atomic.Int32
	remove := dub(t, src.pub.Stream(), stream.AAC, &runs)
	eventually(t, func() bool { _, frames := sounds(p); return frames[stream.AAC] > 10 }, "the rendition's")
	remove()
	_, before := sounds(p)
	eventually(t, func() bool { _, frames := sounds(p); return frames[stream.Opus] > before[stream.Opus]+10 }, "its own sound again")
	dub(t, src.pub.Stream(), stream.AAC, &runs)
	eventually(t, func() bool { _, frames := sounds(p); return frames[stream.AAC] > before[stream.AAC]+10 }, "the rendition's again")
	stop()
	require.NoError(t, src.pub.Close())
	require.NoError(t, p.end(t))
	var last *stream.Frame
	for _, f := range src.written {
		if f.Track.Kind() == stream.Audio {
			last = f
		}
	}
	got := p.got()
	at := got[len(got)-1]
	for i := len(got) - 1; at.Track.Kind() != stream.Audio; i-- {
		at = got[i]
	}
	require.Equal(t, stream.AAC, at.Track.Codec)
	require.InDelta(t, last.PTS.Milliseconds(), at.PTS.Milliseconds(), 1)
}

// Sound that players can't have is told.
func TestSoundMissing(t *testing.T) {
	b := newBed(t, kind{container: containerMP4, memory: true}, nil)
	events := b.hub.Events(t.Context())
	src := publish(t, b.hub, "live/x", &streamtest.Pattern{Audio: stream.PCMA})
	src.write(3)
	stop := src.run()
	defer stop()
	p := b.must("")
	eventually(t, func() bool { _, frames := sounds(p); return frames[stream.H264] > 10 }, "pictures")
	for e := range events {
		if e, ok := e.(stream.SoundMissing); ok {
			require.Equal(t, stream.PCMA, e.Codec)
			require.ErrorIs(t, e.Err, stream.ErrUnsupported)
			return
		}
	}
	require.Fail(t, "the hub has ended")
}

// HLS and DASH have the sound in the codec that is asked for.
func TestHLSSound(t *testing.T) {
	for _, codec := range []stream.Codec{0, stream.AAC} {
		t.Run(codec.String(), func(t *testing.T) {
			change := func(b *hlsBed) { b.srv.HLS.Audio = codec }
			inHLSBed(t, change, func(t *testing.T, b *hlsBed) {
				src := publish(t, b.hub, "live/x", &streamtest.Pattern{Audio: stream.Opus})
				b.run(t) // packages from the start
				stop := src.run()
				defer stop()
				time.Sleep(100 * time.Millisecond) // the rendition comes a little later
				var runs atomic.Int32
				dub(t, src.pub.Stream(), stream.AAC, &runs)
				r := b.get("/live/x.m3u8")
				want, lacks := "mp4a.40.2", "opus"
				if codec == 0 {
					want, lacks = lacks, want
				}
				require.Contains(t, string(r.body), want)
				require.NotContains(t, string(r.body), lacks)
				_, audio := b.playlists("/live/x.m3u8")
				require.NotContains(t, string(b.get(audio).body), "#EXT-X-DISCONTINUITY\n")
				stop()
				_ = src.pub.Close()
			})
		})
	}
}
