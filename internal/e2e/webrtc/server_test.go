package webrtc

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/auth"
	"github.com/runnel-media/runnel/deliver"
	"github.com/runnel-media/runnel/deliver/whep"
	"github.com/runnel-media/runnel/ingest"
	"github.com/runnel-media/runnel/ingest/whip"
	"github.com/runnel-media/runnel/stream"
)

// A server is everything that the tests talk to, in this process.
type server struct {
	hub       *stream.Hub
	in        *ingest.Server
	out       *deliver.Server
	transport *whip.Transport
	whip      *whip.Handler
	whep      *whep.Handler
	mux       *http.ServeMux
	http      string // "http://…"
	rtmp      string // "rtmp://…"
}

func startServer(t *testing.T) *server {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "0.0.0.0:0")
	require.NoError(t, err)
	return startServerAt(t, pc)
}

// startServerAt is startServer with the media at pc.
func startServerAt(t *testing.T, pc net.PacketConn) *server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	hub := &stream.Hub{Log: log, Grace: 2 * time.Second}
	s := &server{
		hub: hub, mux: http.NewServeMux(), transport: &whip.Transport{Log: log},
		in:  &ingest.Server{Hub: hub, Auth: auth.AllowAll, Log: log},
		out: &deliver.Server{Hub: hub, Auth: auth.AllowAll, Log: log, Wait: live},
	}
	go func() { _ = s.transport.ServePacket(pc) }() // ends with Close
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.rtmp = "rtmp://" + l.Addr().String()
	go func() { _ = s.in.ServeRTMP(l, s.out) }()
	s.whip = &whip.Handler{Server: s.in, Transport: s.transport}
	s.whep = &whep.Handler{Server: s.out, Transport: s.transport, Wait: live}
	s.mux.Handle("/whip/", http.StripPrefix("/whip", s.whip))
	s.mux.Handle("/whep/", http.StripPrefix("/whep", s.whep))
	s.mux.Handle("/live/", s.out)
	s.mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	})
	web := httptest.NewServer(s.mux)
	s.http = web.URL
	t.Cleanup(func() {
		s.transport.Close()
		s.in.Close()
		s.out.Close()
		hub.Close()
		web.CloseClientConnections()
		web.Close()
	})
	return s
}

// page publishes a picture and a tone of its own making, and plays.
const page = `<!doctype html><link rel="icon" href="data:,"><canvas id="c" width="320" height="180"></canvas><video id="v" autoplay muted></video><script>
const complete = pc => new Promise(done => {
	if (pc.iceGatheringState === "complete") return done();
	pc.onicegatheringstatechange = () => { if (pc.iceGatheringState === "complete") done(); };
	setTimeout(done, 3000);
});
const exchange = async (pc, url) => {
	await pc.setLocalDescription(await pc.createOffer());
	await complete(pc);
	const r = await fetch(url, {method: "POST", headers: {"Content-Type": "application/sdp"}, body: pc.localDescription.sdp});
	const text = await r.text();
	if (r.status !== 201) throw new Error(r.status + " " + text);
	await pc.setRemoteDescription({type: "answer", sdp: text});
	return new URL(r.headers.get("Location"), url).href;
};
let sender, receiver, resource;
const codecs = {};
const publish = async (url, prefer) => {
	const canvas = document.querySelector("#c"), paint = canvas.getContext("2d");
	let n = 0;
	setInterval(() => {
		paint.fillStyle = "hsl(" + n++ * 7 % 360 + ",80%,50%)";
		paint.fillRect(0, 0, 320, 180);
		paintClock(paint);
	}, 40);
	const sound = new AudioContext(), tone = sound.createOscillator(), to = sound.createMediaStreamDestination();
	tone.frequency.value = 440;
	tone.connect(to);
	tone.start();
	sender = new RTCPeerConnection();
	const video = sender.addTransceiver(canvas.captureStream(25).getVideoTracks()[0], {direction: "sendonly"});
	sender.addTransceiver(to.stream.getAudioTracks()[0], {direction: "sendonly"});
	const all = RTCRtpSender.getCapabilities("video").codecs;
	video.setCodecPreferences([...all.filter(c => c.mimeType.toLowerCase() === "video/" + prefer), ...all.filter(c => c.mimeType === "video/rtx")]);
	resource = await exchange(sender, url);
};
// camera publishes the browser's fake camera and microphone, which beeps each second.
const camera = async (url, prefer) => {
	const media = await navigator.mediaDevices.getUserMedia({video: {width: 320, height: 240, frameRate: 20}, audio: true});
	sender = new RTCPeerConnection();
	const video = sender.addTransceiver(media.getVideoTracks()[0], {direction: "sendonly"});
	sender.addTransceiver(media.getAudioTracks()[0], {direction: "sendonly"});
	const all = RTCRtpSender.getCapabilities("video").codecs;
	video.setCodecPreferences([...all.filter(c => c.mimeType.toLowerCase() === "video/" + prefer), ...all.filter(c => c.mimeType === "video/rtx")]);
	resource = await exchange(sender, url);
};
let energy = 0, loudest = -200, frequency = 0, tone = 0; // the tone is that of the loudest moment
const play = async url => {
	listen();
	resource = await exchange(receiver, url);
};
// relayed plays through the TURN servers of the answer alone, as RFC 9725 Section 4.6 has it.
const relayed = async (url, transport) => {
	listen();
	const offer = await receiver.createOffer();
	const r = await fetch(url, {method: "POST", headers: {"Content-Type": "application/sdp"}, body: offer.sdp});
	const text = await r.text();
	if (r.status !== 201) throw new Error(r.status + " " + text);
	const iceServers = (r.headers.get("Link") || "").split(/,\s*(?=<)/).map(l => l.match(/^<(turn:[^>]*)>.*; username="([^"]*)"; credential="([^"]*)"/))
		.filter(m => m && m[1].endsWith("=" + transport)).map(m => ({urls: m[1], username: m[2], credential: m[3]}));
	if (!iceServers.length) throw new Error("no TURN server: " + r.headers.get("Link"));
	receiver.onicecandidateerror = e => console.error("ice", e.url, e.errorCode, e.errorText);
	receiver.setConfiguration({iceServers, iceTransportPolicy: "relay"});
	await receiver.setLocalDescription(offer);
	await receiver.setRemoteDescription({type: "answer", sdp: text});
};
const listen = () => {
	receiver = new RTCPeerConnection();
	receiver.addTransceiver("video", {direction: "recvonly"});
	receiver.addTransceiver("audio", {direction: "recvonly"});
	const got = new MediaStream();
	receiver.ontrack = e => {
		got.addTrack(e.track);
		document.querySelector("#v").srcObject = got;
		if (e.track.kind === "audio") {
			const sound = new AudioContext(), look = sound.createAnalyser();
			look.fftSize = 4096;
			sound.createMediaStreamSource(new MediaStream([e.track])).connect(look);
			const bins = new Float32Array(look.frequencyBinCount);
			setInterval(() => {
				look.getFloatFrequencyData(bins);
				const top = bins.indexOf(Math.max(...bins));
				energy = bins[top];
				frequency = top * sound.sampleRate / look.fftSize;
				if (energy > loudest) [loudest, tone] = [energy, frequency];
			}, 100);
		}
	};
};
// The time is painted in 12 bits of 4 ms, as Gray code, so that what is read while it
// changes is wrong by one at most.
const clock = () => Math.floor((performance.timeOrigin + performance.now()) / 4) % 4096;
const paintClock = paint => {
	const n = clock(), gray = n ^ n >> 1;
	for (let i = 0; i < 12; i++) {
		paint.fillStyle = gray >> i & 1 ? "white" : "black";
		paint.fillRect(26 * i, 0, 26, 40);
	}
};
// watch reads it from the pictures that are shown, and notes how late they are, in ms.
const late = [];
const watch = () => {
	const video = document.querySelector("#v"), copy = document.createElement("canvas");
	copy.width = 320;
	copy.height = 180;
	const paint = copy.getContext("2d", {willReadFrequently: true});
	const look = () => {
		const now = clock();
		paint.drawImage(video, 0, 0, 320, 180);
		let n = 0;
		for (let i = 11, bit = 0; i >= 0; i--) {
			bit ^= paint.getImageData(26 * i + 13, 20, 1, 1).data[1] > 127 ? 1 : 0;
			n |= bit << i;
		}
		late.push(4 * ((now - n) & 4095));
		video.requestVideoFrameCallback(look);
	};
	video.requestVideoFrameCallback(look);
	return true;
};
const stats = async pc => {
	const out = {State: pc.connectionState, Energy: energy, Loudest: loudest, Tone: tone, Frequency: frequency};
	const all = await pc.getStats();
	let shown = 0, heard = 0;
	for (const s of all.values()) {
		if (s.type === "inbound-rtp") s.kind === "video" ? shown = s.estimatedPlayoutTimestamp || 0 : heard = s.estimatedPlayoutTimestamp || 0;
		if (s.type === "inbound-rtp" && s.kind === "video") {
			out.Frames = s.framesDecoded; out.Width = s.frameWidth; out.Lost = s.packetsLost; out.Nacks = s.nackCount; out.PLIs = s.pliCount;
			out.Freezes = s.freezeCount; out.Codec = s.codecId ? all.get(s.codecId).mimeType : "";
		}
		if (s.type === "inbound-rtp" && s.kind === "audio") { out.AudioPackets = s.packetsReceived; out.AudioEnergy = s.totalAudioEnergy; }
		if (s.type === "outbound-rtp" && s.kind === "video") { out.Sent = s.framesEncoded; out.Keys = s.keyFramesEncoded; }
		if (s.type === "remote-inbound-rtp" && s.kind === "video") { out.RemoteLost = s.packetsLost; out.RTT = s.roundTripTime; }
		if (s.type === "candidate-pair" && s.nominated && s.state === "succeeded") {
			const local = all.get(s.localCandidateId);
			out.Route = local.candidateType; out.Relay = local.relayProtocol || ""; out.Protocol = local.protocol;
		}
		if (s.type === "transport") { out.Profile = s.srtpCipher; out.DTLS = s.dtlsState; }
	}
	if (shown && heard) { out.Together = true; out.Apart = shown - heard; }
	return out;
};
</script>`

// Stats are what a browser says of a connection.
type Stats struct {
	State, Codec, Profile, DTLS        string
	Route, Relay, Protocol             string
	Frames, Width, Lost, Nacks, PLIs   float64
	Freezes, AudioPackets, AudioEnergy float64
	Energy, Loudest, Frequency, Tone   float64 // dB now and at most, and the Hz of both
	Sent, Keys, RemoteLost, RTT        float64
	Together                           bool    // Apart is known
	Apart                              float64 // ms by which the picture that is shown is later than the sound that is heard, by the sender's clock
}
