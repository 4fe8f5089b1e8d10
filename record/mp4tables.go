package record

import (
	"fmt"
	"slices"

	"github.com/Eyevinn/mp4ff/mp4"
)

// maxSamples bounds the samples of a track that a file claims to have: a year of
// sound has 1.5 billion, a week 28 million.
const maxSamples = 32 << 20

// tables adds the samples that the tables of the moov box of a plain file of size bytes
// list.
func (s *scanned) tables(moov *mp4.MoovBox, size int64) error {
	var chunks []mp4Chunk
	for i, trak := range moov.Traks {
		more, err := s.mp4Index.tracks[i].tables(i, moov, trak, size)
		if err != nil {
			return err
		}
		chunks = append(chunks, more...)
	}
	slices.SortStableFunc(chunks, func(a, b mp4Chunk) int { return int(min(max(a.offset-b.offset, -1), 1)) })
	for _, c := range chunks {
		s.addChunk(c)
	}
	return nil
}

// tables adds the samples of a track and returns its chunks.
func (t *mp4Track) tables(index int, moov *mp4.MoovBox, trak *mp4.TrakBox, size int64) ([]mp4Chunk, error) {
	stbl := trak.Mdia.Minf.Stbl
	stsz, stsc, stts := stbl.Stsz, stbl.Stsc, stbl.Stts
	if stsz == nil || stsc == nil || stts == nil || stsz.SampleNumber > maxSamples {
		return nil, fmt.Errorf("%w: sample tables", errNoMP4)
	}
	n := int(stsz.SampleNumber)
	if stsz.SampleUniformSize == 0 && len(stsz.SampleSize) < n || int64(stsz.SampleUniformSize)*int64(n) > size {
		return nil, fmt.Errorf("%w: stsz", errNoMP4)
	}
	steps := runs{counts: stts.SampleCount}
	var offsets runs
	if stbl.Ctts != nil {
		offsets = runs{ends: stbl.Ctts.EndSampleNr}
	}
	keys := 0
	at := startOf(moov, trak)
	for i := range n {
		s := mp4Sample{size: int64(stsz.SampleUniformSize), dts: at, key: true}
		if s.size == 0 {
			s.size = int64(stsz.SampleSize[i])
		}
		if stbl.Stss != nil {
			s.key = keys < len(stbl.Stss.SampleNumber) && int(stbl.Stss.SampleNumber[keys]) == i+1
			if s.key {
				keys++
			}
		}
		s.pts = s.dts
		if k := offsets.at(i); stbl.Ctts != nil && k < len(stbl.Ctts.SampleOffset) {
			s.pts += int64(stbl.Ctts.SampleOffset[k])
		}
		t.add(s)
		if k := steps.at(i); k < len(stts.SampleTimeDelta) {
			at += int64(stts.SampleTimeDelta[k])
		}
	}
	t.ends = at
	return t.chunkTable(index, stbl)
}

// startOf returns the decoding time of the first sample, on the track's clock, such
// that the movie begins at zero: what the edit list says.
func startOf(moov *mp4.MoovBox, trak *mp4.TrakBox) (at int64) {
	if trak.Edts == nil || moov.Mvhd.Timescale == 0 {
		return 0
	}
	for _, elst := range trak.Edts.Elst {
		for _, e := range elst.Entries {
			if e.MediaTime >= 0 {
				return at - e.MediaTime
			}
			at += rescale(int64(e.SegmentDuration&(1<<40-1)), int64(moov.Mvhd.Timescale), int64(trak.Mdia.Mdhd.Timescale))
		}
	}
	return at
}

func (t *mp4Track) chunkTable(index int, stbl *mp4.StblBox) (chunks []mp4Chunk, err error) {
	var offset func(i int) (int64, bool)
	switch {
	case stbl.Co64 != nil:
		offset = func(i int) (int64, bool) {
			return int64(at64(stbl.Co64.ChunkOffset, i)), i < len(stbl.Co64.ChunkOffset)
		}
	case stbl.Stco != nil:
		offset = func(i int) (int64, bool) {
			return int64(at64(stbl.Stco.ChunkOffset, i)), i < len(stbl.Stco.ChunkOffset)
		}
	default:
		return nil, fmt.Errorf("%w: no chunk offsets", errNoMP4)
	}
	entries := stbl.Stsc.Entries
	c := mp4Chunk{track: index}
	number, per, entry := 0, 0, 0
	for s := range t.samples() {
		if c.samples == per {
			if number > 0 {
				chunks = append(chunks, c)
			}
			number++
			if entry < len(entries) && int(entries[entry].FirstChunk) <= number {
				per = int(entries[entry].SamplesPerChunk)
				entry++
			}
			o, ok := offset(number - 1)
			if !ok || o < 0 || per <= 0 {
				return nil, fmt.Errorf("%w: chunks", errNoMP4)
			}
			c = mp4Chunk{track: index, offset: o}
		}
		c.samples++
		c.size += s.size
	}
	if c.samples > 0 {
		chunks = append(chunks, c)
	}
	return chunks, nil
}

func at64[T uint32 | uint64](s []T, i int) uint64 {
	if i < len(s) {
		return uint64(s[i])
	}
	return 0
}

// runs finds the entry of a run-length table that a sample falls in. It is asked
// for samples in order.
type runs struct {
	counts []uint32 // length of each run, or
	ends   []uint32 // number of the last sample of each, from 1, behind a zero
	entry  int
	start  int // of the entry's run
}

func (r *runs) at(i int) int {
	if r.ends != nil {
		for r.entry+1 < len(r.ends) && int(r.ends[r.entry+1]) <= i {
			r.entry++
		}
		return r.entry
	}
	for r.entry < len(r.counts) && i-r.start >= int(r.counts[r.entry]) {
		r.start += int(r.counts[r.entry])
		r.entry++
	}
	return r.entry
}
