package hls

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/runnel-media/runnel/stream"
)

// MultivariantOptions are what a multivariant playlist may be asked for.
type MultivariantOptions struct {
	TS        bool // the MPEG-TS rendition alone, instead of CMAF
	AudioOnly bool // beside the picture, a variant with the sound alone for the weakest networks

	// Prefix is put before, and Suffix after the names of the media playlists,
	// such as "cam/_hls/TOKEN/" and "?x=y". They must hold nothing that needs
	// escaping in a URI.
	Prefix, Suffix string
}

// Multivariant renders the multivariant playlist. It waits for the first
// segments, as Wait does and with its errors; stream.ErrUnsupported says that
// CMAF cannot carry the stream's codecs. The bit rates are measured, so that a
// later call gives better ones.
func (p *Packager) Multivariant(ctx context.Context, who netip.Addr, o MultivariantOptions) ([]byte, error) {
	first := Video
	if o.TS {
		first = TS
	}
	err := p.Wait(ctx, first, Directives{}, who)
	if !o.TS && (errors.Is(err, stream.ErrNotFound) || errors.Is(err, stream.ErrUnsupported)) {
		err = p.Wait(ctx, Audio, Directives{}, who)
	}
	if err != nil {
		return nil, err
	}
	v := p.variants(o.TS)
	w := writer{b: make([]byte, 0, 512)}
	w.text("#EXTM3U\n#EXT-X-VERSION:").int(v.version)
	if v.independent {
		w.text("\n#EXT-X-INDEPENDENT-SEGMENTS")
	}
	w.text("\n")
	uri := func(r Rendition) string { return o.Prefix + r.String() + ".m3u8" + o.Suffix }
	both := len(v.list) == 2
	if both {
		audio := v.list[1].tracks[0]
		w.text(`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES`)
		if isLanguage(audio.Language) {
			w.text(`,LANGUAGE="`).text(audio.Language).text(`"`)
		}
		if info, err := audio.Audio(); err == nil && info.Channels > 0 {
			w.text(`,CHANNELS="`).int(info.Channels).text(`"`)
		}
		w.text(`,URI="`).text(uri(Audio)).text("\"\n")
	}
	w.variant(v.list, both)
	w.text(uri(v.list[0].r)).text("\n")
	if both && o.AudioOnly {
		w.variant(v.list[1:], false)
		w.text(uri(Audio)).text("\n")
	}
	return w.b, nil
}

// variants is what a player may choose from.
type variants struct {
	list        []*snapshot // not empty
	version     int
	independent bool
}

func (p *Packager) variants(ts bool) (v variants) {
	if ts {
		v.list, v.version = []*snapshot{p.out[TS].snap.Load()}, 3
	} else {
		v.version = 6
		for _, o := range p.out[:TS] {
			if s := o.snap.Load(); s.live {
				v.list = append(v.list, s)
			}
		}
		// A player would wait for ever for a rendition that has fallen silent.
		if slices.ContainsFunc(v.list, (*snapshot).playable) {
			v.list = slices.DeleteFunc(v.list, func(s *snapshot) bool { return !s.playable() })
		}
	}
	v.independent = true
	for _, s := range v.list {
		for _, seg := range s.listed() {
			v.independent = v.independent && seg.Independent
		}
	}
	return v
}

// playable reports whether a new player would get media at once.
func (s *snapshot) playable() bool {
	n := len(s.segs)
	return n > s.first && (!s.segs[n-1].Gap || s.cur != nil && len(s.cur.Parts) > 0)
}

func (w *writer) variant(list []*snapshot, group bool) {
	peak, average := 0, 0
	var tracks []*stream.Track
	for _, s := range list {
		p, a := s.bandwidth()
		peak, average = peak+p, average+a
		tracks = append(tracks, s.tracks...)
	}
	w.text("#EXT-X-STREAM-INF:BANDWIDTH=").int(max(peak, 1)).text(",AVERAGE-BANDWIDTH=").int(max(average, 1))
	codecs := make([]string, 0, 2)
	for _, t := range tracks {
		if c := t.CodecString(); c != "" {
			codecs = append(codecs, c)
		}
	}
	if len(codecs) == len(tracks) && len(tracks) > 0 { // all or none: a list must be complete (bis 6.2.4)
		w.text(`,CODECS="`).text(strings.Join(codecs, ",")).text(`"`)
	}
	if i := slices.IndexFunc(tracks, func(t *stream.Track) bool { return t.Kind() == stream.Video }); i >= 0 {
		info, _ := tracks[i].Video() // what it could read
		if info.Width > 0 && info.Height > 0 {
			w.text(",RESOLUTION=").int(info.Width).text("x").int(info.Height)
		}
		if fps := list[0].fps(info.FPS); fps > 0 {
			w.text(",FRAME-RATE=")
			w.b = strconv.AppendFloat(w.b, fps, 'f', 3, 64)
		}
	}
	if group {
		w.text(`,AUDIO="audio"`)
	}
	w.text("\n")
}

// fps returns the frame rate: what the configuration says, unless that is not
// what was measured.
func (s *snapshot) fps(stated float64) float64 {
	if s.frameStep <= 0 {
		return stated
	}
	measured := 1 / s.frameStep.Seconds()
	if math.Abs(stated-measured) < measured/20 { // timestamps may be whole milliseconds
		return stated
	}
	return measured
}

// isLanguage reports whether s can be a language tag.
func isLanguage(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= 35
}
