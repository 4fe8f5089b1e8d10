package transcode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/runnel-media/runnel/internal/av1"
	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/stream"
)

// IVF carries what a transport stream cannot: pictures of VP8, VP9 and AV1, each
// with its presentation time. It has a file header of 32 bytes, and before each
// frame its size and time, in ticks of the rate that the header tells.

const (
	ivfHeader      = 32
	ivfFrameHeader = 12
	// maxPicture is more than any encoder makes of a picture.
	maxPicture = 32 << 20
)

var ivfCodecs = map[string]stream.Codec{"VP80": stream.VP8, "VP90": stream.VP9, "AV01": stream.AV1}

// ivfName returns what IVF calls a codec, "" if it does not carry it.
func ivfName(c stream.Codec) string {
	for name, codec := range ivfCodecs {
		if codec == c {
			return name
		}
	}
	return ""
}

// appendIVFHeader appends the header of a file whose clock has 90 kHz.
func appendIVFHeader(dst []byte, codec string, width, height int) []byte {
	dst = append(dst, "DKIF\x00\x00\x20\x00"...)
	dst = append(dst, codec...)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(width))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(height))
	dst = binary.LittleEndian.AppendUint32(dst, 90000)
	dst = binary.LittleEndian.AppendUint32(dst, 1)
	return append(dst, make([]byte, 8)...) // how many frames: unknown
}

// appendIVFFrame appends a frame. AV1 gets the temporal delimiter that others expect,
// and key frames the sequence header if only the track has it.
func appendIVFFrame(dst []byte, f *stream.Frame, pts time.Duration) []byte {
	var before []byte
	if f.Track.Codec == stream.AV1 {
		before = []byte{av1.TypeTemporalDelimiter<<3 | 2, 0}
		if info, ok := av1.Inspect(f.Data); ok && f.Key && info.SequenceHeader.Raw == nil {
			if c, err := av1.ParseConfig(f.Track.Config); err == nil {
				before = append(before, c.OBUs...)
			}
		}
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(before)+len(f.Data)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(stream.Ticks(pts, 90000)))
	return append(append(dst, before...), f.Data...)
}

var errIVF = errors.New("transcode: not IVF")

// sink takes the frames of a rendition.
type sink interface {
	SetTracks(tracks ...*stream.Track) error
	Write(f *stream.Frame) error
}

// readIVF reads IVF to its end and gives it to s as track 1.
func readIVF(r io.Reader, s sink) error {
	var head [ivfHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	codec, ok := ivfCodecs[string(head[8:12])]
	rate, scale := binary.LittleEndian.Uint32(head[16:]), binary.LittleEndian.Uint32(head[20:])
	if string(head[:4]) != "DKIF" || !ok || rate == 0 || rate > 1e9 || scale == 0 || scale > 1e6 {
		return errIVF
	}
	if n := binary.LittleEndian.Uint16(head[6:]); n != ivfHeader {
		return fmt.Errorf("%w: a header of %d bytes", errIVF, n)
	}
	d := ivfPictures{sink: s, codec: codec}
	for {
		var head [ivfFrameHeader]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size, pts := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint64(head[4:])
		if size > maxPicture || pts > 1<<40 {
			return fmt.Errorf("%w: a frame of %d bytes at %d", errIVF, size, pts)
		}
		data, err := readN(r, int(size))
		if err != nil {
			return err
		}
		// In two steps, which neither overflow nor lose anything.
		ticks := pts * uint64(scale)
		at := time.Duration(ticks/uint64(rate))*time.Second + stream.FromTicks(int64(ticks%uint64(rate)), int(rate))
		if err := d.picture(data, at); err != nil {
			return err
		}
	}
}

// readN reads n bytes, and takes memory for them as they come.
func readN(r io.Reader, n int) ([]byte, error) {
	const step = 256 << 10
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		from := len(b)
		b = append(b, make([]byte, min(n-from, max(step, from)))...)
		if _, err := io.ReadFull(r, b[from:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// ivfPictures makes frames of what lies in IVF.
type ivfPictures struct {
	sink  sink
	codec stream.Codec
	track *stream.Track
	av1   *av1.Config
	vp9   *vpx.Config
}

func (d *ivfPictures) picture(data []byte, at time.Duration) error {
	f := &stream.Frame{PTS: at, DTS: at, Data: data}
	var config []byte
	changed := false
	switch d.codec {
	case stream.VP8:
		_, _, f.Key = vpx.VP8Key(data)
		changed = f.Key && d.track == nil
	case stream.VP9:
		if f.Key = vpx.VP9Key(data); !f.Key {
			break
		}
		c, err := vpx.NewConfig(data)
		if err != nil {
			return nil
		}
		if changed = d.vp9 == nil || !d.vp9.Fits(c); changed {
			d.vp9, config = c, c.Append(nil)
		}
	case stream.AV1:
		info, ok := av1.Inspect(data)
		if !ok || !info.Frame {
			return nil
		}
		f.Key = info.SequenceHeader.Raw != nil
		f.Data = av1.Normalize(data, info)
		var c *av1.Config
		if c, changed = d.av1.Update(info); changed {
			d.av1, config = c, c.Append(nil)
		}
	}
	if changed {
		d.track = &stream.Track{ID: 1, Codec: d.codec, Config: config}
		if err := d.sink.SetTracks(d.track); err != nil {
			return err
		}
	}
	if d.track == nil {
		return nil
	}
	f.Track = d.track
	return d.sink.Write(f)
}
