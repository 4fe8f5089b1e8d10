// Feeds tracks to a media element through Media Source Extensions.

import { bareType, concat } from "./mp4.js";

// Phones of Apple's have ManagedMediaSource alone.
const Source = globalThis.MediaSource ?? globalThis.ManagedMediaSource;

// hasSource says whether the browser has Media Source Extensions.
export const hasSource = Boolean(Source);

// UnsupportedError says that the browser can't play a stream at all.
export class UnsupportedError extends Error {}

const codecNames = [
  [/^avc/, "H.264"],
  [/^h[ev][vc]1/, "HEVC (H.265)"],
  [/^av01/, "AV1"],
  [/^vp09/, "VP9"],
  [/^vp08/, "VP8"],
  [/^mp4a\.40/, "AAC"],
  [/^mp4a\.6/, "MP3"],
  [/^opus/i, "Opus"],
  [/^ac-3/, "AC-3"],
];

function describe({ kind, codec }) {
  const [, name] = codecNames.find(([pattern]) => pattern.test(codec)) ?? [];
  const what = kind === "audio" ? "sound" : "video";
  return name ? `${name} ${what} (${codec})` : `${what} in the codec “${codec}”`;
}

// typeFor returns the type of SourceBuffer for a track, undefined if the
// browser can't play it.
function typeFor(track) {
  return track.types.find((type) => Source.isTypeSupported(type));
}

// More than this waiting for the browser stops the reading from the network.
const maxBacklog = 8 << 20;

// Sink is the media element's end of a stream: a MediaSource and a
// SourceBuffer for each kind of track.
export class Sink {
  #video;
  #source = null;
  #feeds = new Map(); // kind → Feed
  #routes = new Map(); // track → Feed
  #changed = []; // resolvers of those who wait for a change

  // onupdate is called when the browser has taken data, onerror when it
  // refused to.
  onupdate = () => {};
  onerror = () => {};

  constructor(video) {
    this.#video = video;
  }

  // configure prepares for tracks and returns whether the timeline has to be
  // taken up anew, and the tracks that the browser can't play. fresh says that
  // they are not the continuation of what was appended before.
  async configure(tracks, fresh, signal) {
    if (!Source) throw new UnsupportedError("This browser has no Media Source Extensions");
    const chosen = [];
    for (const track of tracks) {
      const other = chosen.find((t) => t.kind === track.kind);
      if (!other && typeFor(track)) chosen.push(track);
    }
    const left = tracks.filter((t) => !chosen.some((c) => c.kind === t.kind));
    if (!chosen.length) {
      if (!tracks.length) throw new UnsupportedError("The stream has no track that can be played");
      throw new UnsupportedError(`This browser can't play ${tracks.map(describe).join(" and ")}`);
    }
    const same =
      this.#source?.readyState === "open" &&
      !this.#video.error &&
      chosen.length === this.#feeds.size &&
      chosen.every((t) => this.#feeds.has(t.kind));
    if (!same) await this.#open(chosen, signal);
    else if (fresh) this.clear();
    this.#routes.clear();
    for (const track of chosen) {
      const feed = this.#feeds.get(track.kind);
      feed.configure(track);
      this.#routes.set(track, feed);
    }
    return {
      restarted: fresh || !same,
      missing: left.length ? `This browser can't play ${left.map(describe).join(" and ")}` : "",
      hasAudio: chosen.some((t) => t.kind === "audio"),
      hasVideo: chosen.some((t) => t.kind === "video"),
    };
  }

  append(fragment) {
    this.#routes.get(fragment.track)?.append(fragment);
  }

  // clear forgets everything that was appended, configuration aside.
  clear() {
    for (const feed of this.#feeds.values()) feed.clear();
  }

  // clearing says that the element still shows what clear is about to remove.
  get clearing() {
    return [...this.#feeds.values()].some((feed) => feed.clearing);
  }

  // trim frees what lies before a time.
  trim(before) {
    for (const feed of this.#feeds.values()) feed.trim(before);
  }

  // room waits until the browser has taken most of what it was given.
  async room(signal) {
    while (!signal.aborted && [...this.#feeds.values()].reduce((n, f) => n + f.backlog, 0) > maxBacklog) {
      await this.#change(signal);
    }
  }

  close() {
    this.#detach();
    if (this.#video.hasAttribute("src")) {
      this.#video.removeAttribute("src");
      this.#video.load();
    }
  }

  async #open(tracks, signal) {
    this.#detach();
    const source = new Source();
    this.#source = source;
    // Managed sources play only where the picture can't be sent elsewhere.
    this.#video.disableRemotePlayback = true;
    const url = URL.createObjectURL(source);
    source.addEventListener("sourceopen", () => this.#notify(), { once: true });
    this.#video.src = url;
    try {
      while (source.readyState !== "open") {
        signal.throwIfAborted();
        await this.#change(signal);
      }
    } finally {
      URL.revokeObjectURL(url);
    }
    source.duration = Infinity;
    for (const track of tracks) {
      const buffer = source.addSourceBuffer(typeFor(track));
      const feed = new Feed(buffer, this.#video);
      feed.onupdate = () => this.#notify();
      feed.onerror = (error) => this.onerror(error);
      this.#feeds.set(track.kind, feed);
    }
  }

  #detach() {
    for (const feed of this.#feeds.values()) feed.detach();
    this.#feeds.clear();
    this.#routes.clear();
    this.#source = null;
    this.#notify();
  }

  #notify() {
    for (const resolve of this.#changed.splice(0)) resolve();
    this.onupdate();
  }

  async #change(signal) {
    const done = new AbortController();
    await new Promise((resolve) => {
      this.#changed.push(resolve);
      signal.addEventListener("abort", resolve, { signal: done.signal });
    });
    done.abort();
  }
}

// Feed is one SourceBuffer and what waits for it: a SourceBuffer does one
// thing at a time.
class Feed {
  #buffer;
  #video;
  #type = "";
  #bare = false;
  #events = new AbortController();
  // What is to be done: {track}, {data}, {bare, start}, {remove: [from, to]}, {clear}.
  #queue = [];
  #clearing = false;
  backlog = 0; // bytes in the queue
  onupdate = () => {};
  onerror = () => {};

  constructor(buffer, video) {
    this.#buffer = buffer;
    this.#video = video;
    const next = () => {
      this.#clearing = false;
      this.#pump();
      this.onupdate();
    };
    buffer.addEventListener("updateend", next, { signal: this.#events.signal });
  }

  configure(track) {
    this.#bare = typeFor(track) === bareType;
    this.#push({ track });
  }

  append({ data, frames, start }) {
    const op = this.#bare ? { bare: concat(...frames), start } : { data };
    this.backlog += (op.bare ?? op.data).length;
    this.#push(op);
  }

  clear() {
    this.backlog = 0;
    this.#queue = this.#queue.filter((op) => op.track);
    this.#queue.unshift({ clear: true });
    this.#pump();
  }

  get clearing() {
    return this.#clearing || this.#queue.some((op) => op.clear);
  }

  trim(before) {
    const { buffered } = this.#buffer;
    if (!buffered.length || buffered.start(0) >= before || this.#queue.some((op) => op.remove)) return;
    this.#push({ remove: [0, before] });
  }

  detach() {
    this.#events.abort();
    this.#queue = [];
    this.backlog = 0;
  }

  #push(op) {
    this.#queue.push(op);
    this.#pump();
  }

  #pump() {
    try {
      while (this.#queue.length && !this.#buffer.updating && !this.#video.error && !this.#events.signal.aborted) {
        this.#do(this.#queue.shift());
      }
    } catch (error) {
      this.detach();
      this.onerror(error);
    }
  }

  #do(op) {
    if (op.track) {
      this.#configure(op.track);
    } else if (op.data) {
      this.#append(op.data);
    } else if (op.bare) {
      this.#appendBare(op);
    } else if (op.remove) {
      this.#buffer.remove(...op.remove);
    } else if (this.#buffer.buffered.length) {
      this.#clearing = true;
      this.#buffer.remove(0, Infinity);
    }
  }

  #configure(track) {
    const type = typeFor(track);
    if (this.#type && type !== this.#type) this.#buffer.changeType(type);
    this.#type = type;
    if (type === bareType) return;
    this.#buffer.mode = "segments";
    this.#buffer.timestampOffset = 0;
    this.#buffer.appendBuffer(track.init);
  }

  // #appendBare appends frames that tell no time: the browser puts them where
  // the last ended, which timestampOffset says, unless it is told another place.
  #appendBare({ bare, start }) {
    if (Math.abs(start - this.#buffer.timestampOffset) > 0.1) this.#buffer.timestampOffset = start;
    this.backlog -= bare.length;
    this.#buffer.appendBuffer(bare);
  }

  // #append gives the browser data, with the data that waits right behind it.
  #append(data) {
    const parts = [data];
    let size = data.length;
    while (this.#queue[0]?.data && size + this.#queue[0].data.length <= 1 << 20) {
      parts.push(this.#queue[0].data);
      size += this.#queue.shift().data.length;
    }
    const bytes = parts.length === 1 ? data : concat(...parts);
    try {
      this.#buffer.appendBuffer(bytes);
      this.backlog -= size;
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      // The browser's memory is full: give up what was played and try again,
      // or, if that is nothing, all there is.
      const played = this.#video.currentTime - 1;
      const { buffered } = this.#buffer;
      if (!buffered.length) throw error;
      this.#queue.unshift({ data: bytes });
      this.#buffer.remove(0, buffered.start(0) < played ? played : Infinity);
    }
  }
}
