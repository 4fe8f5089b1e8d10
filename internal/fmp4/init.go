// Package fmp4 writes fragmented MP4 (ISO/IEC 14496-12, CMAF ISO/IEC
// 23000-19): an initialization segment that describes tracks, and parts of one
// moof and one mdat box that carry their frames. Players read the two as one
// byte stream over HTTP or WebSocket, or as the segments of HLS and DASH.
//
// A track keeps its stream.Track.ID as its track id, and its timeline is the
// stream's: the decode time in a part is the frame's DTS on the clock that
// Timescale names, so that parts made at different times, or in different
// processes, fit together.
package fmp4

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/Eyevinn/mp4ff/mp4"

	"github.com/runnel-media/runnel/stream"
)

const videoTimescale = 90000

// Timescale returns the ticks a second in which t's parts count time: the
// sample rate of audio, 90000 of anything else.
func Timescale(t *stream.Track) uint32 {
	if t.Kind() != stream.Audio {
		return videoTimescale
	}
	if t.Codec == stream.Opus || t.Rate <= 0 { // Opus always counts at 48 kHz, whatever the encoder was fed with
		return 48000
	}
	return uint32(t.Rate)
}

// Init returns the initialization segment (ftyp and moov boxes) for tracks, in
// their order. The error names a track that MP4 can't carry and wraps
// stream.ErrUnsupported; to leave such tracks out, call Init with each alone.
func Init(tracks ...*stream.Track) ([]byte, error) {
	if len(tracks) == 0 {
		return nil, errors.New("fmp4: no tracks")
	}
	moov := mp4.NewMoovBox()
	mvhd := mp4.CreateMvhd()
	moov.AddChild(mvhd)
	mvex := mp4.NewMvexBox()
	for i, t := range tracks {
		for _, earlier := range tracks[:i] {
			if earlier.ID == t.ID {
				return nil, fmt.Errorf("fmp4: track %d: id used twice", t.ID)
			}
		}
		trak, err := trakBox(t)
		if err != nil {
			return nil, fmt.Errorf("fmp4: track %d: %w", t.ID, err)
		}
		moov.AddChild(trak)
		mvhd.NextTrackID = max(mvhd.NextTrackID, uint32(t.ID)+1)
		// Every part states its flags and durations, as CMAF asks, so trex has
		// no defaults to give.
		mvex.AddChild(mp4.CreateTrex(uint32(t.ID)))
	}
	moov.AddChild(mvex)

	seg := mp4.NewMP4Init()
	seg.AddChild(mp4.NewFtyp("iso6", 0, []string{"iso6", "cmfc", "mp41"}))
	seg.AddChild(moov)
	var b bytes.Buffer
	b.Grow(int(seg.Size()))
	if err := seg.Encode(&b); err != nil {
		return nil, fmt.Errorf("fmp4: %w", err)
	}
	return b.Bytes(), nil
}

// ContentType returns the media type of a file of tracks with its codecs
// parameter (RFC 6381), such as `video/mp4; codecs="avc1.64001e,mp4a.40.2"`.
func ContentType(tracks ...*stream.Track) string {
	typ := "audio/mp4"
	codecs := make([]string, len(tracks))
	for i, t := range tracks {
		if t.Kind() == stream.Video {
			typ = "video/mp4"
		}
		codecs[i] = t.CodecString()
	}
	return typ + `; codecs="` + strings.Join(codecs, ",") + `"`
}

func trakBox(t *stream.Track) (*mp4.TrakBox, error) {
	if t.ID == 0 {
		return nil, fmt.Errorf("id 0: %w", stream.ErrUnsupported)
	}
	language := "und"
	if isLanguageTag(t.Language) {
		language = t.Language
	}
	switch t.Kind() {
	case stream.Video:
		entry, err := videoEntry(t)
		if err != nil {
			return nil, err
		}
		trak := mp4.CreateEmptyTrak(uint32(t.ID), Timescale(t), "video", language)
		trak.Tkhd.Width = mp4.Fixed32(uint32(entry.Width) << 16)
		trak.Tkhd.Height = mp4.Fixed32(uint32(entry.Height) << 16)
		trak.Mdia.Minf.Stbl.Stsd.AddChild(entry)
		return trak, nil
	case stream.Audio:
		entry, err := audioEntry(t)
		if err != nil {
			return nil, err
		}
		trak := mp4.CreateEmptyTrak(uint32(t.ID), Timescale(t), "audio", language)
		trak.Mdia.Minf.Stbl.Stsd.AddChild(entry)
		return trak, nil
	}
	return nil, fmt.Errorf("%v: %w", t.Codec, stream.ErrUnsupported)
}

// isLanguageTag reports whether s is safe to write: an ISO 639-2 code goes to
// mdhd, whose field has five bits a letter, anything else to an elng string.
func isLanguageTag(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z') && (len(s) == 3 || !(c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-')) {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= 35
}
