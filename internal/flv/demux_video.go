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
		if c.LengthSize != nal.LengthSize {
			out := *c
			out.LengthSize = nal.LengthSize
			config = out.Append(nil)
		}
		return d.setH264(c, config)
	case stream.H265:
		c, err := h265.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		if c.LengthSize != nal.LengthSize {
			out := *c
			out.LengthSize = nal.LengthSize
			config = out.Append(nil)
		}
		return d.setH265(c, config)
	case stream.AV1:
		c, err := av1.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		return d.setAV1(c, config)
	case stream.VP9:
		c, err := vpx.ParseConfig(config)
		if err != nil {
			return malformed(err)
		}
		return d.setVP9(c)
	}
	return d.setVideo(codec, nil) // VP8's says nothing
}

// setVideo puts the video track into force.
func (d *Demuxer) setVideo(codec stream.Codec, config []byte) error {
	return d.setTrack(&stream.Track{ID: VideoID, Codec: codec, Config: config})
}

// setH264 takes a configuration whose LengthSize is that of the frames to
// come, and the record for the track, which says 4.
func (d *Demuxer) setH264(c *h264.Config, record []byte) error {
	d.avc, d.hevc, d.av1, d.vp9 = c, nil, nil, nil
	return d.setVideo(stream.H264, record)
}

func (d *Demuxer) setH265(c *h265.Config, record []byte) error {
	d.avc, d.hevc, d.av1, d.vp9 = nil, c, nil, nil
	return d.setVideo(stream.H265, record)
}

func (d *Demuxer) setAV1(c *av1.Config, record []byte) error {
	d.avc, d.hevc, d.av1, d.vp9 = nil, nil, c, nil
	return d.setVideo(stream.AV1, record)
}

func (d *Demuxer) setVP9(c *vpx.Config) error {
	d.avc, d.hevc, d.av1, d.vp9 = nil, nil, nil, c
	return d.setVideo(stream.VP9, c.Append(nil))
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
			err = d.setVideo(stream.VP8, nil)
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
				err = d.setH264(c, record)
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
				err = d.setH265(c, record)
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
		err = d.setAV1(c, c.Append(nil))
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
			err = d.setVP9(c)
		}
	}
	return true, err
}
