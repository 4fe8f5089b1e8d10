package flv

import (
	"errors"
	"strconv"
	"time"

	"github.com/runnel-media/runnel/internal/av1"
	"github.com/runnel-media/runnel/internal/h264"
	"github.com/runnel-media/runnel/internal/h265"
	"github.com/runnel-media/runnel/internal/nal"
	"github.com/runnel-media/runnel/internal/vpx"
	"github.com/runnel-media/runnel/stream"
)

// maxConfig bounds a decoder configuration: every player is sent it.
const maxConfig = 1 << 16

var errLongConfig = malformed(errors.New("decoder configuration too long"))

func (d *Demuxer) videoTag(body []byte, dts time.Duration, at time.Time) error {
	frameType := body[0] >> 4 & 7
	if body[0]&exVideo != 0 {
		return d.exVideoTag(body, frameType, dts, at)
	}
	if frameType == frameCommand {
		return nil
	}
	codec := stream.H264
	switch id := body[0] & 15; id {
	case videoAVC:
	case videoHEVC:
		codec = stream.H265
	default:
		return d.refuse(VideoID, strconv.Itoa(int(id)))
	}
	if len(body) < 5 {
		return nil
	}
	switch body[1] {
	case legacyConfig:
		return d.videoConfig(codec, body[5:])
	case legacyFrame:
		return d.picture(codec, frameType == frameKey, dts, int24(body[2:]), body[5:], at)
	}
	return nil
}

func (d *Demuxer) exVideoTag(body []byte, frameType byte, dts time.Duration, at time.Time) error {
	p, ok := parseEx(body, exMultitrackVideo, frameType == frameCommand)
	if !ok {
		return d.drop()
	}
	if p.payload == nil || p.typ != exConfig && p.typ != exFrame && p.typ != exFrameX {
		return nil // others: the end of the sequence, metadata, AV1's MPEG-2 TS descriptor
	}
	var codec stream.Codec
	switch p.four {
	case fourAVC:
		codec = stream.H264
	case fourHEVC:
		codec = stream.H265
	case fourAV1:
		codec = stream.AV1
	case fourVP8:
		codec = stream.VP8
	case fourVP9:
		codec = stream.VP9
	default:
		return d.refuse(VideoID, p.four)
	}
	if p.typ == exConfig {
		return d.videoConfig(codec, p.payload)
	}
	cts := int32(0)
	if p.typ == exFrame && (codec == stream.H264 || codec == stream.H265) {
		if len(p.payload) < 3 {
			return d.drop()
		}
		cts, p.payload = int24(p.payload), p.payload[3:]
	}
	return d.picture(codec, frameType == frameKey, dts+p.nano, cts, p.payload, at)
}

// videoConfig takes the decoder configuration of a sequence header.
func (d *Demuxer) videoConfig(codec stream.Codec, config []byte) error {
	if len(config) == 0 { // some encoders send one before they know
		return nil
	}
	if len(config) > maxConfig {
		return errLongConfig
	}
	switch codec {
	case stream.H264:
		c, err := h264.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		out := *c
		out.LengthSize = nal.LengthSize
		return d.setVideo(codec, inFours(config, c.LengthSize, &out), decoding{avc: c})
	case stream.H265:
		c, err := h265.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		out := *c
		out.LengthSize = nal.LengthSize
		return d.setVideo(codec, inFours(config, c.LengthSize, &out), decoding{hevc: c})
	case stream.AV1:
		c, err := av1.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		return d.setVideo(codec, config, decoding{av1: c})
	case stream.VP9:
		c, err := vpx.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		return d.setVideo(codec, c.Append(nil), decoding{vp9: c})
	}
	return d.setVideo(codec, nil, decoding{}) // VP8's says nothing
}

// inFours returns a configuration for NAL units with 4-byte lengths: as it is if
// it is one already, which keeps what we do not know of, and else out's.
func inFours(config []byte, size int, out interface{ Append([]byte) []byte }) []byte {
	if size == nal.LengthSize {
		return config
	}
	return out.Append(nil)
}

// decoding is what a decoder is told of the pictures; nil but for their codec.
type decoding struct {
	avc  *h264.Config // with the LengthSize of the frames as they come in
	hevc *h265.Config // likewise
	av1  *av1.Config
	vp9  *vpx.Config
}

// setVideo puts the video track into force. The record is for the track: its
// LengthSize, if it has one, is 4.
func (d *Demuxer) setVideo(codec stream.Codec, record []byte, by decoding) error {
	d.decoding = by
	return d.setTrack(&stream.Track{ID: VideoID, Codec: codec, Config: record})
}

// picture takes one access unit. flagged says that the publisher calls it a
// key frame: it knows of recovery points that have no IDR picture.
func (d *Demuxer) picture(codec stream.Codec, flagged bool, dts time.Duration, cts int32, data []byte, at time.Time) error {
	if len(data) == 0 {
		return nil
	}
	f := &stream.Frame{DTS: dts, PTS: dts + time.Duration(cts)*time.Millisecond, Time: at, Key: flagged, Data: data}
	var keep bool
	var err error
	switch codec {
	case stream.H264:
		keep, err = d.pictureH264(f)
	case stream.H265:
		keep, err = d.pictureH265(f)
	case stream.AV1:
		keep, err = d.pictureAV1(f)
	case stream.VP9:
		keep, err = d.pictureVP9(f)
	case stream.VP8:
		if _, _, f.Key = vpx.VP8Key(data); f.Key {
			err = d.setVideo(stream.VP8, nil, decoding{})
		}
		keep = true
	}
	if err != nil {
		return err
	}
	f.Track = d.tracks[VideoID-1]
	if !keep || f.Track == nil || f.Track.Codec != codec {
		return d.drop()
	}
	return d.Sink.Write(f)
}

func (d *Demuxer) pictureH264(f *stream.Frame) (keep bool, err error) {
	size := nal.LengthSize
	if d.avc != nil {
		size = d.avc.LengthSize
	}
	info, ok := inspect(f, size, h264.Inspect)
	if !ok {
		return false, nil
	}
	if info.ParameterSets {
		// The new sets are copied into the record: the track outlives the frame.
		if c, changed := d.avc.Update(f.Data); changed && len(c.PPS) > 0 {
			c.LengthSize = nal.LengthSize
			record := c.Append(nil)
			if c, err = h264.ParseConfig(record); err == nil {
				c.LengthSize = size
				err = d.setVideo(stream.H264, record, decoding{avc: c})
			}
		}
	}
	f.Key = f.Key || info.Key
	f.Discardable = info.Discardable
	return info.Picture, err
}

func (d *Demuxer) pictureH265(f *stream.Frame) (keep bool, err error) {
	size := nal.LengthSize
	if d.hevc != nil {
		size = d.hevc.LengthSize
	}
	info, ok := inspect(f, size, h265.Inspect)
	if !ok {
		return false, nil
	}
	if info.ParameterSets {
		if c, changed := d.hevc.Update(f.Data); changed && len(c.Units(h265.TypePPS)) > 0 {
			c.LengthSize = nal.LengthSize
			record := c.Append(nil)
			if c, err = h265.ParseConfig(record); err == nil {
				c.LengthSize = size
				err = d.setVideo(stream.H265, record, decoding{hevc: c})
			}
		}
	}
	f.Key = f.Key || info.Key
	f.Temporal = info.Temporal
	// Such a picture may still serve higher sub-layers, if there are any.
	f.Discardable = info.NonReference && d.hevc != nil && d.hevc.TemporalLayers > 0 && info.Temporal+1 >= d.hevc.TemporalLayers
	return info.Picture, err
}

// inspect walks over the NAL units of a frame, whose lengths have size bytes,
// and replaces them by ones with 4-byte lengths if they are none. Start codes
// in place of lengths, which some encoders send, are replaced too.
func inspect[I any](f *stream.Frame, size int, walk func([]byte) (I, bool)) (info I, ok bool) {
	if size != nal.LengthSize {
		if b, ok := nal.AppendResized(make([]byte, 0, len(f.Data)+len(f.Data)/8+16), f.Data, size); ok {
			f.Data = b
			return walk(b)
		}
	} else if info, ok = walk(f.Data); ok {
		return info, true
	}
	if nal.IsAnnexB(f.Data) {
		f.Data = nal.AppendFromAnnexB(make([]byte, 0, len(f.Data)+len(f.Data)/8+16), f.Data)
		return walk(f.Data)
	}
	return info, false
}

func (d *Demuxer) pictureAV1(f *stream.Frame) (keep bool, err error) {
	info, ok := av1.Inspect(f.Data)
	if !ok {
		return false, nil
	}
	if c, changed := d.av1.Update(info); changed {
		err = d.setVideo(stream.AV1, c.Append(nil), decoding{av1: c})
	}
	f.Data = av1.Normalize(f.Data, info)
	f.Key = f.Key || info.SequenceHeader.Raw != nil
	return info.Frame, err
}

func (d *Demuxer) pictureVP9(f *stream.Frame) (keep bool, err error) {
	if f.Key = vpx.VP9Key(f.Data); f.Key {
		c, bad := vpx.NewConfig(f.Data)
		if bad != nil {
			return false, nil
		}
		if d.vp9 == nil || !d.vp9.Fits(c) {
			err = d.setVideo(stream.VP9, c.Append(nil), decoding{vp9: c})
		}
	}
	return true, err
}
