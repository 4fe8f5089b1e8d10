package deliver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/stream"
)

// readMP4 reads fragmented MP4 with somebody else's parser.
func readMP4(r io.Reader, s *sink) error {
	type trackInfo struct {
		*stream.Track
		timescale int
	}
	var tracks map[uint32]trackInfo
	var moof *mp4.MoofBox
	for {
		var h [8]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := binary.BigEndian.Uint32(h[:])
		if size < 8 || size > 32<<20 {
			return fmt.Errorf("box %q of %d bytes", h[4:], size)
		}
		b := make([]byte, size)
		copy(b, h[:])
		if _, err := io.ReadFull(r, b[8:]); err != nil {
			return io.ErrUnexpectedEOF
		}
		box, err := mp4.DecodeBox(0, bytes.NewReader(b))
		if err != nil {
			return err
		}
		switch box := box.(type) {
		case *mp4.MoovBox:
			tracks = make(map[uint32]trackInfo)
			var all []*stream.Track
			for _, trak := range box.Traks {
				t := &stream.Track{ID: uint8(trak.Tkhd.TrackID)}
				switch sd := trak.Mdia.Minf.Stbl.Stsd; {
				case sd.AvcX != nil:
					t.Codec = stream.H264
					var config bytes.Buffer
					if err := sd.AvcX.AvcC.DecConfRec.Encode(&config); err != nil {
						return err
					}
					t.Config = config.Bytes()
				case sd.Mp4a != nil:
					t.Codec = stream.AAC
					t.Config = sd.Mp4a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig
				case sd.HvcX != nil:
					t.Codec = stream.H265
				case sd.Opus != nil:
					t.Codec = stream.Opus
				default:
					return errors.New("unknown sample entry")
				}
				tracks[uint32(t.ID)] = trackInfo{t, int(trak.Mdia.Mdhd.Timescale)}
				all = append(all, t)
			}
			_ = s.SetTracks(all...)
		case *mp4.MoofBox:
			moof = box
		case *mp4.MdatBox:
			for _, traf := range moof.Trafs {
				t, ok := tracks[traf.Tfhd.TrackID]
				if !ok {
					return fmt.Errorf("a part of track %d", traf.Tfhd.TrackID)
				}
				ticks := func(n int64) time.Duration { return stream.FromTicks(n, t.timescale) }
				at := int64(traf.Tfdt.BaseMediaDecodeTime())
				offset := int(traf.Trun.DataOffset) - int(moof.Size()) - 8
				traf.Trun.AddSampleDefaultValues(traf.Tfhd, nil)
				for _, sample := range traf.Trun.Samples {
					_ = s.Write(&stream.Frame{
						Track: t.Track, Key: sample.IsSync(),
						DTS: ticks(at), PTS: ticks(at + int64(sample.CompositionTimeOffset)),
						Data: box.Data[offset : offset+int(sample.Size)],
					})
					at += int64(sample.Dur)
					offset += int(sample.Size)
				}
			}
		}
	}
}
