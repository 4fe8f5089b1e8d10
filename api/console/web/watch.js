// Plays a stream, and says how: its protocol and its latency.

import { pathOf, root } from "./api.js";
import { Facts, heading, make, put, tell } from "./dom.js";
import { rate } from "./format.js";
import { LivePlayer } from "./player.js";
import { transports } from "./transport.js";

const words = { idle: "Nothing to play", connecting: "Connecting…", playing: "Playing", paused: "Paused" };

export function watch() {
  let name = "";
  let before = { bytes: 0, time: 0 };
  const video = make("video", { id: "video", playsinline: true, muted: true, controls: true });
  video.muted = true; // browsers start nothing that is heard by itself
  const player = new LivePlayer(video);
  const protocol = make("select", { id: "protocol" }, make("option", { value: "auto" }, "Automatic"), ...Object.entries(transports).map(([k, t]) => make("option", { value: k }, t.label)));
  const token = make("input", { id: "play-token", type: "password", autocomplete: "off", spellcheck: "false" });
  const state = make("p", { id: "play-state", class: "hint", role: "status" });
  const facts = new Facts();
  const title = heading("");
  const back = make("a");
  const element = make(
    "div",
    {},
    make("p", { class: "back" }, back),
    title,
    make("section", { class: "card watch", "aria-label": "Player" }, video, state, facts.element),
    make(
      "div",
      { class: "filters" },
      make("div", {}, make("label", { for: "protocol" }, "Protocol"), protocol),
      make("div", {}, make("label", { for: "play-token" }, "Token of players, if they need one"), token),
    ),
  );
  protocol.addEventListener("change", () => (player.protocol = protocol.value));
  token.addEventListener("change", load);
  player.addEventListener("state", () => {
    put(state, player.message || (words[player.state] ?? ""));
    if (player.state === "playing") tell(`Playing over ${player.stats.transport}`);
  });

  function load() {
    player.load(new URL(pathOf(name), root).href, { whep: new URL(`whep/${pathOf(name)}`, root).href, token: token.value.trim() });
  }
  async function refresh() {
    const s = player.stats;
    const playing = player.state === "playing";
    const now = performance.now();
    const bits = ((s.bytes - before.bytes) * 8000) / (now - before.time);
    before = { bytes: s.bytes, time: now };
    const seconds = (n) => (!Number.isFinite(n) ? "" : n < 1 ? `${Math.round(n * 1000)} ms` : `${n.toFixed(1)} s`);
    facts.update([
      ["Protocol", playing ? s.transport : ""],
      ["Latency", playing ? seconds(Number.isFinite(s.live) ? s.live : s.latency) : ""],
      ["Latency is", playing ? (Number.isFinite(s.live) ? "from capture to screen" : s.measure) : ""],
      ["Received", playing && bits > 0 ? rate(bits) : ""],
      ["Picture", playing && video.videoWidth ? `${video.videoWidth}×${video.videoHeight}` : ""],
      ["Dropped", playing ? `${s.dropped} of ${s.frames}` : ""],
      ["Stalls", playing ? String(s.stalls) : ""],
    ]);
  }
  return {
    element,
    refresh,
    every: 0.5,
    show(rest) {
      name = rest;
      put(title, `Watching ${name}`);
      put(back, name);
      back.href = `#/streams/${pathOf(name)}`;
      load();
    },
    hide: () => player.stop(),
  };
}
