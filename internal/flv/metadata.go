package flv

import (
	"math"

	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream"
)

// MetadataFor is Options.MetadataFor with the zero Options.
func MetadataFor(tracks []*stream.Track, m stream.Metadata) stream.Metadata {
	return Options{}.MetadataFor(tracks, m)
}

// MetadataFor returns the onMetaData that fits the tracks: codec ids, size,
// frame rate and sample rate of the tracks over what the publisher says in m.
// What a live stream does not have (duration, file size, an index of key
// frames) is left out, as are the keys of a kind of track that is not there
// (it may come later, so nothing says that it will not), numbers that are not finite and what is beyond
// the bounds of metadata. m is not modified.
func (o Options) MetadataFor(tracks []*stream.Track, m stream.Metadata) stream.Metadata {
	out := stream.Metadata(cleanMap(m, 0))
	for _, k := range [...]string{
		"hasVideo", "hasAudio", "duration", "filesize", "keyframes", "hasKeyframes", "hasMetadata", "canSeekToEnd",
		"lasttimestamp", "lastkeyframetimestamp", "lastkeyframelocation", "datasize", "videosize", "audiosize",
	} {
		delete(out, k) // players would take the stream for a file
	}
	var video, audio bool
	for _, t := range tracks {
		switch t.Kind() {
		case stream.Video:
			video = true
			out["hasVideo"] = true
			o.videoMetadata(out, t)
		case stream.Audio:
			audio = true
			out["hasAudio"] = true
			audioMetadata(out, t)
		}
	}
	if !video {
		for _, k := range [...]string{"videocodecid", "width", "height", "framerate", "videodatarate"} {
			delete(out, k)
		}
	}
	if !audio {
		for _, k := range [...]string{"audiocodecid", "audiosamplerate", "audiosamplesize", "audiochannels", "stereo", "audiodatarate"} {
			delete(out, k)
		}
	}
	return out
}

func (o Options) videoMetadata(out stream.Metadata, t *stream.Track) {
	switch t.Codec {
	case stream.H264:
		out["videocodecid"] = float64(videoAVC)
	case stream.H265:
		out["videocodecid"] = fourNumber(fourHEVC)
		if o.LegacyHEVC {
			out["videocodecid"] = float64(videoHEVC)
		}
	case stream.AV1:
		out["videocodecid"] = fourNumber(fourAV1)
	case stream.VP8:
		out["videocodecid"] = fourNumber(fourVP8)
	case stream.VP9:
		out["videocodecid"] = fourNumber(fourVP9)
	}
	v, _ := t.Video() // what it does not know is 0, and the publisher's word stands
	if v.Width > 0 && v.Height > 0 {
		out["width"], out["height"] = float64(v.Width), float64(v.Height)
	}
	// An encoder with a variable rate states its clock's here, so the
	// publisher knows better.
	if _, ok := out["framerate"].(float64); !ok && v.FPS > 0 {
		out["framerate"] = math.Round(v.FPS*1000) / 1000
	}
}

func audioMetadata(out stream.Metadata, t *stream.Track) {
	switch t.Codec {
	case stream.AAC:
		out["audiocodecid"] = float64(audioAAC)
	case stream.MP3:
		out["audiocodecid"] = float64(audioMP3)
	case stream.PCMA:
		out["audiocodecid"] = float64(audioPCMA)
	case stream.PCMU:
		out["audiocodecid"] = float64(audioPCMU)
	case stream.Opus:
		out["audiocodecid"] = fourNumber(fourOpus)
	case stream.AC3:
		out["audiocodecid"] = fourNumber(fourAC3)
	}
	a, _ := t.Audio()
	if a.Rate > 0 {
		out["audiosamplerate"] = float64(a.Rate)
	}
	if a.Channels > 0 {
		out["audiochannels"] = float64(a.Channels)
		out["stereo"] = a.Channels == 2
	}
}

// fourNumber returns a FourCC as Enhanced RTMP writes it into metadata.
func fourNumber(four string) float64 {
	return float64(uint32(four[0])<<24 | uint32(four[1])<<16 | uint32(four[2])<<8 | uint32(four[3]))
}

// AppendMetadataBody appends the body of an onMetaData message.
func AppendMetadataBody(dst []byte, m stream.Metadata) ([]byte, error) {
	return amf.Append(dst, "onMetaData", amf.FromMetadata(m))
}
