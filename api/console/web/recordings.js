// Recordings, with playback.

import { call, may, pathOf, root } from "./api.js";
import { complain, confirmed, heading, make, put, Table, tell } from "./dom.js";
import { date, duration, size, tracks } from "./format.js";

const page = 50;

export function recordings() {
  const search = make("input", { id: "recording-stream", type: "search", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const video = make("video", { controls: true, playsinline: true, preload: "metadata" });
  const what = make("h3", { tabindex: "-1" });
  const link = make("a", { class: "button", download: "" }, "Download");
  const close = make("button", { type: "button", class: "button" }, "Close");
  const note = make("p", { class: "hint", role: "status" });
  const stage = make("section", { class: "card", hidden: true, "aria-label": "Playback" }, what, video, note, make("div", { class: "actions" }, link, close));
  const columns = [
    { title: "Stream", text: (r) => r.stream },
    { title: "Began", text: (r) => date(r.start) },
    { title: "Length", text: (r) => duration(r.duration), number: true },
    { title: "Size", text: (r) => size(r.size), number: true },
    { title: "Media", text: (r) => [r.format, tracks(r.tracks)].filter(Boolean).join(", ") },
    { title: "State", text: (r) => [r.cut ? "cut short" : "complete", r.repaired ? "repaired" : ""].filter(Boolean).join(", ") },
    { title: "Play", button: () => "Play", label: (r) => `Play ${r.stream} of ${date(r.start)}`, run: play },
  ];
  if (may("admin")) {
    columns.push({ title: "Delete", button: () => "Delete", label: (r) => `Delete ${r.stream} of ${date(r.start)}`, run: remove });
  }
  const table = new Table("Recordings", columns, (r) => r.name, "There are no recordings.");
  const more = make("button", { type: "button", class: "button", hidden: true }, "Show more");
  const count = make("span", { class: "count" });
  const title = heading("Recordings ");
  title.append(count);
  const element = make(
    "div",
    {},
    title,
    stage,
    make("div", { class: "filters" }, make("div", {}, make("label", { for: "recording-stream" }, "Stream"), search)),
    table.element,
    more,
  );
  let limit = page;
  let from = null; // the button that began playback

  // play shows what the server says can be played; where the browser can't, it
  // can be downloaded still.
  async function play(r) {
    from = document.activeElement;
    let one;
    try {
      one = await call("GET", `recordings/${pathOf(r.name)}`);
    } catch (error) {
      return complain(error.message);
    }
    if (!one.play_url) return complain("This server does not serve its recordings");
    const url = new URL(one.play_url.replace(/^\//, ""), root);
    if (url.origin !== root.origin) return complain("The recording is not to be had here");
    stage.hidden = false;
    put(what, `${r.stream}, ${date(r.start)}`);
    put(note, "");
    link.href = url;
    link.hidden = r.format === "hls";
    video.src = url;
    what.focus();
    video.play().catch(() => {}); // the controls are there
  }
  video.addEventListener("error", () => {
    if (video.hasAttribute("src")) put(note, "This browser can't play it. Download it, or open its address in another player.");
  });
  close.addEventListener("click", () => {
    hide();
    from?.focus();
  });

  async function remove(r) {
    if (!(await confirmed("Delete this recording?", `${r.stream} of ${date(r.start)}, ${size(r.size)}, is deleted for good.`, "Delete"))) return;
    try {
      await call("DELETE", `recordings/${pathOf(r.name)}`);
      tell("The recording has been deleted");
    } catch (error) {
      complain(error.message);
    }
    await refresh();
  }

  async function refresh() {
    const query = new URLSearchParams({ limit: Math.min(limit, 1000) });
    if (search.value.trim()) query.set("stream", search.value.trim());
    const list = await call("GET", `recordings?${query}`);
    table.update(list.recordings);
    put(count, list.total ? `${list.total} · ${size(list.bytes)}` : "0");
    more.hidden = list.total <= list.recordings.length || limit >= 1000;
  }
  function hide() {
    stage.hidden = true;
    video.removeAttribute("src");
    video.load();
  }
  search.addEventListener("change", () => refresh().catch((error) => complain(error.message)));
  more.addEventListener("click", () => {
    limit += page;
    refresh().catch((error) => complain(error.message));
  });
  return { element, refresh, hide, every: 5, show: () => {} };
}
