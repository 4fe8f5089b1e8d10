// Ways to get the media of a live stream: each is an async generator of
// {bytes, segments}, how many bytes came and what SegmentReader made of them, that
// ends with the stream and throws a TransportError when it can't be had. WebRTC
// is none: the browser plays what it brings by itself.

import { overHLS } from "./hls.js";
import { SegmentReader } from "./mp4.js";
import { respond, TransportError } from "./request.js";

// In the order in which they are tried. query goes behind each address.
export const transports = {
  webrtc: { label: "WebRTC" },
  http: { label: "fMP4 over HTTP", open: (base, query, signal) => parsed(overHTTP(`${base}.mp4${query}`, signal)) },
  ws: { label: "fMP4 over WebSocket", open: (base, query, signal) => parsed(overWebSocket(`${base}.mp4${query}`, signal)) },
  hls: { label: "LL-HLS", open: (base, query, signal, clock) => overHLS(`${base}.m3u8${query}`, signal, clock) },
};

// parsed reads one stream of bytes.
async function* parsed(chunks) {
  const reader = new SegmentReader();
  for await (const chunk of chunks) yield { bytes: chunk.length, segments: reader.push(chunk) };
}

async function* overHTTP(url, signal) {
  const response = await respond(url, signal, { cache: "no-store" });
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw new TransportError(`The connection broke (${error.message})`);
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A WebSocket can't be told to slow down: what the player has not taken waits
// here, and a player that is too far behind starts afresh.
const maxWaiting = 32 << 20;

async function* overWebSocket(url, signal) {
  signal.throwIfAborted();
  const address = new URL(url, location.href);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const waiting = [];
  let bytes = 0;
  let opened = false;
  let end = null; // what the generator throws, or true
  let wake = () => {};
  const finish = (how) => {
    end ??= how;
    wake();
  };
  socket.onopen = () => (opened = true);
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") return;
    bytes += data.byteLength;
    if (bytes > maxWaiting) return finish(new TransportError("The player could not keep up"));
    waiting.push(new Uint8Array(data));
    wake();
  };
  socket.onclose = ({ code, reason }) => {
    if (opened && (code === 1000 || code === 1001)) finish(true);
    else if (opened) finish(new TransportError(reason || `The connection broke (code ${code})`));
    else finish(new TransportError("This stream can't be had over WebSocket, or is not live"));
  };
  const abort = () => finish(signal.reason);
  signal.addEventListener("abort", abort);
  try {
    for (;;) {
      while (waiting.length) {
        const chunk = waiting.shift();
        bytes -= chunk.length;
        yield chunk;
      }
      if (end === true) return;
      if (end) throw end;
      await new Promise((resolve) => (wake = resolve));
    }
  } finally {
    signal.removeEventListener("abort", abort);
    socket.onclose = socket.onmessage = null;
    socket.close();
  }
}
