package deliver

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Eyevinn/dash-mpd/mpd"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/hls/hlscheck"
	"github.com/runnel-media/runnel/stream"
)

// copied makes renditions of a stream's picture that are the picture itself.
func copied(running *atomic.Int32, late time.Duration, names ...string) *stream.Derivation {
	d := &stream.Derivation{Make: func(ctx context.Context, src *stream.Subscriber, outs []*stream.Publisher) error {
		running.Add(1)
		defer running.Add(-1)
		var said *stream.Track
		var held []*stream.Frame
		for f, err := range src.Frames(ctx) {
			if err != nil {
				return err
			}
			if f.Track.Kind() != stream.Video {
				continue
			}
			for held = append(held, f); f.DTS-held[0].DTS >= late; held = held[1:] {
				for _, out := range outs {
					if said != f.Track {
						if err := out.SetTracks(f.Track); err != nil {
							return err
						}
					}
					own := *held[0]
					if err := out.Write(&own); err != nil {
						return err
					}
				}
				said = f.Track
			}
		}
		return nil
	}}
	for i, name := range names {
		d.Renditions = append(d.Renditions, stream.RenditionInfo{Name: name, Width: 160 >> i, Height: 90 >> i})
	}
	return d
}

// Renditions of the picture that somebody else makes are variants, with segments
// where the stream's own are, as long as somebody watches.
func TestHLSLadder(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		b.run(t)
		stop := b.source("live/x")
		defer stop()
		var running atomic.Int32
		remove, err := b.hub.Stream("live/x").Derive(copied(&running, 700*time.Millisecond, "small", "tiny"))
		require.NoError(t, err)
		_, err = b.hub.Stream("live/x").Derive(&stream.Derivation{
			Renditions: []stream.RenditionInfo{{Name: "sound", Tracks: []*stream.Track{{Codec: stream.Opus}}}},
			Make:       func(context.Context, *stream.Subscriber, []*stream.Publisher) error { panic("not for HLS") },
		})
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		require.Zero(t, running.Load(), "nobody watches")

		at := time.Now()
		variants, _, found := hlscheck.Multivariant(b.get("/live/x.m3u8").body)
		require.Empty(t, found)
		require.Len(t, variants, 3)
		require.Less(t, time.Since(at), ladderPatience)
		require.EqualValues(t, 1, running.Load())
		time.Sleep(5 * time.Second)
		var lists []*hlscheck.Playlist
		for _, v := range variants {
			p, found := hlscheck.Media(b.get(resolve(t, "/live/x.m3u8", v.URI)).body)
			require.Empty(t, found)
			lists = append(lists, p)
		}
		for _, p := range lists[1:] {
			both := min(len(p.Segments), 2)
			require.Equal(t, 2, both)
			for _, seg := range p.Segments[:both] {
				for _, own := range lists[0].Segments {
					if own.Sequence == seg.Sequence {
						require.Equal(t, own.Duration, seg.Duration)
						require.Equal(t, own.Time, seg.Time)
						require.NotEmpty(t, b.get(resolve(t, "/live/x/_hls/live/v.m3u8", seg.URI)).body)
					}
				}
			}
		}
		doc, err := mpd.MPDFromBytes(b.get("/live/x.mpd").body)
		require.NoError(t, err)
		sets := doc.Periods[len(doc.Periods)-1].AdaptationSets
		require.Len(t, sets, 2)
		require.Len(t, sets[0].Representations, 3)

		time.Sleep(45 * time.Second)
		require.Zero(t, running.Load(), "nobody watches any more")
		variants, _, _ = hlscheck.Multivariant(b.get("/live/x.m3u8").body)
		require.Len(t, variants, 3)
		remove()
		time.Sleep(15 * time.Second)
		variants, _, _ = hlscheck.Multivariant(b.get("/live/x.m3u8").body)
		require.Len(t, variants, 1)
	})
}

// What does not come holds up the first viewer only.
func TestHLSLadderFails(t *testing.T) {
	inHLSBed(t, nil, func(t *testing.T, b *hlsBed) {
		b.run(t)
		defer b.source("live/x")()
		d := copied(new(atomic.Int32), 0, "small")
		d.Make = func(ctx context.Context, src *stream.Subscriber, _ []*stream.Publisher) error {
			for _, err := range src.Frames(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		}
		_, err := b.hub.Stream("live/x").Derive(d)
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		for _, wait := range []time.Duration{ladderPatience, 0, 0} {
			at := time.Now()
			variants, _, _ := hlscheck.Multivariant(b.get("/live/x.m3u8").body)
			require.Len(t, variants, 1)
			require.Equal(t, wait, time.Since(at))
		}
	})
}
