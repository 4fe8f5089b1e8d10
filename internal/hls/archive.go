package hls

import (
	"time"

	"github.com/runnel-media/runnel/stream"
)

// An Archive is what is needed to play the stored segments of a stream, while it
// goes on and when it has ended: a media playlist for each rendition that only
// grows (EXT-X-PLAYLIST-TYPE EVENT), and a multivariant playlist over them. All
// are to lie in one directory with the segments, initialization segments and
// keys, each under its Name, so that any file server can serve them.
//
// Its zero value is ready. It is not safe for concurrent use, and keeps no media.
type Archive struct {
	lists [renditions]*archived
}

// An archived is the playlist of a rendition.
type archived struct {
	target      int
	first, last *Segment // without their bytes
	body        writer   // from the first segment on
	count       int
	media       bool // there was a segment that is not a gap
	independent bool
	tracks      []*stream.Track
	peak        int
	bits        float64
	length      time.Duration // that bits are for
}

// Add lists a segment behind those of its rendition that were added before. One
// that could not be stored is listed as a gap, so that what is around it stays
// where it is and players skip it.
func (a *Archive) Add(s *Segment, stored bool) {
	l := a.lists[s.Rendition]
	if l == nil {
		l = &archived{first: s.Bare(), independent: true}
		a.lists[s.Rendition] = l
	}
	l.body.head(s, l.last, l.last != nil)
	if !stored && !s.Gap {
		l.body.text("#EXT-X-GAP\n")
	}
	l.body.b = append(l.body.b, s.lines("")...)
	l.target = max(l.target, roundTarget(s.Duration))
	l.count++
	l.last = s.Bare()
	if s.Gap || !stored {
		return
	}
	l.media = true
	l.independent = l.independent && s.Independent
	bits := float64(s.size * 8)
	l.bits += bits
	l.length += s.Duration
	l.peak = max(l.peak, int(bits/s.Duration.Seconds()))
	if s.Init != nil {
		l.tracks = s.Init.tracks[:]
	}
}

// Len returns how many segments a rendition's playlist has.
func (a *Archive) Len(r Rendition) int {
	if l := a.lists[r]; l != nil {
		return l.count
	}
	return 0
}

// Playlist renders a rendition's media playlist, nil if there is none. ended tells
// that nothing will be added.
func (a *Archive) Playlist(r Rendition, ended bool) []byte {
	l := a.lists[r]
	if l == nil {
		return nil
	}
	w := writer{b: make([]byte, 0, len(l.body.b)+200)}
	version := 6
	if r == TS {
		version = 3
	}
	w.text("#EXTM3U\n#EXT-X-VERSION:").int(version)
	w.text("\n#EXT-X-TARGETDURATION:").int(l.target)
	w.text("\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA-SEQUENCE:").uint(l.first.Sequence)
	w.text("\n#EXT-X-DISCONTINUITY-SEQUENCE:").uint(l.first.discontinuitiesBefore()).text("\n")
	w.b = append(w.b, l.body.b...)
	if ended {
		w.text("#EXT-X-ENDLIST\n")
	}
	return w.b
}

// Multivariant renders the multivariant playlist, nil as long as there is no
// media. prefix leads to where the media playlists are.
func (a *Archive) Multivariant(prefix string) []byte {
	v := variants{version: 6, independent: true}
	for r := range TS {
		if l := a.lists[r]; l != nil && l.media {
			v.list = append(v.list, choice{r: r, tracks: l.tracks, peak: l.peak, average: int(l.bits / l.length.Seconds())})
			v.independent = v.independent && l.independent
		}
	}
	if len(v.list) == 0 {
		return nil
	}
	return v.render(false, func(r Rendition) string { return prefix + r.String() + ".m3u8" })
}
