package webrtc

import (
	"slices"
	"strings"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

// codecNames are the codecs that Runnel carries over RTP, by their registered
// name.
var codecNames = map[string]stream.Codec{
	"h264": stream.H264, "h265": stream.H265, "vp8": stream.VP8, "vp9": stream.VP9, "av1": stream.AV1,
	"opus": stream.Opus, "pcma": stream.PCMA, "pcmu": stream.PCMU,
}

// Codec returns what the format carries, 0 if Runnel does not know it.
func (f *Format) Codec() stream.Codec {
	c := codecNames[f.Name]
	switch {
	case c == stream.H264 && f.FMTP["packetization-mode"] != "1":
		return 0 // mode 0 can't carry a picture larger than a packet
	case c.Kind() == stream.Video && f.Clock != 90000, c == stream.Opus && f.Clock != 48000:
		return 0
	case c == stream.VP9 && f.FMTP["profile-id"] != "" && f.FMTP["profile-id"] != "0" && f.FMTP["profile-id"] != "2":
		return 0
	}
	return c
}

// preference is the order in which a publisher's codecs are taken, if the offer
// gives a choice: what most outputs can carry comes first.
var preference = []stream.Codec{stream.H264, stream.H265, stream.AV1, stream.VP9, stream.VP8, stream.Opus, stream.PCMA, stream.PCMU}

// chooseReceived returns the format that a publisher is asked to send: the first
// of its own order if firstOfPeer, else what most outputs can carry.
func chooseReceived(m *Media, firstOfPeer bool) *Format {
	var best *Format
	rank := len(preference)
	for i := range m.Formats {
		f := &m.Formats[i]
		at := slices.Index(preference, f.Codec())
		if at < 0 || f.Codec().Kind() != m.Kind {
			continue
		}
		if firstOfPeer {
			return f
		}
		if at < rank || at == rank && better(f, best) {
			best, rank = f, at
		}
	}
	return best
}

// better reports whether a says more than b of the same codec: a higher profile
// of H.264.
func better(a, b *Format) bool {
	return a.Name == "h264" && profileRank(a.FMTP["profile-level-id"]) > profileRank(b.FMTP["profile-level-id"])
}

func profileRank(id string) int {
	switch {
	case len(id) < 2:
		return 0
	case strings.EqualFold(id[:2], "64"):
		return 3
	case strings.EqualFold(id[:2], "4d"):
		return 2
	}
	return 1
}

// chooseSent returns the format in which a track can be sent to a viewer, nil if
// there is none.
func chooseSent(m *Media, t *stream.Track) *Format {
	var best *Format
	for i := range m.Formats {
		f := &m.Formats[i]
		if f.Codec() != t.Codec || m.Kind != t.Kind() {
			continue
		}
		if t.Codec != stream.H264 {
			return f
		}
		// Decoders take any profile in practice, but the nearest is the most honest.
		if best == nil || profileDistance(f, t) < profileDistance(best, t) {
			best = f
		}
	}
	return best
}

// profileDistance says how far an H.264 format is from a track's profile.
func profileDistance(f *Format, t *stream.Track) int {
	id := f.FMTP["profile-level-id"]
	if len(t.Config) < 4 || len(id) < 2 {
		return 2
	}
	const hex = "0123456789abcdef"
	if strings.EqualFold(id[:2], string([]byte{hex[t.Config[1]>>4], hex[t.Config[1]&15]})) {
		return 0
	}
	return 1
}

// clockRate is the RTP clock of a codec.
func clockRate(c stream.Codec) int {
	switch c {
	case stream.Opus:
		return 48000
	case stream.PCMA, stream.PCMU:
		return 8000
	}
	return 90000
}

// unpacker returns what puts a codec's frames together.
func unpacker(c stream.Codec) rtp.Unpacker {
	switch c {
	case stream.H264:
		return &rtp.H264{}
	case stream.H265:
		return &rtp.H265{}
	case stream.VP8:
		return &rtp.VP8{}
	case stream.VP9:
		return &rtp.VP9{}
	case stream.AV1:
		return &rtp.AV1{}
	}
	return &rtp.Audio{}
}
