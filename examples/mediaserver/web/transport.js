// Ways to get the bytes of a live stream: each is an async generator of
// Uint8Arrays that ends with the stream and throws a TransportError when it
// can't be had.

export class TransportError extends Error {
  // status is the HTTP status, 0 if there was no answer.
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const transports = {
  http: { label: "fMP4 over HTTP", open: overHTTP },
  ws: { label: "fMP4 over WebSocket", open: overWebSocket },
};

async function* overHTTP(url, signal) {
  let response;
  try {
    response = await fetch(url, { signal, cache: "no-store" });
  } catch (error) {
    signal.throwIfAborted();
    throw new TransportError(`No answer from the server (${error.message})`);
  }
  if (!response.ok) throw new TransportError(refusal(response.status), response.status);
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

function refusal(status) {
  switch (status) {
    case 401:
    case 403:
      return "Playing this stream is not allowed";
    case 404:
      return "This stream is not live";
    case 429:
    case 503:
      return "The server has no room for another viewer now";
  }
  return `The server answered with status ${status}`;
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
