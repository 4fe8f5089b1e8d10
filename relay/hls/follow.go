package hls

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/internal/fmp4"
	"github.com/runnel-media/runnel/internal/mpegts"
	"github.com/runnel-media/runnel/stream"
)

const (
	// startBehind is how many segments from its end a live stream begins.
	startBehind = 3
	// maxMissed is how many fetches in a row may fail, of segments and of playlists.
	maxMissed = 3
	retryWait = 300 * time.Millisecond
	minReload = 200 * time.Millisecond
	maxDelay  = 4 * time.Second
)

// A chunk is the media of a segment.
type chunk struct {
	frames []*stream.Frame
	tracks []*stream.Track
	delay  time.Duration // how long to wait with it
}

// SetTracks implements mpegts.Sink.
func (c *chunk) SetTracks(tracks ...*stream.Track) error {
	c.tracks = slices.Clone(tracks)
	return nil
}

// Write implements mpegts.Sink.
func (c *chunk) Write(f *stream.Frame) error {
	c.frames = append(c.frames, f)
	return nil
}

// A follower reads one media playlist as it grows.
type follower struct {
	client *client
	at     *url.URL // of the playlist
	limit  int64    // of a segment, bytes

	out chan chunk // closed at the end
	err error      // why, once it is

	// owned by run
	base *url.URL        // what the playlist's references are relative to: at, or where that led
	ts   *mpegts.Demuxer // nil before the first segment, and after a break
	into chunk           // what ts fills
	mp4  fmp4.Demuxer
	init *piece // that mp4 has read
}

// run reads until the playlist's end, which is no error. p is the playlist as it
// was just now; nil: it is not known yet.
func (f *follower) run(ctx context.Context, p *playlist) (err error) {
	f.base = f.at
	asked := time.Now()
	for p == nil || len(p.segments) == 0 && !p.ended {
		if p != nil {
			if err := sleep(ctx, time.Until(asked.Add(max(p.target/2, minReload)))); err != nil {
				return err
			}
		}
		asked = time.Now()
		if p, err = f.load(ctx); err != nil {
			return err
		}
	}
	next := p.first
	if n := uint64(len(p.segments)); !p.ended && n > startBehind {
		next += n - startBehind
	}
	if !p.ended { // what comes next is not to come late
		ahead := time.Duration(0)
		for _, s := range p.segments[next-p.first:] {
			ahead += s.duration
		}
		f.into.delay = min(max(0, 2*p.target-ahead), maxDelay)
	}
	missed := 0
	for {
		for ; next < p.first+uint64(len(p.segments)); next++ {
			s := &p.segments[next-p.first]
			if s.gap {
				continue
			}
			err := f.segment(ctx, s, next)
			if err == nil {
				missed = 0
				err = f.send(ctx)
			} else if missed++; missed <= maxMissed && passing(err) && ctx.Err() == nil {
				f.ts = nil // what came before does not go on
				continue
			}
			if err != nil {
				return err
			}
		}
		if p.ended {
			if f.ts != nil {
				_ = f.ts.Close() // the last frames
				return f.send(ctx)
			}
			return nil
		}
		// What has just changed will not again for a target duration (RFC 8216 6.3.4).
		wait := p.target
		for {
			if err := sleep(ctx, time.Until(asked.Add(max(wait, minReload)))); err != nil {
				return err
			}
			asked = time.Now()
			if p, err = f.load(ctx); err != nil {
				return err
			}
			if end := p.first + uint64(len(p.segments)); end+maxMissed < next {
				return errors.New("relay/hls: the playlist has gone back")
			} else if end > next || p.ended {
				break
			}
			wait = p.target / 2
		}
		if next < p.first { // we were too slow
			next, f.ts = p.first, nil
		}
	}
}

// passing reports whether a segment can be left out for err.
func passing(err error) bool {
	return !errors.Is(err, stream.ErrUnsupported) && !errors.Is(err, errReference) && !errors.Is(err, auth.ErrDenied)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load fetches the playlist, and tries again if that fails by chance.
func (f *follower) load(ctx context.Context) (p *playlist, err error) {
	for range maxMissed {
		if p, f.base, err = f.client.playlist(ctx, f.at); err == nil && len(p.variants) > 0 {
			err = fmt.Errorf("%w: a multivariant playlist in the place of a media playlist", errPlaylist)
		}
		if err == nil || errors.Is(err, auth.ErrDenied) || errors.Is(err, stream.ErrUnsupported) || errors.Is(err, errReference) {
			return p, err
		}
		if err := sleep(ctx, retryWait); err != nil {
			return nil, err
		}
	}
	return nil, err
}

// send hands over what has come together.
func (f *follower) send(ctx context.Context) error {
	if len(f.into.frames) == 0 {
		return nil
	}
	select {
	case f.out <- f.into:
		f.into = chunk{tracks: f.into.tracks}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// segment fetches a segment and takes it apart.
func (f *follower) segment(ctx context.Context, s *segment, number uint64) error {
	b, err := f.client.piece(ctx, f.base, &s.piece, number, f.limit)
	if err != nil && passing(err) && !errors.Is(err, stream.ErrNotFound) {
		if err := sleep(ctx, retryWait); err != nil {
			return err
		}
		b, err = f.client.piece(ctx, f.base, &s.piece, number, f.limit)
	}
	if err != nil {
		return err
	}
	first := len(f.into.frames)
	switch {
	case s.init != nil:
		err = f.fragment(ctx, s.init, number, b)
	case len(b) > 0 && b[0] == 0x47: // the sync byte of MPEG-TS
		if s.discontinuity && f.ts != nil {
			_ = f.ts.Close()
			f.ts = nil
			first = len(f.into.frames)
		}
		if f.ts == nil {
			f.ts = &mpegts.Demuxer{Sink: &f.into}
		}
		_, err = f.ts.Write(b)
	default:
		err = fmt.Errorf("relay/hls: segments of another kind than MPEG-TS and fragmented MP4: %w", stream.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	if came := f.into.frames[first:]; !s.date.IsZero() && len(came) > 0 {
		for _, frame := range came {
			frame.Time = s.date.Add(frame.DTS - came[0].DTS)
		}
	}
	return nil
}

// fragment takes a segment of MP4 apart.
func (f *follower) fragment(ctx context.Context, init *piece, number uint64, b []byte) error {
	if f.init == nil || f.init.uri != init.uri || f.init.offset != init.offset {
		head, err := f.client.piece(ctx, f.base, init, number, maxInit)
		if err != nil {
			return err
		}
		if err := f.mp4.Init(head); err != nil {
			return err
		}
		f.init, f.into.tracks = init, f.mp4.Tracks()
	}
	frames, err := f.mp4.Segment(b)
	if err == nil {
		f.into.frames = append(f.into.frames, frames...)
	}
	return err
}
