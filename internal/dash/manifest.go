package dash

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/runnel-media/runnel/internal/hls"
	"github.com/runnel-media/runnel/stream"
)

// ContentType is the media type of an MPD.
const ContentType = "application/dash+xml"

// renditions is the number of those in CMAF: each is a Representation. Tracks of
// video in one codec, between which players switch, are an AdaptationSet.
const renditions = hls.TS

// A Manifest is the MPD of one stream. Its methods may be called from any number
// of goroutines.
type Manifest struct {
	// Set before the first call.

	Packager *hls.Packager // without Config.Encrypt
	// MediaBase is put before the names of media, such as "cam/_hls/": a
	// relative reference to be resolved against the URL of the MPD, in which
	// what needs it is percent-encoded.
	MediaBase string

	mu        sync.Mutex
	timeline  timeline
	bandwidth [renditions]int // the highest so far
	shown     state           // what text was made of
	text      []byte          // up to what tells the time
}

// state is what an MPD is made of, in brief.
type state struct {
	first, last [renditions]uint64 // Media Sequence Numbers; all 0: no segments
	count       [renditions]int
	target      time.Duration
	ended       bool
}

// MPD returns the MPD as it is at the time now. It waits for the first segments
// as hls.Packager's Wait does, with who as the address that the request is
// counted for, and with its errors: stream.ErrNotFound if there is no media,
// stream.ErrUnsupported if CMAF cannot carry the stream's codecs. It is
// stream.ErrUnsupported too if the segments are encrypted: DASH has no such
// encryption.
func (m *Manifest) MPD(ctx context.Context, who netip.Addr, now time.Time) ([]byte, error) {
	err := m.Packager.Wait(ctx, hls.Video, hls.Directives{}, who)
	if errors.Is(err, stream.ErrNotFound) || errors.Is(err, stream.ErrUnsupported) {
		err = m.Packager.Wait(ctx, hls.Audio, hls.Directives{}, who)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var views [renditions]hls.View
	is := state{ended: true}
	for r := range views {
		views[r] = m.Packager.View(hls.Rendition(r))
		v := &views[r]
		if n := len(v.Segments); n > 0 {
			if v.Segments[n-1].Key != nil {
				return nil, fmt.Errorf("dash: segments encrypted as in HLS: %w", stream.ErrUnsupported)
			}
			is.first[r], is.last[r], is.count[r] = v.Segments[0].Sequence, v.Segments[n-1].Sequence, n
			is.target = v.TargetDuration
			is.ended = is.ended && v.Ended
		}
	}
	if is.count == [renditions]int{} {
		return nil, stream.ErrNotFound
	}
	if m.text == nil || is != m.shown {
		m.timeline.observe(views, now)
		for r, v := range views {
			m.bandwidth[r] = max(m.bandwidth[r], v.Bandwidth)
		}
		m.shown, m.text = is, m.render(views, is, now)
	}
	if m.text == nil {
		return nil, stream.ErrNotFound // nothing but gaps
	}
	w := writer{append(make([]byte, 0, len(m.text)+128), m.text...)}
	if !is.ended {
		// The time travels with the MPD (DASH 5.8.5.7): the one scheme that
		// needs no other resource. A cache makes it late by the age of its
		// copy, at most a segment's length.
		w.text("  <UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"").time(now).text("\"/>\n")
	}
	return w.text("</MPD>\n").b, nil
}
