package whep

import (
	"cmp"
	"math"
	"slices"

	"github.com/runnel-media/runnel/internal/webrtc"
	"github.com/runnel-media/runnel/stream"
)

// sourceLayer is what the published pictures are called among the layers.
const sourceLayer = "source"

// A rung is one form of a stream's pictures.
type rung struct {
	webrtc.Layer
	rendition *stream.Rendition // nil: they are the published ones
	idle      bool
}

// rungs returns the forms of a stream's pictures in one codec: the published ones,
// and the renditions, from the largest, or of the highest rate.
func (f *feed) rungs(codec stream.Codec) []rung {
	s := f.stream
	video := func(t *stream.Track) bool { return t.Kind() == stream.Video }
	rates := s.Stats().BitRate
	first := rung{Layer: webrtc.Layer{RID: sourceLayer, Bitrate: int64(cmp.Or(rates.Last10s, rates.Last1s))}}
	if i := slices.IndexFunc(s.Tracks(), video); i >= 0 {
		info, _ := s.Tracks()[i].Video() // what it does not say stays 0
		if first.Width, first.Height = info.Width, info.Height; info.Width == 0 {
			first.Width, first.Height = f.out.Size()
		}
	}
	all := []rung{first}
	for _, r := range s.Renditions() {
		tracks := r.Tracks()
		i := slices.IndexFunc(tracks, video)
		if i < 0 || tracks[i].Codec != codec {
			continue
		}
		info := r.Info()
		one := rung{Layer: webrtc.Layer{RID: info.Name, Bitrate: info.Bandwidth, Width: info.Width, Height: info.Height}, rendition: r, idle: info.Idle}
		if pixels, of := info.Width*info.Height, first.Width*first.Height; one.Bitrate == 0 && pixels > 0 && of > 0 {
			// Larger pictures take fewer bits for each of their pixels.
			one.Bitrate = int64(float64(first.Bitrate) * math.Pow(float64(pixels)/float64(of), 0.75))
		}
		all = append(all, one)
	}
	slices.SortStableFunc(all[1:], func(a, b rung) int { return b.compare(&a) })
	return all
}

// compare orders rungs by their size, and by their rate where that says nothing.
func (r rung) compare(o *rung) int {
	if a, b := r.Width*r.Height, o.Width*o.Height; a > 0 && b > 0 && a != b {
		return cmp.Compare(a, b)
	}
	return cmp.Compare(r.Bitrate, o.Bitrate)
}

// fit returns those of the rungs that are to be chosen from for a viewer, which
// sees the one of that name and wants none that is larger. One at least is
// returned.
func fit(all []rung, sees string, width, height int) []rung {
	fits := func(r *rung) bool {
		return (width <= 0 || r.Width <= width) && (height <= 0 || r.Height <= height)
	}
	var some []rung
	for i := range all {
		r := &all[i]
		smaller := r.compare(&all[0]) < 0
		if smaller && r.Width*r.Height == all[0].Width*all[0].Height {
			smaller = r.Bitrate < all[0].Bitrate-all[0].Bitrate/20 // else it is no help
		}
		if (i == 0 || !r.idle && r.Bitrate > 0 && (smaller || r.RID == sees)) && fits(r) {
			some = append(some, *r)
		}
	}
	if len(some) == 0 { // all are too large: the smallest
		some = append(some, all[len(all)-1])
	}
	return some
}
