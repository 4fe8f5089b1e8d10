package mpegts

import (
	"bytes"
	"fmt"

	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

// opusMappings are the channel mappings that a channel_config_code up to 8
// stands for (ETSI TS Opus 0.1.3-draft, table 4-3): 0 is dual mono, the others are numbers of
// channels in the order of RFC 7845, section 5.1.1.2, paired as libopus does.
var opusMappings = [...]struct {
	family, streams, coupled byte
	mapping                  []byte
}{
	{255, 2, 0, []byte{0, 1}},
	{},
	{},
	{1, 2, 1, []byte{0, 2, 1}},
	{1, 2, 2, []byte{0, 1, 2, 3}},
	{1, 3, 2, []byte{0, 4, 1, 2, 3}},
	{1, 4, 2, []byte{0, 4, 1, 2, 3, 5}},
	{1, 4, 3, []byte{0, 4, 1, 2, 3, 5, 6}},
	{1, 5, 3, []byte{0, 6, 1, 2, 3, 4, 5, 7}},
}

// opusHead returns the identification header for a channel_config_code, nil
// for those that stand for no fixed mapping.
func opusHead(code byte) *opus.Head {
	if int(code) >= len(opusMappings) {
		return nil
	}
	m := opusMappings[code]
	if m.family == 0 {
		return opus.DefaultHead(int(code))
	}
	h := opus.DefaultHead(2)
	h.Channels, h.Family, h.Streams, h.Coupled, h.Mapping = len(m.mapping), m.family, m.streams, m.coupled, m.mapping
	return h
}

// opusCode returns the channel_config_code of an Opus track.
func opusCode(t *stream.Track) (byte, error) {
	if len(t.Config) == 0 {
		return byte(opus.DefaultHead(t.Channels).Channels), nil
	}
	h, err := opus.ParseHead(t.Config)
	if err != nil {
		return 0, fmt.Errorf("mpegts: %w: %w", err, stream.ErrUnsupported)
	}
	for code := range opusMappings {
		o := opusHead(byte(code))
		if o.Channels == h.Channels && o.Family == h.Family && o.Streams == h.Streams && o.Coupled == h.Coupled && bytes.Equal(o.Mapping, h.Mapping) {
			return byte(code), nil
		}
	}
	return 0, fmt.Errorf("mpegts: opus: channel mapping family %d with %d channels: %w", h.Family, h.Channels, stream.ErrUnsupported)
}

// The control header in front of every packet: 11 bits of sync, flags for
// what follows the size, and the size in bytes that are summed up to the first
// which is not 255.
const (
	opusSync      = 0x7fe0
	opusSyncMask  = 0xffe0
	opusStartTrim = 0x10
	opusEndTrim   = 0x08
	opusExtension = 0x04
)

// appendOpusHeader appends the control header of a packet of size bytes.
func appendOpusHeader(dst []byte, size int) []byte {
	dst = append(dst, opusSync>>8, opusSync&0xff)
	for ; size >= 255; size -= 255 {
		dst = append(dst, 255)
	}
	return append(dst, byte(size))
}

func opusHeaderSize(size int) int { return 3 + size/255 }

// parseOpusHeader returns the size of the control header at the start of b and
// that of the packet behind it; more is whether b ends too early to say, ok is
// false if there is no header.
func parseOpusHeader(b []byte) (head, size int, more, ok bool) {
	if len(b) < 2 {
		return 0, 0, true, true
	}
	if (uint16(b[0])<<8|uint16(b[1]))&opusSyncMask != opusSync {
		return 0, 0, false, false
	}
	flags := b[1]
	for head = 2; ; {
		if head == len(b) {
			return 0, 0, true, true
		}
		n := int(b[head])
		size += n
		if head++; n < 255 {
			break
		}
		if size > maxSound {
			return 0, 0, false, false
		}
	}
	if flags&opusStartTrim != 0 {
		head += 2
	}
	if flags&opusEndTrim != 0 {
		head += 2
	}
	if flags&opusExtension != 0 {
		if head >= len(b) {
			return 0, 0, true, true
		}
		head += 1 + int(b[head])
	}
	return head, size, false, size > 0
}
