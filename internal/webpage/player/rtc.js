// Plays and publishes by WebRTC: WHEP and WHIP, an offer that is posted and
// answered.

import { respond, TransportError } from "./request.js";

// hasRTC says whether the browser has WebRTC.
export const hasRTC = Boolean(globalThis.RTCPeerConnection);

const patience = 7000; // milliseconds without anything after which a connection is given up
const trying = 4000; // milliseconds until the first
const look = 250; // milliseconds between two looks at the figures

// exchange posts the offer of a connection and takes the answer. It returns what
// ends the session on the server.
async function exchange(connection, url, token, signal) {
  const headers = { "Content-Type": "application/sdp" };
  if (token) headers.Authorization = `Bearer ${token}`;
  // Our own addresses need not be in the offer: the server learns them from the
  // packets that we send it. The browser looks for them once it is known by what
  // servers it may (RFC 9725 Section 4.6).
  const offer = await connection.createOffer();
  const response = await respond(url, signal, { method: "POST", headers, body: offer.sdp });
  const session = sessionAt(response.headers.get("Location"), url);
  let left = false;
  const bye = () => {
    if (session && !left) fetch(session, { method: "DELETE", headers: token ? { Authorization: headers.Authorization } : {}, keepalive: true }).catch(() => {});
    left = true;
  };
  signal.addEventListener("abort", bye); // at once: the page may be about to go
  try {
    const answer = await response.text();
    if (response.status !== 201) throw new TransportError(`The server answered with status ${response.status}`, 404);
    signal.throwIfAborted();
    const iceServers = serversIn(response.headers.get("Link") ?? "");
    if (iceServers.length) connection.setConfiguration({ iceServers });
    await connection.setLocalDescription(offer);
    await connection.setRemoteDescription({ type: "answer", sdp: answer });
  } catch (error) {
    bye();
    signal.throwIfAborted();
    throw error instanceof TransportError ? error : new TransportError(`The server's answer is no use (${error.message})`);
  }
  return bye;
}

// serversIn reads the STUN and TURN servers that a Link header names.
function serversIn(link) {
  const servers = [];
  for (const [, urls, rest] of link.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+="[^"]*")*)/g)) {
    const parameters = Object.fromEntries([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, k, v]) => [k.toLowerCase(), v]));
    if (parameters.rel !== "ice-server") continue;
    const { username, credential } = parameters;
    servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

// sessionAt is where a session is. A proxy that serves the server below a path
// does not put that into the Location, which then begins with the next part.
function sessionAt(location, url) {
  if (!location) return null;
  const from = new URL(url);
  const at = new URL(location, from);
  const mount = from.pathname.search(/\/wh[ei]p\//);
  const prefix = mount > 0 ? from.pathname.slice(0, mount) : "";
  if (at.origin === from.origin && prefix && !at.pathname.startsWith(`${prefix}/`)) at.pathname = prefix + at.pathname;
  return at.href;
}

// figuresOf reads what the player wants to know of a connection.
async function figuresOf(connection) {
  const f = { bytes: 0, frames: 0, audioFrames: 0, waited: 0, emitted: 0, decoding: 0, roundTrip: NaN };
  for (const s of (await connection.getStats()).values()) {
    if (s.type === "inbound-rtp") {
      f.bytes += s.bytesReceived ?? 0;
      if (s.kind === "video") {
        f.frames = s.framesDecoded ?? 0;
        f.decoding = s.totalDecodeTime ?? 0;
      } else {
        f.audioFrames = s.jitterBufferEmittedCount ?? 0;
      }
      // Of a stream with a picture that is what counts.
      if (s.kind === "video" || !f.emitted) {
        f.waited = s.jitterBufferDelay ?? 0;
        f.emitted = s.jitterBufferEmittedCount ?? 0;
      }
    } else if (s.type === "candidate-pair" && s.nominated && s.currentRoundTripTime !== undefined) {
      f.roundTrip = s.currentRoundTripTime;
    }
  }
  return f;
}

const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

// playRTC plays into a video element until the connection ends, which it tells by
// a TransportError, or signal does. started is told once, when there is
// something to be seen or heard, whether there is a picture and sound; update
// gets the bytes that came and how late, in seconds, what is shown is.
export async function playRTC(video, { whep, token, audio }, signal, started, update) {
  const connection = new RTCPeerConnection();
  let bye = () => {};
  try {
    const stream = new MediaStream();
    const transceivers = ["video", "audio"].map((kind) => connection.addTransceiver(kind, { direction: "recvonly" }));
    for (const { receiver } of transceivers) stream.addTrack(receiver.track);
    bye = await exchange(connection, whep, token, signal);
    const [hasVideo, hasAudio] = transceivers.map((t) => t.currentDirection === "recvonly");
    // A receiver without media would keep the element waiting.
    for (const t of transceivers) if (t.currentDirection !== "recvonly") stream.removeTrack(t.receiver.track);
    if (audio && !hasAudio) throw new TransportError("The stream's sound can't be had by WebRTC");
    video.srcObject = stream;
    let before = await figuresOf(connection);
    let shown = false;
    let lag = NaN;
    for (let idle = performance.now(); ; ) {
      await pause(look);
      signal.throwIfAborted();
      const now = await figuresOf(connection);
      if (now.bytes > before.bytes) idle = performance.now();
      if (["failed", "closed"].includes(connection.connectionState)) throw new TransportError("The connection broke");
      if (performance.now() - idle > (now.bytes ? patience : trying)) throw new TransportError("Nothing has come by WebRTC for a while");
      if (!shown && (now.frames > 0 || (!hasVideo && now.audioFrames > 0))) {
        shown = true;
        started({ hasVideo, hasAudio });
      }
      const emitted = now.emitted - before.emitted;
      if (emitted > 0) {
        const buffered = (now.waited - before.waited) / emitted;
        const decoding = now.frames > before.frames ? (now.decoding - before.decoding) / (now.frames - before.frames) : 0;
        const late = buffered + decoding + (Number.isFinite(now.roundTrip) ? now.roundTrip / 2 : 0);
        lag = Number.isFinite(lag) ? lag + (late - lag) * 0.3 : late;
      }
      if (shown) update(now.bytes - before.bytes, lag);
      before = now;
    }
  } finally {
    bye();
    connection.close();
  }
}

// publishRTC sends a MediaStream by WHIP until signal ends it, or the connection
// breaks, which is a TransportError. connected is told once.
export async function publishRTC(stream, { whip, token }, signal, connected) {
  const connection = new RTCPeerConnection();
  let bye = () => {};
  try {
    for (const track of stream.getTracks()) {
      const transceiver = connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      if (track.kind === "video") prefer(transceiver, ["video/h264", "video/vp8"]);
    }
    bye = await exchange(connection, whip, token, signal);
    let told = false;
    for (let since = performance.now(); ; ) {
      await pause(look);
      signal.throwIfAborted();
      const { connectionState: state } = connection;
      if (state === "connected") since = performance.now();
      if (state === "failed" || state === "closed" || performance.now() - since > patience) throw new TransportError("The connection broke");
      if (state === "connected" && !told) {
        told = true;
        connected();
      }
    }
  } finally {
    bye();
    connection.close();
  }
}

// prefer puts codecs first that most other players can play.
function prefer(transceiver, wanted) {
  const rank = ({ mimeType }) => {
    const i = wanted.indexOf(mimeType.toLowerCase());
    return i < 0 ? wanted.length : i;
  };
  const all = RTCRtpSender.getCapabilities?.("video")?.codecs;
  if (all) transceiver.setCodecPreferences?.(all.toSorted((a, b) => rank(a) - rank(b)));
}
