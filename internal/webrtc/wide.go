package webrtc

import (
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
)

// The header extensions that are agreed on.
const (
	uriMID         = "urn:ietf:params:rtp-hdrext:sdes:mid"
	uriTransportCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	uriRID         = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"          // RFC 8852
	uriRepairedRID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id" // RFC 8852
	uriPlayout     = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"
)

// A wideReceiver tells the sender when its packets came, for its congestion
// control (draft-holmer-rmcat-transport-wide-cc-extensions-01).
type wideReceiver struct {
	recorder *twcc.Recorder
	epoch    time.Time
	told     time.Time
}

const (
	wideEvery = 100 * time.Millisecond
	maxHeld   = 2000 // packets between two reports
)

func (w *wideReceiver) arrived(ssrc uint32, sequence uint16, now time.Time) {
	if w.recorder == nil {
		w.recorder, w.epoch, w.told = twcc.NewRecorder(1), now, now
	}
	if w.recorder.PacketsHeld() < maxHeld {
		w.recorder.Record(ssrc, sequence, now.Sub(w.epoch).Microseconds())
	}
}

// report appends what is to be told now.
func (w *wideReceiver) report(packets []rtcp.Packet, now time.Time) []rtcp.Packet {
	if w.recorder == nil || now.Sub(w.told) < wideEvery {
		return packets
	}
	w.told = now
	return append(packets, w.recorder.BuildFeedbackPacket()...)
}
