package webrtc

import (
	"testing"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"
)

// A path that carries less than is sent is found out, one that carries more is
// not held to be worse than it is, and neither jitter nor some loss is mistaken
// for a narrow path. The far end is pion's.
func TestEstimate(t *testing.T) {
	for _, c := range []struct {
		name            string
		sends, carries  float64 // Mbit/s
		jitter          time.Duration
		loseEvery       int
		atLeast, atMost float64
	}{
		{"narrow", 1.5, 1, 0, 0, 0.7, 1.05},
		{"wide", 1, 10, 0, 0, 1.5, 2.1},
		{"jitter", 1, 10, 30 * time.Millisecond, 0, 1.5, 2.2},
		{"some loss", 1, 10, 0, 25, 1.4, 2.1},
		{"much loss", 1, 10, 0, 4, 0, 0.6},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e estimate
			recorder := twcc.NewRecorder(1)
			now := time.Unix(1e9, 0)
			var busy time.Time
			var again []byte
			told := now
			const size = 1000
			for n := range int(c.sends * 1e6 / 8 / size * 20) { // 20 s
				now = now.Add(time.Duration(size * 8 / c.sends * 1e3))
				number := e.number(size, now)
				if c.loseEvery == 0 || n%c.loseEvery != 0 {
					if busy.Before(now) {
						busy = now
					}
					busy = busy.Add(time.Duration(size * 8 / c.carries * 1e3))
					at := busy.Add(12345*time.Second + c.jitter*time.Duration(n*7%10)/10)
					recorder.Record(1, number, at.UnixMicro()%1e9)
				}
				if now.Sub(told) < 100*time.Millisecond {
					continue
				}
				told = now
				for _, p := range recorder.BuildFeedbackPacket() {
					b, err := p.Marshal()
					require.NoError(t, err)
					e.feedback(b)
					again = b
				}
			}
			require.Zero(t, testing.AllocsPerRun(10, func() { e.feedback(again) }))
			require.GreaterOrEqual(t, e.bitrate, c.atLeast*1e6)
			require.LessOrEqual(t, e.bitrate, c.atMost*1e6)
		})
	}
}

func FuzzEstimate(f *testing.F) {
	for _, chunk := range []rtcp.PacketStatusChunk{
		&rtcp.RunLengthChunk{PacketStatusSymbol: 1, RunLength: 3},
		&rtcp.StatusVectorChunk{Type: 1, SymbolSize: 1, SymbolList: []uint16{1, 2, 0, 1, 0, 0, 0}},
	} {
		p := &rtcp.TransportLayerCC{
			Header: rtcp.Header{Padding: true, Count: 15, Type: rtcp.TypeTransportSpecificFeedback, Length: 6}, BaseSequenceNumber: 1, PacketStatusCount: 3,
			PacketChunks: []rtcp.PacketStatusChunk{chunk},
			RecvDeltas:   []*rtcp.RecvDelta{{Type: 1, Delta: 250}, {Type: 1, Delta: 500}, {Type: 1, Delta: 250}},
		}
		if b, err := p.Marshal(); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e estimate
		for range 600 {
			e.number(100, time.Unix(1e9, 0))
		}
		e.feedback(b)
		e.feedback(b)
		if e.came+e.lost > len(e.sent) {
			t.Fatal("more than was sent")
		}
	})
}
