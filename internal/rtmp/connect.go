package rtmp

import (
	"github.com/runnel-media/runnel/internal/amf"
)

// Bits of capsEx (Enhanced RTMP v2, "Enhancing NetConnection connect Command").
const (
	capsReconnect  = 0x01
	capsMultitrack = 0x02
	capsModEx      = 0x04
	capsNanoOffset = 0x08
)

// Bits of the values of videoFourCcInfoMap and audioFourCcInfoMap.
const (
	canDecode  = 0x01
	canEncode  = 0x02
	canForward = 0x04
)

// The codecs that can be forwarded, by FourCC.
var (
	videoFourCCs = []string{"av01", "vp09", "vp08", "hvc1", "avc1"}
	audioFourCCs = []string{"Opus", "mp4a", ".mp3", "ac-3"}
)

const (
	maxText   = 2 << 10 // of each string that connect brings
	maxAccept = 64      // FourCCs that a peer may list
)

// connectInfo is what the connect command told.
type connectInfo struct {
	app, tcURL, pageURL string
	objectEncoding      float64
	enhanced            bool     // it spoke of FourCCs
	reconnects          bool     // when it is asked to
	accept              []string // FourCCs that it can decode; nil: it did not say
}

func parseConnect(cmd *command) (connectInfo, error) {
	o := cmd.object
	info := connectInfo{
		app: o.String("app"), tcURL: o.String("tcUrl"), pageURL: o.String("pageUrl"),
		objectEncoding: o.Number("objectEncoding"),
	}
	if o == nil || len(info.app) > maxText || len(info.tcURL) > maxText || len(info.pageURL) > maxText {
		return connectInfo{}, errCommand
	}
	if list, ok := o.Get("fourCcList").([]any); ok {
		info.enhanced = true
		for _, v := range list {
			if s, ok := v.(string); ok {
				info.add(s)
			}
		}
	}
	for _, key := range []string{"videoFourCcInfoMap", "audioFourCcInfoMap"} {
		m, ok := amf.AsObject(o.Get(key))
		if !ok {
			continue
		}
		info.enhanced = true
		for _, p := range m {
			if can, ok := p.Value.(float64); ok && int64(can)&(canDecode|canForward) != 0 {
				info.add(p.Name)
			}
		}
	}
	if caps, ok := o.Get("capsEx").(float64); ok {
		info.enhanced = true
		info.reconnects = int64(caps)&capsReconnect != 0
	}
	return info, nil
}

func (i *connectInfo) add(fourCC string) {
	if (len(fourCC) != 4 && fourCC != "*") || len(i.accept) >= maxAccept {
		return
	}
	for _, have := range i.accept {
		if have == fourCC {
			return
		}
	}
	i.accept = append(i.accept, fourCC)
}

// appendConnected appends the answer to connect.
func appendConnected(dst []byte, id float64, info *connectInfo) []byte {
	dst = appendControl(dst, typeWindowAckSize, windowAckSize)
	dst = appendPeerBandwidth(dst, windowAckSize)
	dst = appendControl(dst, typeSetChunkSize, PlayChunkSize)
	properties := amf.Object{
		{Name: "fmsVer", Value: "FMS/3,5,7,7009"}, // players look for the form, not for us
		{Name: "capabilities", Value: 31.0},
		{Name: "mode", Value: 1.0},
	}
	if info.enhanced {
		properties = append(properties, capabilities(canForward)...)
	}
	status := amf.Object{
		{Name: "level", Value: connectSuccess.level},
		{Name: "code", Value: connectSuccess.code},
		{Name: "description", Value: connectSuccess.description},
		{Name: "objectEncoding", Value: info.objectEncoding},
	}
	return appendCommand(dst, 0, "_result", id, properties, status)
}

// capabilities returns the properties of Enhanced RTMP that either side of a
// connection tells of itself.
func capabilities(can float64) amf.Object {
	var list []any
	var maps [2]amf.Object
	for i, names := range [2][]string{videoFourCCs, audioFourCCs} {
		for _, name := range names {
			list = append(list, name)
			maps[i] = append(maps[i], amf.Property{Name: name, Value: can})
		}
	}
	return amf.Object{
		{Name: "fourCcList", Value: list},
		{Name: "videoFourCcInfoMap", Value: maps[0]},
		{Name: "audioFourCcInfoMap", Value: maps[1]},
		{Name: "capsEx", Value: float64(capsReconnect | capsMultitrack | capsModEx | capsNanoOffset)},
	}
}
