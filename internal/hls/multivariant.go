package hls

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/runnel-media/runnel/stream"
)

// MultivariantOptions are what a multivariant playlist may be asked for.
type MultivariantOptions struct {
	TS           bool // the MPEG-TS rendition alone, instead of CMAF
	AudioOnly    bool // the sound alone; not with TS
	AudioVariant bool // beside the picture, a variant with the sound alone for the weakest networks; not with TS

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
	switch {
	case o.TS:
		first = TS
	case o.AudioOnly:
		first = Audio
	}
	err := p.Wait(ctx, first, Directives{}, who)
	if first == Video && (errors.Is(err, stream.ErrNotFound) || errors.Is(err, stream.ErrUnsupported)) {
		err = p.Wait(ctx, Audio, Directives{}, who)
	}
	if err != nil {
		return nil, err
	}
	v := p.variants(first)
	return v.render(o.AudioVariant, func(r Rendition) string { return o.Prefix + r.String() + ".m3u8" + o.Suffix }), nil
}

// A choice is a rendition as the multivariant playlist describes it.
type choice struct {
	r             Rendition
	tracks        []*stream.Track
	peak, average int // bits a second
	frameStep     time.Duration
}

// variants is what a player may choose from.
type variants struct {
	list        []choice // not empty: pictures, then the sound
	version     int
	independent bool
}

// variants returns the choice that begins with a rendition: Video stands for all
// of CMAF.
func (p *Packager) variants(first Rendition) (v variants) {
	var list []*snapshot
	v.version = 6
	switch first {
	case TS:
		v.version = 3
		fallthrough
	case Audio:
		list = []*snapshot{p.out[first].snap.Load()}
	default:
		for r := range TS {
			if s := p.out[r].snap.Load(); s.live {
				list = append(list, s)
			}
		}
		// A player would wait for ever for a rendition that has fallen silent.
		if slices.ContainsFunc(list, (*snapshot).playable) {
			list = slices.DeleteFunc(list, func(s *snapshot) bool { return !s.playable() })
		}
	}
	v.independent = true
	for _, s := range list {
		c := choice{r: s.r, tracks: s.tracks, frameStep: s.frameStep}
		c.peak, c.average = s.bandwidth()
		v.list = append(v.list, c)
		for _, seg := range s.listed() {
			v.independent = v.independent && seg.Independent
		}
	}
	return v
}

// render writes the playlist. uri is that of a rendition's playlist.
func (v *variants) render(audioVariant bool, uri func(Rendition) string) []byte {
	w := writer{b: make([]byte, 0, 512)}
	w.text("#EXTM3U\n#EXT-X-VERSION:").int(v.version)
	if v.independent {
		w.text("\n#EXT-X-INDEPENDENT-SEGMENTS")
	}
	w.text("\n")
	pictures, sound := v.list, v.list[len(v.list)-1:]
	both := len(v.list) > 1 && sound[0].r == Audio
	if both {
		pictures = v.list[:len(v.list)-1]
		audio := sound[0].tracks[0]
		w.text(`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES`)
		if IsLanguage(audio.Language) {
			w.text(`,LANGUAGE="`).text(audio.Language).text(`"`)
		}
		if info, err := audio.Audio(); err == nil && info.Channels > 0 {
			w.text(`,CHANNELS="`).int(info.Channels).text(`"`)
		}
		w.text(`,URI="`).text(uri(Audio)).text("\"\n")
	}
	for _, c := range pictures {
		list := []choice{c}
		if both {
			list = append(list, sound...)
		}
		w.variant(list, both)
		w.text(uri(c.r)).text("\n")
	}
	if both && audioVariant {
		w.variant(sound, false)
		w.text(uri(Audio)).text("\n")
	}
	return w.b
}

// playable reports whether a new player would get media at once.
func (s *snapshot) playable() bool {
	n := len(s.segs)
	return n > s.first && (!s.segs[n-1].Gap || s.cur != nil && len(s.cur.Parts) > 0)
}

func (w *writer) variant(list []choice, group bool) {
	peak, average := 0, 0
	var tracks []*stream.Track
	for _, c := range list {
		peak, average = peak+c.peak, average+c.average
		tracks = append(tracks, c.tracks...)
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
func (c *choice) fps(stated float64) float64 {
	if c.frameStep <= 0 {
		return stated
	}
	measured := 1 / c.frameStep.Seconds()
	if math.Abs(stated-measured) < measured/20 { // timestamps may be whole milliseconds
		return stated
	}
	return measured
}

// IsLanguage reports whether s can be a language tag, which needs no escaping in
// manifests.
func IsLanguage(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= 35
}
