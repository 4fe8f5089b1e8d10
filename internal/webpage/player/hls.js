// Follows a stream by HLS, part by part where the playlists have parts: for
// networks that let no endless response through. It understands what this
// server writes, not all of HLS.

import { SegmentReader } from "./mp4.js";
import { request, TransportError } from "./request.js";

const maxQueue = 16; // parts that wait for the player
const holdBack = 0.2; // seconds beyond PART-HOLD-BACK that a joiner begins at, for its first requests take time

// overHLS yields {bytes, segments} as SegmentReader makes them, for the tracks of
// all renditions together. Fragments have a time beside: when they were captured,
// in milliseconds of the server's clock. clock learns that.
export async function* overHLS(url, signal, clock) {
  const master = await load(url, signal, clock);
  const { video, audio } = parseMaster(master.text, master.url);
  if (!video) throw new TransportError("The server's playlist lists nothing");
  const main = await loadMedia(video, "", signal, clock);
  const start = startTime(main);
  const followers = [new Follower(video, main, start, signal, clock)];
  if (audio) followers.push(new Follower(audio, null, start, signal, clock));

  const queue = [];
  let wake = () => {};
  let running = followers.length;
  let failure = null;
  let drained = () => {};
  for (const follower of followers) {
    (async () => {
      for await (const item of follower.items()) {
        queue.push({ follower, item });
        wake();
        while (queue.length > maxQueue && !signal.aborted) await new Promise((resolve) => (drained = resolve));
      }
    })()
      .catch((error) => (failure ??= error))
      .finally(() => {
        running--;
        wake();
      });
  }
  const held = []; // fragments that came before all tracks were known
  for (;;) {
    signal.throwIfAborted();
    if (failure) throw failure;
    const next = queue.shift();
    drained();
    if (!next) {
      if (!running) return;
      await new Promise((resolve) => {
        wake = resolve;
        signal.addEventListener("abort", resolve, { once: true });
      });
      continue;
    }
    const { follower, item } = next;
    const segments = [];
    for (const segment of follower.reader.push(item.bytes)) {
      if (segment.tracks) {
        follower.tracks = segment.tracks;
        if (followers.every((f) => f.tracks)) segments.push({ tracks: followers.flatMap((f) => f.tracks) });
      } else {
        for (const fragment of segment.fragments) fragment.time = item.time;
        held.push(segment);
      }
    }
    if (followers.every((f) => f.tracks)) segments.push(...held.splice(0));
    yield { bytes: item.bytes.length, segments };
  }
}

// Follower yields the bytes of one rendition in order.
class Follower {
  #url;
  #list;
  #start;
  #signal;
  #clock;
  #map = ""; // of what was yielded last
  #keys = new Map();
  reader = new SegmentReader();
  tracks = null;

  constructor(url, list, start, signal, clock) {
    this.#url = url;
    this.#list = list;
    this.#start = start;
    this.#signal = signal;
    this.#clock = clock;
  }

  async *items() {
    let list = this.#list ?? (await loadMedia(this.#url, "", this.#signal, this.#clock));
    let at = first(list, this.#start); // number of a segment, and of a part in it
    for (;;) {
      for (const segment of list.segments) {
        if (segment.sequence < at.sequence) continue;
        if (segment.sequence > at.sequence) at = { sequence: segment.sequence, part: 0 };
        if (segment.uri && (at.part === 0 || !segment.parts.length)) {
          // Complete: in one piece, unless parts are to be left out.
          if (at.part === 0 && !segment.gap) yield* this.#media(segment, segment);
        } else {
          for (const part of segment.parts.slice(at.part)) {
            if (!part.gap) yield* this.#media(segment, part);
            at.part++;
          }
        }
        if (segment.uri) at = { sequence: segment.sequence + 1, part: 0 };
      }
      if (list.ended) return;
      let query = "";
      if (list.canBlock) query = `_HLS_msn=${at.sequence}${list.partTarget ? `&_HLS_part=${at.part}` : ""}`;
      else await new Promise((resolve) => setTimeout(resolve, list.target * 500));
      list = await loadMedia(this.#url, query, this.#signal, this.#clock);
    }
  }

  // #media yields a segment or a part, and before it what it needs.
  async *#media(segment, unit) {
    if (segment.map !== this.#map) {
      yield { bytes: (await request(segment.map, this.#signal)).bytes };
      this.#map = segment.map;
    }
    const { bytes } = await request(unit.uri, this.#signal);
    yield { bytes: segment.key ? await this.#decrypt(segment, bytes) : bytes, time: unit.time };
  }

  // #decrypt undoes AES-128: CBC with the segment's number as IV, for each part by
  // itself.
  async #decrypt(segment, bytes) {
    if (!crypto.subtle) throw new TransportError("Encrypted streams need a page that came over HTTPS");
    if (!this.#keys.has(segment.key)) {
      const { bytes } = await request(segment.key, this.#signal);
      this.#keys.clear(); // the one before is done with
      this.#keys.set(segment.key, await crypto.subtle.importKey("raw", bytes, "AES-CBC", false, ["decrypt"]));
    }
    const iv = new Uint8Array(16);
    new DataView(iv.buffer).setBigUint64(8, BigInt(segment.sequence));
    return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-CBC", iv }, this.#keys.get(segment.key), bytes));
  }
}

async function load(url, signal, clock) {
  const asked = Date.now();
  const { bytes, url: final, date } = await request(url, signal);
  clock.observe(asked, Date.now(), date);
  return { text: new TextDecoder().decode(bytes), url: final };
}

async function loadMedia(url, query, signal, clock) {
  const { text, url: final } = await load(query ? `${url}${url.includes("?") ? "&" : "?"}${query}` : url, signal, clock);
  return parseMedia(text, final);
}

// attributes reads an attribute list.
function attributes(text) {
  const list = {};
  for (const [, name, quoted, plain] of text.matchAll(/([A-Z0-9-]+)=(?:"([^"]*)"|([^,]*))/g)) list[name] = quoted ?? plain;
  return list;
}

// parseMaster returns the addresses of the first variant and of its sound, if that
// is apart.
function parseMaster(text, base) {
  let video = null;
  let audio = null;
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("#EXT-X-MEDIA:")) {
      const a = attributes(line);
      if (a.TYPE === "AUDIO" && a.URI) audio ??= new URL(a.URI, base).href;
    } else if (line && !line.startsWith("#")) {
      video ??= new URL(line, base).href;
    }
  }
  return { video, audio };
}

// parseMedia reads a media playlist. The times of its segments and parts are in
// milliseconds.
function parseMedia(text, base) {
  const list = { target: 2, canBlock: false, partTarget: 0, hold: 0, ended: false, segments: [] };
  const href = (uri) => new URL(uri, base).href;
  let sequence = 0;
  let map = "";
  let key = "";
  let time = NaN;
  let segment = null;
  const open = () => (segment ??= { sequence, map, key, time, uri: "", duration: 0, gap: false, parts: [] });
  for (const line of text.split(/\r?\n/)) {
    const [tag, value] = line.startsWith("#") ? split(line) : ["", line];
    switch (tag) {
      case "#EXT-X-TARGETDURATION":
        list.target = Number(value);
        break;
      case "#EXT-X-SERVER-CONTROL": {
        const a = attributes(value);
        list.canBlock = a["CAN-BLOCK-RELOAD"] === "YES";
        list.hold = Number(a["PART-HOLD-BACK"] ?? a["HOLD-BACK"] ?? 0);
        break;
      }
      case "#EXT-X-PART-INF":
        list.partTarget = Number(attributes(value)["PART-TARGET"]);
        break;
      case "#EXT-X-MEDIA-SEQUENCE":
        sequence = Number(value);
        break;
      case "#EXT-X-MAP":
        map = href(attributes(value).URI);
        break;
      case "#EXT-X-KEY": {
        const a = attributes(value);
        key = a.METHOD === "NONE" ? "" : href(a.URI);
        break;
      }
      case "#EXT-X-PROGRAM-DATE-TIME":
        time = Date.parse(value);
        break;
      case "#EXT-X-PART": {
        const a = attributes(value);
        const { parts } = open();
        const before = parts.reduce((n, p) => n + p.duration, 0);
        parts.push({
          uri: href(a.URI),
          duration: Number(a.DURATION),
          independent: a.INDEPENDENT === "YES",
          gap: a.GAP === "YES",
          time: segment.time + before * 1000,
        });
        break;
      }
      case "#EXT-X-GAP":
        open().gap = true;
        break;
      case "#EXTINF":
        open().duration = parseFloat(value);
        break;
      case "#EXT-X-ENDLIST":
        list.ended = true;
        break;
      case "":
        if (!value) break;
        open().uri = href(value);
        list.segments.push(segment);
        time = segment.time + segment.duration * 1000;
        segment = null;
        sequence++;
    }
  }
  if (segment) list.segments.push(segment);
  return list;
}

function split(line) {
  const colon = line.indexOf(":");
  return colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1)];
}

// units lists what one can begin with, oldest first.
function units(list) {
  return list.segments.flatMap((s) => {
    if (!s.parts.length) return [{ sequence: s.sequence, part: 0, time: s.time, duration: s.duration }];
    return s.parts.flatMap((p, part) => (p.independent || part === 0 ? [{ sequence: s.sequence, part, time: p.time, duration: p.duration }] : []));
  });
}

// startTime returns the time at which a joiner begins, which is where the
// picture can.
function startTime(list) {
  const last = list.segments.at(-1);
  if (!last) return NaN;
  const length = last.uri ? last.duration : last.parts.reduce((n, p) => n + p.duration, 0);
  const wanted = last.time + (length - list.hold - holdBack) * 1000;
  const all = units(list);
  return (all.findLast((u) => u.time <= wanted) ?? all[0]).time;
}

// first returns the last place to begin at that is not after a time.
function first(list, time) {
  const parts = list.segments.flatMap((s) =>
    s.parts.length ? s.parts.map((p, part) => ({ sequence: s.sequence, part, time: p.time })) : [{ sequence: s.sequence, part: 0, time: s.time }],
  );
  const { sequence, part } = parts.findLast((p) => p.time <= time + 1) ?? parts[0] ?? { sequence: 0, part: 0 };
  return { sequence, part };
}
