package deliver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/runnel-media/runnel/stream"
)

// feedKey names the bytes that players share: one stream in one container, in
// one dialect of it.
type feedKey struct {
	stream    *stream.Stream
	container container
	websocket bool         // each frame is a WebSocket message
	accept    string       // FourCCs that the players take, comma-separated and sorted; "" is any
	sound     stream.Codec // that they want sound in, if it can be had; 0: as it is
}

// accepted makes a feedKey's field of what a peer says it takes.
func accepted(fourCCs []string) string {
	if fourCCs == nil || slices.Contains(fourCCs, "*") {
		return ""
	}
	known := []string{"none"} // nothing but what every player takes
	for _, cc := range []string{"hvc1", "av01", "vp09", "vp08", "Opus", "ac-3"} {
		if slices.Contains(fourCCs, cc) {
			known = append(known, cc)
		}
	}
	return strings.Join(known, ",")
}

// fourCC returns the name under which enhanced RTMP players list a codec, "" for
// those that every player is taken to know.
func fourCC(c stream.Codec) string {
	switch c {
	case stream.H265:
		return "hvc1"
	case stream.AV1:
		return "av01"
	case stream.VP9:
		return "vp09"
	case stream.VP8:
		return "vp08"
	case stream.Opus:
		return "Opus"
	case stream.AC3:
		return "ac-3"
	}
	return ""
}

// takes says why a track cannot be sent.
func (k feedKey) takes(m muxer, t *stream.Track) error {
	if err := m.supports(t); err != nil {
		return err
	}
	if cc := fourCC(t.Codec); k.accept != "" && cc != "" && t.Codec != k.sound && !slices.Contains(strings.Split(k.accept, ","), cc) {
		return stream.ErrUnsupported
	}
	return nil
}

// choose returns the tracks that are sent of those there are: of video and of
// audio one each, the one that is sent already if it is still there, and what
// there is of data.
func (k feedKey) choose(m muxer, all, current []*stream.Track) (chosen []*stream.Track) {
	var ids [stream.Data + 1]uint8 // by kind
	for _, t := range current {
		if slices.ContainsFunc(all, func(o *stream.Track) bool { return o.ID == t.ID && o.Kind() == t.Kind() && k.takes(m, o) == nil }) {
			ids[t.Kind()] = t.ID
		}
	}
	for _, t := range all {
		kind := t.Kind()
		if k.takes(m, t) != nil || kind != stream.Data && ids[kind] != 0 && ids[kind] != t.ID {
			continue
		}
		ids[kind] = t.ID
		chosen = append(chosen, t)
	}
	return chosen
}

// playable says why none of a stream's tracks can be sent. A stream that has no
// tracks yet may turn out to be playable.
func (k feedKey) playable() error {
	m := k.container.muxer()
	var reason error
	for _, t := range k.tracks(m) {
		if t.Kind() == stream.Data {
			continue
		}
		err := k.takes(m, t)
		if err == nil {
			return nil
		}
		reason = fmt.Errorf("%s in %s: %w", t.Codec, k.container, err)
	}
	return reason
}

// sent returns the tracks of the stream that are sent.
func (k feedKey) sent() []*stream.Track {
	m := k.container.muxer()
	return k.choose(m, k.tracks(m), nil)
}
