package flv

import (
	"bytes"
	"math"
	"time"

	"github.com/runnel-media/runnel/internal/amf"
	"github.com/runnel-media/runnel/stream"
)

// maxData bounds a data message; metadata have some hundred bytes.
const maxData = 1 << 18

func (d *Demuxer) dataTag(body []byte, dts time.Duration, at time.Time) error {
	if len(body) > maxData {
		return d.drop()
	}
	name, rest := dataName(body)
	switch name {
	case "@setDataFrame": // "keep what follows for those who come later"
		body = rest
		name, rest = dataName(body)
	case "@clearDataFrame":
		if name, _ = dataName(rest); name == "onMetaData" {
			d.Sink.SetMetadata(nil)
		}
		return nil
	}
	switch name {
	case "":
		return d.drop()
	case "|RtmpSampleAccess": // for Flash's sandbox
		return nil
	}
	// Players get the message as it is, so it must be whole.
	values, err := amf.Decode(rest)
	if err != nil {
		return d.drop()
	}
	if name == "onMetaData" {
		for _, v := range values {
			if o, ok := amf.AsObject(v); ok {
				d.Sink.SetMetadata(cleanMap(o.Map(), 0))
				break
			}
		}
		return nil
	}
	if d.tracks[DataID-1] == nil {
		if err := d.setTrack(&stream.Track{ID: DataID, Codec: stream.AMF0}); err != nil {
			return err
		}
	}
	return d.Sink.Write(&stream.Frame{Track: d.tracks[DataID-1], DTS: dts, PTS: dts, Time: at, Key: true, Data: body})
}

// dataName returns the AMF0 string at the start of a data message and what
// follows it; "" if there is none.
func dataName(b []byte) (name string, rest []byte) {
	if len(b) < 3 || b[0] != 2 {
		return "", nil
	}
	n := 3 + int(b[1])<<8 + int(b[2])
	if n > len(b) || n > 3+256 {
		return "", nil
	}
	return string(bytes.TrimRight(b[3:n], "\x00")), b[n:]
}

// Bounds of metadata, on the way in and out.
const (
	maxMetaKeys   = 256
	maxMetaString = 1 << 12
	maxMetaDepth  = 4
)

// cleanMap returns m without what metadata cannot have: numbers that are not
// finite, types that AMF0 has no word for, and what is beyond the bounds.
func cleanMap(m map[string]any, depth int) map[string]any {
	out := make(map[string]any, min(len(m), maxMetaKeys))
	for k, v := range m {
		if len(out) == maxMetaKeys {
			break
		}
		if v, ok := cleanValue(v, depth); ok && k != "" && len(k) <= 256 {
			out[k] = v
		}
	}
	return out
}

func cleanValue(v any, depth int) (any, bool) {
	switch v := v.(type) {
	case nil, bool:
		return v, true
	case string:
		return v, len(v) <= maxMetaString
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case int:
		return float64(v), true
	case []any:
		if depth >= maxMetaDepth || len(v) > maxMetaKeys {
			return nil, false
		}
		out := make([]any, 0, len(v))
		for _, e := range v {
			if e, ok := cleanValue(e, depth+1); ok {
				out = append(out, e)
			}
		}
		return out, true
	case map[string]any:
		if depth >= maxMetaDepth {
			return nil, false
		}
		return cleanMap(v, depth+1), true
	case stream.Metadata:
		return cleanValue(map[string]any(v), depth)
	}
	return nil, false
}
