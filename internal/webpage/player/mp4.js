// Reads a fragmented MP4 byte stream far enough to feed Media Source
// Extensions: finds the segments in it, names their codecs as RFC 6381 does,
// and splits them by track, so that every track has a SourceBuffer of its own
// and a gap in the sound does not make the browser drop pictures.

const maxBox = 64 << 20;

// SegmentReader turns chunks of bytes into segments. push returns what has
// become complete: {tracks} for an initialization segment, {fragments} for a
// moof and its mdat.
export class SegmentReader {
  #buffer = new Uint8Array(64 << 10);
  #length = 0;
  #ftyp = null;
  #moof = null;
  #tracks = [];

  push(chunk) {
    this.#store(chunk);
    const segments = [];
    let at = 0;
    for (;;) {
      const box = boxAt(this.#buffer, at, this.#length);
      if (!box) break;
      if (box.size > maxBox) throw new Error("The stream is not fragmented MP4");
      if (at + box.size > this.#length) break;
      const bytes = this.#buffer.slice(at, at + box.size);
      at += box.size;
      const segment = this.#take(box.type, bytes);
      if (segment) segments.push(segment);
    }
    this.#buffer.copyWithin(0, at, this.#length);
    this.#length -= at;
    return segments;
  }

  #store(chunk) {
    const need = this.#length + chunk.length;
    if (need > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(need, 2 * this.#buffer.length));
      larger.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = larger;
    }
    this.#buffer.set(chunk, this.#length);
    this.#length = need;
  }

  #take(type, bytes) {
    switch (type) {
      case "ftyp":
        this.#ftyp = bytes;
        return null;
      case "moov":
        this.#tracks = parseMoov(this.#ftyp ?? new Uint8Array(0), bytes);
        return { tracks: this.#tracks };
      case "moof":
        this.#moof = bytes;
        return null;
      case "mdat": {
        const moof = this.#moof;
        this.#moof = null;
        return moof && { fragments: splitFragment(moof, bytes, this.#tracks) };
      }
    }
    return null; // styp, sidx, prft, free and what else there may be
  }
}

// boxAt returns the header of the box at an offset, null if it is not all
// there yet.
function boxAt(bytes, at, end = bytes.length) {
  if (at + 8 > end) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let size = view.getUint32(at);
  let header = 8;
  if (size === 1) {
    if (at + 16 > end) return null;
    size = view.getUint32(at + 8) * 2 ** 32 + view.getUint32(at + 12);
    header = 16;
  }
  if (size < header) throw new Error("The stream is not fragmented MP4");
  return { type: latin(bytes, at + 4, 4), size, header, at, body: at + header, end: at + size };
}

// children lists the boxes between two offsets.
function children(bytes, at, end) {
  const boxes = [];
  while (at < end) {
    const box = boxAt(bytes, at, end);
    if (!box || box.end > end) break;
    boxes.push(box);
    at = box.end;
  }
  return boxes;
}

// find follows a path of box types down from a box.
function find(bytes, box, ...path) {
  for (const type of path) {
    box = box && children(bytes, box.body, box.end).find((b) => b.type === type);
  }
  return box ?? null;
}

function latin(bytes, at, n) {
  return String.fromCharCode(...bytes.subarray(at, at + n));
}

// concat joins byte arrays.
export function concat(...parts) {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function makeBox(type, ...payload) {
  const box = concat(new Uint8Array(8), ...payload);
  new DataView(box.buffer).setUint32(0, box.length);
  for (let i = 0; i < 4; i++) box[4 + i] = type.charCodeAt(i);
  return box;
}

// parseMoov describes the tracks of an initialization segment, each with an
// initialization segment of its own.
function parseMoov(ftyp, moov) {
  const view = new DataView(moov.buffer, moov.byteOffset);
  const root = boxAt(moov, 0);
  const whole = (box) => moov.subarray(box.at, box.end);
  const inMoov = children(moov, root.body, root.end);
  const mvhd = inMoov.find((b) => b.type === "mvhd");
  const mvex = inMoov.find((b) => b.type === "mvex");
  if (!mvhd || !mvex) throw new Error("The stream is not fragmented MP4");
  const trexes = children(moov, mvex.body, mvex.end).filter((b) => b.type === "trex");

  const tracks = [];
  for (const trak of inMoov.filter((b) => b.type === "trak")) {
    const tkhd = find(moov, trak, "tkhd");
    const mdhd = find(moov, trak, "mdia", "mdhd");
    const hdlr = find(moov, trak, "mdia", "hdlr");
    const stsd = find(moov, trak, "mdia", "minf", "stbl", "stsd");
    if (!tkhd || !mdhd || !hdlr || !stsd) continue;
    const kind = { vide: "video", soun: "audio" }[latin(moov, hdlr.body + 8, 4)];
    const entry = children(moov, stsd.body + 8, stsd.end)[0];
    if (!kind || !entry) continue;
    const id = view.getUint32(tkhd.body + (moov[tkhd.body] === 1 ? 20 : 12));
    const trex = trexes.find((b) => view.getUint32(b.body + 4) === id);
    if (!trex) continue;
    const codec = codecString(moov, entry, kind);
    const init = concat(
      ftyp,
      makeBox("moov", whole(mvhd), whole(trak), makeBox("mvex", whole(trex))),
    );
    tracks.push({
      id,
      kind,
      codec,
      types: mediaTypes(kind, codec),
      timescale: view.getUint32(mdhd.body + (moov[mdhd.body] === 1 ? 20 : 12)) || 1,
      defaults: { duration: view.getUint32(trex.body + 12), size: view.getUint32(trex.body + 16) },
      init,
    });
  }
  return tracks;
}

const hex = (n, digits = 2) => n.toString(16).padStart(digits, "0");
const dec = (n) => String(n).padStart(2, "0");

// codecString names the codec of a sample entry: RFC 6381, ISO/IEC 14496-15
// annex E, and the bindings of AV1 and VP9.
function codecString(bytes, entry, kind) {
  // What stands before the boxes of an entry: 78 bytes of video, 28 of audio.
  const boxes = children(bytes, entry.body + (kind === "video" ? 78 : 28), entry.end);
  const config = (type) => {
    const box = boxes.find((b) => b.type === type);
    return box ? bytes.subarray(box.body, box.end) : new Uint8Array(32);
  };
  switch (entry.type) {
    case "avc1":
    case "avc3": {
      const c = config("avcC");
      return `${entry.type}.${hex(c[1])}${hex(c[2])}${hex(c[3])}`;
    }
    case "hvc1":
    case "hev1": {
      const c = config("hvcC");
      let compatibility = 0;
      for (let i = 0; i < 32; i++) {
        if ((c[2 + (i >> 3)] >> (7 - (i & 7))) & 1) compatibility |= 1 << i;
      }
      const constraints = Array.from(c.subarray(6, 12));
      while (constraints.length && constraints.at(-1) === 0) constraints.pop();
      return [
        entry.type,
        ["", "A", "B", "C"][c[1] >> 6] + (c[1] & 31),
        (compatibility >>> 0).toString(16),
        ((c[1] >> 5) & 1 ? "H" : "L") + c[12],
        ...constraints.map((b) => b.toString(16)),
      ].join(".");
    }
    case "av01": {
      const c = config("av1C");
      const depth = (c[2] >> 6) & 1 ? ((c[2] >> 5) & 1 ? 12 : 10) : 8;
      return `av01.${c[1] >> 5}.${dec(c[1] & 31)}${c[2] >> 7 ? "H" : "M"}.${dec(depth)}`;
    }
    case "vp08":
    case "vp09": {
      const c = config("vpcC");
      return `${entry.type}.${dec(c[4])}.${dec(c[5])}.${dec(c[6] >> 4)}`;
    }
    case "mp4a":
      return audioObject(config("esds"));
    case "Opus":
      return "opus";
    case "fLaC":
      return "flac";
  }
  return entry.type;
}

// mediaTypes lists the names under which browsers may know a track, the best
// first. For MP3 there are three: Safari's, Firefox's, and Chromium's, which is
// that of the frames without MP4 around them.
function mediaTypes(kind, codec) {
  const types = [`${kind}/mp4; codecs="${codec}"`];
  if (codec.startsWith("mp4a.6")) types.push(`audio/mp4; codecs="mp3"`, bareType);
  return types;
}

export const bareType = "audio/mpeg";

// audioObject reads the object types in the descriptors of an esds box
// (ISO/IEC 14496-1 7.2.6).
function audioObject(esds) {
  let at = 4;
  const descriptor = (tag) => {
    if (esds[at++] !== tag) return false;
    while (esds[at++] & 0x80);
    return true;
  };
  if (!descriptor(3)) return "mp4a";
  const flags = esds[at + 2];
  at += 3 + (flags & 0x80 ? 2 : 0) + (flags & 0x20 ? 2 : 0);
  if (!descriptor(4)) return "mp4a";
  const type = esds[at];
  const name = `mp4a.${hex(type).toUpperCase()}`;
  at += 13;
  if (type !== 0x40 || !descriptor(5)) return name;
  let object = esds[at] >> 3;
  if (object === 31) object = 32 + ((esds[at] & 7) << 3) + (esds[at + 1] >> 5);
  return `${name}.${object}`;
}

// splitFragment returns the fragment of each track in a moof and its mdat: its
// bytes, the bytes of its frames alone, the decode times, in seconds, at which it
// starts and ends, and the time at which its first frame is shown.
function splitFragment(moof, mdat, tracks) {
  const view = new DataView(moof.buffer, moof.byteOffset);
  const root = boxAt(moof, 0);
  const boxes = children(moof, root.body, root.end);
  const mfhd = boxes.find((b) => b.type === "mfhd");
  const trafs = boxes.filter((b) => b.type === "traf");
  const fragments = [];
  for (const traf of trafs) {
    const run = parseTraf(moof, view, traf, tracks);
    if (!run) continue;
    const frames = run.data.map(({ from, size }) => mdat.subarray(from - moof.length, from - moof.length + size));
    let data;
    if (trafs.length === 1) {
      data = concat(moof, mdat);
    } else {
      const own = moof.slice(traf.at, traf.end);
      const ownView = new DataView(own.buffer);
      let at = 8 + mfhd.size + own.length + 8; // the data of the new mdat, from the start of the new moof
      for (const { field, size } of run.data) {
        ownView.setInt32(field - traf.at, at);
        at += size;
      }
      data = concat(
        makeBox("moof", moof.subarray(mfhd.at, mfhd.end), own),
        makeBox("mdat", ...frames),
      );
    }
    fragments.push({ track: run.track, start: run.start, shown: run.shown, end: run.end, data, frames });
  }
  return fragments;
}

// parseTraf finds the track, the time and the places of the data of a track
// fragment (ISO/IEC 14496-12 8.8.7, 8.8.8, 8.8.12).
function parseTraf(moof, view, traf, tracks) {
  const boxes = children(moof, traf.body, traf.end);
  const tfhd = boxes.find((b) => b.type === "tfhd");
  const tfdt = boxes.find((b) => b.type === "tfdt");
  const track = tfhd && tracks.find((t) => t.id === view.getUint32(tfhd.body + 4));
  if (!track || !tfdt) return null;
  const flags = view.getUint32(tfhd.body) & 0xffffff;
  if (flags & 1) throw new Error("The stream's offsets count from the start of a file");
  let at = tfhd.body + 8 + (flags & 2 ? 4 : 0);
  let { duration, size } = track.defaults;
  if (flags & 8) (duration = view.getUint32(at)), (at += 4);
  if (flags & 16) size = view.getUint32(at);

  let time = moof[tfdt.body]
    ? view.getUint32(tfdt.body + 4) * 2 ** 32 + view.getUint32(tfdt.body + 8)
    : view.getUint32(tfdt.body + 4);
  const start = time;
  let shown = NaN;
  const data = [];
  for (const trun of boxes.filter((b) => b.type === "trun")) {
    const has = view.getUint32(trun.body) & 0xffffff;
    const count = view.getUint32(trun.body + 4);
    let p = trun.body + 8;
    if (!(has & 1)) throw new Error("The stream's runs have no data offset");
    const run = { field: p, from: view.getInt32(p), size: 0 };
    p += 4 + (has & 4 ? 4 : 0);
    for (let i = 0; i < count; i++) {
      const at = time;
      time += has & 0x100 ? view.getUint32(p) : duration;
      if (has & 0x100) p += 4;
      run.size += has & 0x200 ? view.getUint32(p) : size;
      if (has & 0x200) p += 4;
      if (has & 0x400) p += 4;
      if (Number.isNaN(shown)) shown = at + (has & 0x800 ? view.getInt32(p) : 0);
      if (has & 0x800) p += 4;
    }
    data.push(run);
  }
  const seconds = (ticks) => ticks / track.timescale;
  return { track, start: seconds(start), shown: seconds(shown), end: seconds(time), data };
}
