package webrtc

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	pion "github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/rtp"
	"github.com/runnel-media/runnel/stream"
)

func TestParseSimulcast(t *testing.T) {
	for v, want := range map[string]string{
		"send f;h;q":               "f h q",
		"send 1;~2,3 recv 4":       "1 2",
		"recv 4;5 send a-b_C":      "a-b_C",
		"recv a":                   "",
		"send":                     "",
		"":                         "",
		"send a;b!;;c":             "a c",
		"send 12345678901234567;x": "x",
		"send 1;2;3;4;5;6;7;8;9":   "1 2 3 4 5 6 7 8",
	} {
		require.Equal(t, want, strings.Join(parseSimulcast(v), " "), v)
	}
	for _, c := range []struct{ more, want string }{
		{"a=rid:f send\r\na=rid:q send pt=96\r\na=rid:r recv\r\na=simulcast:send f;q;r;none\r\n", "f q"},
		{"a=rid:f send\r\na=rid:q send\r\n", ""},
		{"a=simulcast:send f;q\r\n", ""},
		{"a=rid:f send\r\na=simulcast:send f;f\r\n", "f"},
		{"a=rid:1 send\r\na=rid:2 send\r\na=rid:3 send\r\na=rid:4 send\r\na=rid:5 send\r\na=simulcast:send 5;4;3;2;1\r\n", "5 4 3 2"},
		{"a=ssrc-group:FID 1 2\r\na=ssrc-group:SIM 1 3 5\r\na=ssrc-group:FID 3 4\r\n", "0 1 2"},
		{"a=ssrc-group:SIM 1\r\n", ""},
		{"a=ssrc-group:SIM 1 x\r\n", ""},
		{"a=ssrc-group:FID 1 2\r\n", ""},
	} {
		o, err := ParseOffer([]byte(offerOf(videoLine(0, c.more))))
		require.NoError(t, err)
		require.Equal(t, c.want, strings.Join(o.Media[0].RIDs, " "), c.more)
	}
	o, err := ParseOffer([]byte(offerOf(videoLine(0, "a=ssrc-group:FID 1 2\r\na=ssrc-group:SIM 1 3\r\na=ssrc-group:FID 3 4\r\n"))))
	require.NoError(t, err)
	require.Equal(t, map[uint32]string{1: "0", 2: "0", 3: "1", 4: "1"}, o.Media[0].ssrcs)
}

func FuzzSimulcast(f *testing.F) {
	f.Add("send 1;~2,3 recv 4", "f send", "SIM 1 2 3")
	f.Add("recv a send b", "b send pt=96;max-width=1280", "FID 4294967295 0")
	f.Fuzz(func(t *testing.T, simulcast, rid, group string) {
		for _, rid := range parseSimulcast(simulcast) {
			if !isRID(rid) {
				t.Fatalf("%q", rid)
			}
		}
		m := &Media{}
		semantics, ssrcs := ssrcGroup(group)
		m.simulcast(simulcast, []string{rid}, map[string][][]uint32{semantics: {ssrcs}})
		if len(m.RIDs) > maxLayers || len(m.ssrcs) > 2*maxLayers {
			t.Fatal("too many")
		}
	})
}

const ridID, repairedID = 10, 11

// sendLayer sends an RTP packet with a header extension.
func (c *client) sendLayer(payload uint8, ssrc uint32, sequence uint16, stamp uint32, marker bool, id uint8, rid string, body []byte) {
	c.t.Helper()
	p := pion.Packet{Header: pion.Header{Version: 2, PayloadType: payload, SSRC: ssrc, SequenceNumber: sequence, Timestamp: stamp, Marker: marker}, Payload: body}
	require.NoError(c.t, p.SetExtension(4, []byte("0")))
	if rid != "" {
		require.NoError(c.t, p.SetExtension(id, []byte(rid)))
	}
	b, err := p.Marshal()
	require.NoError(c.t, err)
	out, err := c.out.EncryptRTP(nil, b, nil)
	require.NoError(c.t, err)
	_, err = c.conn.Write(out)
	require.NoError(c.t, err)
}

// Layers come by their rids, also where only the first packets say them, each is
// repaired and asked for a key frame for itself, and what belongs to none is left.
func TestReceiveSimulcast(t *testing.T) {
	tr := start(t, &Transport{})
	c := newClient(t)
	frames, connected := make(chan got, 1000), make(chan struct{})
	s, answer, err := tr.Receive(c.offer(videoLine(0, "a=sendonly\r\na=extmap:10 "+uriRID+"\r\na=extmap:11 "+uriRepairedRID+"\r\n"+
		"a=rid:f send\r\na=rid:q send\r\na=simulcast:send f;q\r\n")), true, Handler{
		Connected: func() { close(connected) }, Frame: func(i *Incoming, f Frame) { frames <- got{i, f} },
	})
	require.NoError(t, err)
	for _, l := range []string{"a=rid:f recv", "a=rid:q recv", "a=simulcast:recv f;q", "a=extmap:10 " + uriRID, "a=extmap:11 " + uriRepairedRID} {
		require.Contains(t, string(answer), l+"\r\n")
	}
	c.dial(answer)
	require.NoError(t, c.connect())
	wait(t, connected)

	one := func(key bool, fill byte) []byte {
		b := bytes.Repeat([]byte{fill}, 40)
		if b[0] = 1; key {
			b[0] = 0
		}
		return (&rtp.VP8{}).Pack(nil, b, key, 1000)[0]
	}
	c.sendLayer(vp8, 7, 1, 1000, true, ridID, "", one(true, 9)) // it says nothing
	c.sendLayer(vp8, 7, 2, 1000, true, ridID, "x", one(true, 9))
	c.sendLayer(vp8, 1, 10, 1000, true, ridID, "f", one(true, 1))
	g := wait(t, frames)
	require.Equal(t, "f", g.track.Layer)
	c.sendLayer(vp8, 2, 20, 5000, true, ridID, "q", one(true, 2))
	g = wait(t, frames)
	low := g.track
	require.Equal(t, "q", low.Layer)
	require.EqualValues(t, 2, g.frame.Data[1])

	// A gap in the lower layer, which comes by RTX.
	c.sendLayer(vp8, 2, 22, 11000, true, ridID, "", one(false, 4))
	c.next(func(_ *pion.Packet, packets []rtcp.Packet) bool {
		for _, p := range packets {
			if n, ok := p.(*rtcp.TransportLayerNack); ok {
				require.EqualValues(t, 2, n.MediaSSRC)
				return true
			}
		}
		return false
	})
	c.sendLayer(vp8RTX, 98, 500, 8000, true, repairedID, "f", append([]byte{0, 11}, one(false, 8)...)) // the other's
	c.sendLayer(vp8RTX, 99, 500, 8000, true, repairedID, "q", append([]byte{0, 21}, one(false, 3)...))
	seen := map[byte]string{}
	for range 3 {
		g = wait(t, frames)
		seen[g.frame.Data[1]] = g.track.Layer
	}
	require.Equal(t, map[byte]string{3: "q", 4: "q", 8: "f"}, seen)

	s.RequestKeyOf(low)
	c.next(func(_ *pion.Packet, packets []rtcp.Packet) bool {
		for _, p := range packets {
			if r, ok := p.(*rtcp.PictureLossIndication); ok {
				require.EqualValues(t, 2, r.MediaSSRC)
				return true
			}
		}
		return false
	})
	require.Empty(t, frames)
}

// vp8Picture returns a picture of VP8, of which the last byte says whose it is.
func vp8Picture(key bool, width, height int, mark byte) []byte {
	b := []byte{1, 0, 0, 0x9d, 1, 0x2a, byte(width), byte(width >> 8), byte(height), byte(height >> 8), mark}
	if key {
		b[0] = 0
	}
	return b
}

// The finest layer that comes is the stream, from a key frame on; when it is gone
// the next best is, until it is back. The others are renditions.
func TestAssemblerLayers(t *testing.T) {
	hub := &stream.Hub{}
	defer hub.Close()
	pub, err := hub.Publish(t.Context(), "live/a", nil)
	require.NoError(t, err)
	asked := map[string]int{}
	a := &Assembler{Publisher: pub, RequestKey: func(in *Incoming) { asked[in.Layer]++ }}
	sub, err := hub.Subscribe(t.Context(), "live/a", &stream.SubscribeOptions{Live: true})
	require.NoError(t, err)
	var batch [64]*stream.Frame
	read := func(sub *stream.Subscriber) (marks string, last time.Duration) {
		n, err := sub.TryRead(batch[:])
		require.NoError(t, err)
		for _, f := range batch[:n] {
			marks += string(f.Data[10])
			last = f.DTS
		}
		return marks, last
	}
	layers := map[string]*Incoming{}
	sizes := map[string]int{"q": 180, "h": 360, "f": 720}
	for rid := range sizes {
		layers[rid] = &Incoming{Layer: rid, Codec: stream.VP8, Format: &Format{Clock: 90000}}
	}
	now := time.Unix(1e9, 0)
	offset := map[string]int64{"q": 1000, "h": 1 << 31, "f": 77}
	frame := func(rid string, key bool) {
		stamp := offset[rid] + int64(now.Sub(time.Unix(1e9, 0))*90/time.Millisecond)
		a.Frame(layers[rid], Frame{Frame: rtp.Frame{Timestamp: stamp, Key: key, Arrived: now, Data: vp8Picture(key, sizes[rid]*16/9, sizes[rid], rid[0])}})
	}
	step := func(rids ...string) {
		now = now.Add(40 * time.Millisecond)
		for _, rid := range rids {
			frame(strings.ToLower(rid), strings.ToUpper(rid) == rid)
		}
	}
	expect := func(want string) {
		t.Helper()
		marks, _ := read(sub)
		require.Equal(t, want, marks)
	}
	names := func() (list []string) {
		for _, r := range pub.Stream().Renditions() {
			list = append(list, r.Name())
		}
		return list
	}
	step("Q")
	step("q")
	expect("qq")
	require.Empty(t, names(), "there is no other")
	step("q", "h") // not a key frame: it is not known how large it is
	step("q", "H")
	step("q", "h")
	expect("qqhh")
	require.Equal(t, []string{"q"}, names())
	step("q", "h", "F")
	step("q", "h", "f")
	expect("hff")
	require.Equal(t, []string{"q", "h"}, names())
	info := pub.Stream().Rendition("h").Info()
	require.Equal(t, 360, info.Height)

	low, err := pub.Stream().Rendition("q").Subscribe(&stream.SubscribeOptions{Live: true})
	require.NoError(t, err)
	require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.find(layers["q"]).layer.out != nil }, patience, time.Millisecond)
	before := asked["q"]
	require.Positive(t, before, "who begins to read wants a key frame")
	step("q", "h", "f")
	step("Q", "h", "f")
	step("q", "h", "f")
	marks, at := read(low)
	require.Equal(t, "qq", marks)
	marks, published := read(sub)
	require.Equal(t, "fff", marks)
	require.InDelta(t, float64(published), float64(at), float64(time.Millisecond), "both are of one time")
	low.Stream().RequestKey()
	require.Greater(t, asked["q"], before)

	// The highest is gone: after a while the next is asked, and takes its place.
	for range 40 {
		step("q", "h")
	}
	require.Positive(t, asked["h"])
	require.Equal(t, "f", a.Main().Layer)
	expect("")
	step("q", "H")
	step("q", "h")
	expect("hh")
	require.Equal(t, "h", a.Main().Layer)
	require.Equal(t, []string{"q", "h"}, names())
	step("q", "h", "f")
	expect("h")
	require.Positive(t, asked["f"])
	step("q", "h", "F")
	step("q", "h", "f")
	expect("hff")
	a.Close()
	require.Empty(t, names())
	step("F")
	expect("")
}
