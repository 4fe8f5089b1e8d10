// Requests, and what can go wrong with them.

export class TransportError extends Error {
  // status is the HTTP status, 0 if there was no answer.
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// respond asks for a URL and returns the response once its header is there.
export async function respond(url, signal, options = {}) {
  let response;
  try {
    response = await fetch(url, { signal, ...options });
  } catch (error) {
    signal.throwIfAborted();
    throw new TransportError(`No answer from the server (${error.message})`);
  }
  if (!response.ok) throw new TransportError(refusal(response.status), response.status);
  return response;
}

// request asks for a URL and returns the whole of it: its bytes, where it was in
// the end, and the server's date, in milliseconds.
export async function request(url, signal) {
  const response = await respond(url, signal);
  try {
    const bytes = new Uint8Array(await response.arrayBuffer());
    return { bytes, url: response.url, date: Date.parse(response.headers.get("Date")) };
  } catch (error) {
    signal.throwIfAborted();
    throw new TransportError(`The connection broke (${error.message})`);
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

// Clock tells the server's time by the dates of its responses, which are in whole
// seconds: each says between which bounds it is, and many say it well.
export class Clock {
  #low = -Infinity; // of what is to be added to our own time, milliseconds
  #high = Infinity;

  // observe takes up a response with a date, which was asked for and came at
  // times of ours.
  observe(asked, came, date) {
    if (!Number.isFinite(date)) return;
    const low = Math.max(this.#low, date - came);
    const high = Math.min(this.#high, date + 1000 - asked);
    // Clocks are set at times; then what was learned before is wrong.
    [this.#low, this.#high] = low <= high ? [low, high] : [date - came, date + 1000 - asked];
  }

  // now returns the server's time: ours, if that may well be right.
  now() {
    return Date.now() + Math.min(Math.max(0, this.#low), this.#high);
  }
}
