package flv

import (
	"bytes"
	"strconv"
	"time"

	"github.com/runnel-media/runnel/internal/aac"
	"github.com/runnel-media/runnel/internal/ac3"
	"github.com/runnel-media/runnel/internal/mp3"
	"github.com/runnel-media/runnel/internal/opus"
	"github.com/runnel-media/runnel/stream"
)

func (d *Demuxer) audioTag(body []byte, dts time.Duration, at time.Time) error {
	id := body[0] >> 4
	if id == audioEx {
		return d.exAudioTag(body, dts, at)
	}
	channels := 1 + int(body[0]&1)
	b := body[1:]
	if len(b) == 0 {
		return nil
	}
	switch id {
	case audioAAC:
		switch b[0] {
		case legacyConfig:
			return d.configAAC(b[1:])
		case legacyFrame:
			return d.sound(stream.AAC, dts, b[1:], at)
		}
		return nil
	case audioMP3, audioMP38k:
		return d.sound(stream.MP3, dts, b, at)
	case audioPCMA, audioPCMU: // the rate bits cannot say 8 kHz, which is meant
		codec := stream.PCMA
		if id == audioPCMU {
			codec = stream.PCMU
		}
		if err := d.setAudio(codec, 8000, channels, nil); err != nil {
			return err
		}
		return d.sound(codec, dts, b, at)
	}
	return d.refuse(AudioID, strconv.Itoa(int(id)))
}

func (d *Demuxer) exAudioTag(body []byte, dts time.Duration, at time.Time) error {
	p, ok := parseEx(body, exMultitrackAudio, false)
	if !ok {
		return d.drop()
	}
	if p.payload == nil || p.typ != exConfig && p.typ != exFrame {
		return nil // others: the end of the sequence, speaker positions
	}
	var codec stream.Codec
	switch p.four {
	case fourAAC:
		codec = stream.AAC
	case fourMP3:
		codec = stream.MP3
	case fourOpus:
		codec = stream.Opus
	case fourAC3:
		codec = stream.AC3
	default:
		return d.refuse(AudioID, p.four)
	}
	switch {
	case p.typ == exFrame:
		return d.sound(codec, dts+p.nano, p.payload, at)
	case codec == stream.AAC:
		return d.configAAC(p.payload)
	case codec == stream.Opus:
		return d.configOpus(p.payload)
	}
	return nil // the others have no configuration
}

// setAudio puts the audio track into force. It costs nothing if it is already.
func (d *Demuxer) setAudio(codec stream.Codec, rate, channels int, config []byte) error {
	if t := d.tracks[AudioID-1]; t != nil && t.Codec == codec && t.Rate == rate && t.Channels == channels && bytes.Equal(t.Config, config) {
		return nil
	}
	return d.setTrack(&stream.Track{ID: AudioID, Codec: codec, Rate: rate, Channels: channels, Config: config})
}

func (d *Demuxer) configAAC(config []byte) error {
	if len(config) == 0 {
		return nil
	}
	if len(config) > maxConfig {
		return errLongConfig
	}
	c, err := aac.ParseConfig(config)
	if err != nil {
		return malformed(err)
	}
	return d.setAudio(stream.AAC, c.Rate, c.Channels, config)
}

func (d *Demuxer) configOpus(config []byte) error {
	// Enhanced RTMP allows the comment header here too.
	if len(config) == 0 || bytes.HasPrefix(config, []byte("OpusTags")) {
		return nil
	}
	if len(config) > maxConfig {
		return errLongConfig
	}
	h, err := opus.ParseHead(config)
	if err != nil {
		return malformed(err)
	}
	return d.setAudio(stream.Opus, opus.Rate, h.Channels, config)
}

// sound takes one audio frame.
func (d *Demuxer) sound(codec stream.Codec, dts time.Duration, data []byte, at time.Time) error {
	if len(data) == 0 {
		return nil
	}
	var err error
	switch codec { // those whose frames say what the track is
	case stream.MP3:
		h, bad := mp3.Parse(data)
		if bad != nil {
			return d.drop()
		}
		err = d.setAudio(stream.MP3, h.Rate, h.Channels, nil)
	case stream.AC3:
		h, bad := ac3.Parse(data)
		if bad != nil {
			return d.drop()
		}
		err = d.setAudio(stream.AC3, h.Rate, h.Channels, nil)
	case stream.Opus:
		if t := d.tracks[AudioID-1]; t == nil || t.Codec != stream.Opus { // a sender without headers
			channels := 1
			if opus.Stereo(data) {
				channels = 2
			}
			err = d.setAudio(stream.Opus, opus.Rate, channels, opus.DefaultHead(channels).Append(nil))
		}
	}
	if err != nil {
		return err
	}
	t := d.tracks[AudioID-1]
	if t == nil || t.Codec != codec {
		return d.drop()
	}
	return d.Sink.Write(&stream.Frame{Track: t, DTS: dts, PTS: dts, Time: at, Key: true, Data: data})
}
