package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
)

const (
	// maxMoof bounds the headers of a fragment, and of a file that has no samples
	// yet; maxMoov those of a plain file: four days of picture and sound.
	maxMoof = 16 << 20
	maxMoov = 256 << 20
)

// A boxHead is the header of a box in a file.
type boxHead struct {
	name   string
	offset int64 // of the header
	header int64 // its bytes
	size   int64 // header included
}

// nextBox reads the header at offset of a file of size bytes.
func nextBox(r io.ReadSeeker, offset, size int64) (boxHead, error) {
	if size-offset < boxHeader {
		return boxHead{}, io.ErrUnexpectedEOF
	}
	if _, err := r.Seek(offset, io.SeekStart); err != nil {
		return boxHead{}, err
	}
	var b [16]byte
	if _, err := io.ReadFull(r, b[:boxHeader]); err != nil {
		return boxHead{}, noEOF(err)
	}
	h := boxHead{name: string(b[4:8]), offset: offset, header: boxHeader, size: int64(binary.BigEndian.Uint32(b[:]))}
	switch h.size {
	case 0: // up to the end
		h.size = size - offset
	case 1:
		if _, err := io.ReadFull(r, b[8:]); err != nil {
			return boxHead{}, noEOF(err)
		}
		h.header, h.size = 16, int64(binary.BigEndian.Uint64(b[8:]))
	}
	if h.size < h.header {
		return boxHead{}, fmt.Errorf("%w: box of %d bytes", errNoMP4, h.size)
	}
	if h.size > size-offset {
		return h, io.ErrUnexpectedEOF
	}
	return h, nil
}

// readBox reads and decodes a whole box of at most limit bytes, behind whose header
// r is.
func readBox(r io.Reader, h boxHead, limit int64) (box mp4.Box, err error) {
	if h.size > limit {
		return nil, fmt.Errorf("%w: %s of %d bytes", errNoMP4, h.name, h.size)
	}
	b := make([]byte, h.size)
	binary.BigEndian.PutUint32(b, uint32(h.size-h.header+boxHeader))
	copy(b[4:], h.name)
	b = b[:h.size-h.header+boxHeader]
	if _, err := io.ReadFull(r, b[boxHeader:]); err != nil {
		return nil, noEOF(err)
	}
	defer func() { // of a decoder that trusts what it reads
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: %v", errNoMP4, h.name, p)
		}
	}()
	box, err = mp4.DecodeBox(uint64(h.offset), bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errNoMP4, h.name, err)
	}
	return box, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A scanned file is what scanMP4 found.
type scanned struct {
	*mp4Index
	created time.Time // zero if it is not stated
	plain   bool      // its moov box has the samples
	whole   int64     // offset behind the last whole fragment; for plain files the size
}

// scanMP4 reads where the samples of a file of size bytes lie. A fragmented file may
// end anywhere; what is behind its last whole fragment is left out.
func scanMP4(r io.ReadSeeker, size int64) (*scanned, error) {
	s := &scanned{}
	var moof *mp4.MoofBox
	for offset := int64(0); offset < size; {
		h, err := nextBox(r, offset, size)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || err != nil && s.mp4Index == nil {
			return nil, err
		}
		if err != nil {
			break // half a fragment
		}
		offset += h.size
		switch {
		case h.name == "moov" && s.mp4Index == nil:
			box, err := readBox(r, h, maxMoov)
			if err != nil {
				return nil, err
			}
			if err := s.moov(box, size); err != nil {
				return nil, err
			}
			if s.plain {
				s.whole = size
				return s, nil
			}
			s.whole = offset
		case h.name == "moof" && s.mp4Index != nil:
			box, err := readBox(r, h, maxMoof)
			if err != nil {
				return nil, err
			}
			moof, _ = box.(*mp4.MoofBox)
		case h.name == "mdat" && moof != nil:
			if err := s.fragment(moof, h); err != nil {
				return nil, err
			}
			moof, s.whole = nil, offset
		}
	}
	if s.mp4Index == nil {
		return nil, fmt.Errorf("%w: no moov box", errNoMP4)
	}
	return s, nil
}

func (s *scanned) moov(box mp4.Box, size int64) (err error) {
	moov, ok := box.(*mp4.MoovBox)
	if !ok || moov.Mvhd == nil {
		return fmt.Errorf("%w: moov", errNoMP4)
	}
	if s.mp4Index, err = newIndex(moov); err != nil {
		return err
	}
	if moov.Mvhd.CreationTime > 0 {
		s.created = time.Unix(moov.Mvhd.CreationTimeS(), 0)
	}
	s.plain = moov.Mvex == nil
	if s.plain {
		return s.tables(moov, size)
	}
	return nil
}

// fragment adds the samples of a moof and the mdat behind it.
func (s *scanned) fragment(moof *mp4.MoofBox, mdat boxHead) error {
	for _, traf := range moof.Trafs {
		if traf.Tfhd == nil || traf.Tfdt == nil {
			return fmt.Errorf("%w: incomplete traf", errNoMP4)
		}
		for i, t := range s.mp4Index.tracks {
			if t.desc.tkhd.TrackID != traf.Tfhd.TrackID {
				continue
			}
			at := int64(traf.Tfdt.BaseMediaDecodeTime())
			for _, trun := range traf.Truns {
				c := mp4Chunk{track: i, offset: int64(moof.StartPos) + int64(trun.DataOffset)}
				for j, sample := range trun.Samples {
					flags := sample.Flags
					switch {
					case trun.HasSampleFlags():
					case j == 0 && trun.HasFirstSampleFlags():
						flags, _ = trun.FirstSampleFlags()
					case traf.Tfhd.HasDefaultSampleFlags():
						flags = traf.Tfhd.DefaultSampleFlags
					}
					t.add(mp4Sample{
						size: int64(sample.Size), dts: at, pts: at + int64(sample.CompositionTimeOffset),
						key: flags&mp4.NonSyncSampleFlags == 0,
					})
					c.size += int64(sample.Size)
					c.samples++
					at += int64(sample.Dur)
				}
				if c.offset < mdat.offset || c.offset+c.size > mdat.offset+mdat.size {
					return fmt.Errorf("%w: samples beyond mdat", errNoMP4)
				}
				if c.samples > 0 {
					s.addChunk(c)
				}
			}
			t.ends = at
		}
	}
	return nil
}
