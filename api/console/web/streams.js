// The list of streams, and one of them.

import { call, may, pathOf } from "./api.js";
import { complain, confirmed, Facts, heading, make, put, Table, tell } from "./dom.js";
import { codec, date, duration, milliseconds, rate, since, tracks } from "./format.js";

const address = (name) => `#/streams/${pathOf(name)}`;
const page = 100;

function condition(s) {
  if (!s.live) return "declared";
  return s.publishing ? "live" : "waiting";
}

export function streams() {
  const search = make("input", { id: "stream-search", type: "search", spellcheck: "false", autocomplete: "off" });
  const table = new Table(
    "Streams",
    [
      { title: "Name", text: (s) => s.name, href: (s) => address(s.name) },
      { title: "Title", text: (s) => s.title },
      { title: "State", text: condition },
      { title: "Media", text: (s) => tracks(s.tracks) },
      { title: "Bit rate", text: (s) => (s.live ? rate(s.bit_rate.last_10s) : ""), number: true },
      { title: "Viewers", text: (s) => String(s.viewers), number: true },
      { title: "Up for", text: (s) => (s.live ? since(s.started) : ""), number: true },
    ],
    (s) => s.name,
    "No stream is live or declared.",
  );
  const more = make("button", { type: "button", class: "button", hidden: true }, "Show more");
  const count = make("span", { class: "count" });
  const title = heading("Streams ");
  title.append(count);
  const element = make(
    "div",
    {},
    title,
    make("div", { class: "filters" }, make("div", {}, make("label", { for: "stream-search" }, "Search"), search)),
    table.element,
    more,
  );
  let limit = page;
  let asked = 0;

  async function refresh() {
    const turn = ++asked;
    const list = await call("GET", `streams?limit=${Math.min(limit, 1000)}&search=${encodeURIComponent(search.value.trim())}`);
    if (turn !== asked) return; // a later question was faster
    table.update(list.streams);
    put(count, String(list.total));
    more.hidden = list.total <= list.streams.length || limit >= 1000;
  }
  search.addEventListener("input", () => refresh().catch((error) => complain(error.message)));
  more.addEventListener("click", () => {
    limit += page;
    refresh().catch((error) => complain(error.message));
  });
  return { element, show: () => {}, refresh };
}

export function oneStream(parts) {
  let name = "";
  const title = heading("");
  const facts = new Facts();
  const media = new Table(
    "Tracks",
    [
      { title: "Track", text: (t) => String(t.id), number: true },
      { title: "Kind", text: (t) => [t.kind, t.language].filter(Boolean).join(", ") },
      { title: "Codec", text: (t) => [codec(t.codec), t.profile, t.level].filter(Boolean).join(" ") },
      { title: "Format", text: format },
      { title: "Frames/s", text: (t) => (t.frame_rate ? t.frame_rate.toFixed(1) : ""), number: true },
      { title: "Key every", text: (t) => (t.kind === "video" && t.key_interval ? `${t.key_interval.toFixed(1)} s` : ""), number: true },
    ],
    (t) => t.id,
    "It has no tracks now.",
  );
  const said = new Table(
    "Metadata",
    [
      { title: "Name", text: ([k]) => k },
      { title: "Value", text: ([, v]) => (typeof v === "object" ? JSON.stringify(v) : String(v)) },
    ],
    ([k]) => k,
    "",
  );
  const saidSection = make("section", { class: "card", hidden: true }, make("h3", {}, "Metadata"), said.element);
  const watch = make("a", { class: "button primary" }, "Watch");
  const who = make("a", { class: "button" }, "Sessions");
  const record = make("button", { type: "button", class: "button", hidden: true }, "Record");
  const end = make("button", { type: "button", class: "button danger", hidden: true }, "End the stream");
  const element = make(
    "div",
    {},
    make("p", { class: "back" }, make("a", { href: "#/streams" }, "All streams")),
    title,
    make("div", { class: "actions" }, watch, who, record, end),
    make("section", { class: "card" }, facts.element),
    make("section", { class: "card" }, make("h3", {}, "Tracks"), media.element),
    saidSection,
  );
  let recording = false;

  end.addEventListener("click", async () => {
    const which = name;
    if (!(await confirmed("End this stream?", `“${which}” ends for its publisher and everybody who watches, and is not declared any more. The publisher may come back.`, "End it"))) return;
    try {
      await call("DELETE", `streams/${pathOf(which)}`);
      tell(`Ended ${which}`);
      location.hash = "#/streams";
    } catch (error) {
      complain(error.message);
    }
  });
  record.addEventListener("click", async () => {
    try {
      await call("PUT", `recorders/${pathOf(name)}`, { body: { recording: !recording } });
      tell(recording ? "Recording stops" : "Recording");
      await refresh();
    } catch (error) {
      complain(error.message);
    }
  });

  async function refresh() {
    const which = name;
    const s = await call("GET", `streams/${pathOf(which)}`);
    const recorder = parts.recordings && s.live ? await call("GET", `recorders/${pathOf(which)}`).catch(() => null) : null;
    if (which !== name) return;
    facts.update([
      ["State", condition(s)],
      ["Title", s.title],
      ["Started", s.live ? date(s.started) : ""],
      ["Up for", s.live ? since(s.started) : ""],
      ["Viewers", String(s.viewers)],
      ["Bit rate", s.live ? rate(s.bit_rate.last_10s) : ""],
      ["Media", s.live ? duration(s.position) : ""],
      ["Frames", s.live ? `${s.frames}, ${s.dropped_frames} dropped` : ""],
      ["Server latency", s.latency.count ? `${milliseconds(s.latency.median)}, 99 %: ${milliseconds(s.latency.p99)}` : ""],
      ["Labels", Object.entries(s.labels ?? {}).map(([k, v]) => `${k}=${v}`).join(", ")],
      ["Recording", recorder ? (recorder.recording ? "yes" : "no") : ""],
    ]);
    media.update(s.tracks);
    const metadata = Object.entries(s.metadata ?? {});
    saidSection.hidden = metadata.length === 0;
    said.update(metadata);
    watch.hidden = !s.live;
    end.hidden = !may("operator");
    recording = recorder?.recording ?? false;
    record.hidden = !recorder || !may("operator");
    put(record, recording ? "Stop recording" : "Record");
  }

  function show(rest) {
    name = rest;
    put(title, name);
    watch.href = `#/watch/${pathOf(name)}`;
    who.href = `#/sessions/${pathOf(name)}`;
    for (const e of [watch, end, record]) e.hidden = true;
    media.update([]);
  }
  return { element, show, refresh };
}

function format(t) {
  if (t.width) return `${t.width}×${t.height}`;
  if (!t.sample_rate) return "";
  return `${t.sample_rate / 1000} kHz ${["", "mono", "stereo"][t.channels] ?? `${t.channels} channels`}`;
}
