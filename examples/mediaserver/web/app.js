// The page: lists the live streams, plays one, and shows how to watch and
// publish by other means. Whatever comes from the server is put in as text.

import { addressRows, publishPanels, showTabs } from "./share.js";
import { cameraPanel } from "./camera.js";
import { LivePlayer } from "./player.js";
import { transports } from "./transport.js";

const pollEvery = 2000; // milliseconds
const favourite = "live/demo";

const $ = (id) => document.getElementById(id);
const video = $("video");
const stage = $("stage");
const player = new LivePlayer(video);

let streams = []; // what streams.json listed last
let chosen = null; // name of the stream in the player
let seenType = null; // its media type in streams.json, null if it was not there
let webrtc = false; // the server has WHIP and WHEP
let publishBase = ""; // RTMP address to publish to with NAME in it, "" if there is none

// The list

async function poll() {
  setTimeout(poll, pollEvery);
  if (document.hidden && chosen !== null) return;
  try {
    const response = await fetch("/streams.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    take(await response.json());
    tellServer(true, streams.length === 1 ? "1 stream live" : `${streams.length} streams live`);
  } catch {
    tellServer(false, "Server out of reach, trying again");
  }
}

function tellServer(ok, text) {
  $("server").dataset.ok = ok;
  if ($("server-text").textContent !== text) $("server-text").textContent = text;
}

function take(list) {
  streams = (list.streams ?? []).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  $("version").textContent = list.version ?? "";
  // The server says localhost, for it does not know by what name it was reached.
  const base = (list.publish?.rtmp ?? "").replace("//localhost:", () => `//${location.hostname}:`);
  const rtc = Boolean(list.publish?.whip);
  if (base !== publishBase || rtc !== webrtc) {
    publishBase = base;
    webrtc = rtc;
    showAddresses();
  }
  showStreams();
  if (chosen === null) choose(nameInHash() ?? pick());
  const stream = streams.find((s) => s.name === chosen);
  // The player tries again by itself, less and less often: tell it when there
  // is reason to.
  const type = stream?.mime ?? null;
  if (stream && type !== seenType && ["waiting", "unsupported"].includes(player.state)) player.retry();
  seenType = type;
  showTracks(stream);
}

function pick() {
  return (streams.find((s) => s.name === favourite) ?? streams[0])?.name ?? null;
}

function showStreams() {
  const list = $("streams");
  const items = new Map([...list.children].map((li) => [li.dataset.name, li]));
  streams.forEach((stream, i) => {
    let item = items.get(stream.name);
    items.delete(stream.name);
    item ??= streamItem(stream.name);
    // Moved only if need be: moving an element takes the focus from it.
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
    const [link] = item.children;
    if (stream.name === chosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    const [, viewers, detail] = link.children;
    viewers.lastElementChild.textContent = String(stream.viewers ?? 0);
    viewers.title = stream.viewers === 1 ? "1 viewer" : `${stream.viewers ?? 0} viewers`;
    detail.textContent = summary(stream);
  });
  for (const item of items.values()) item.remove();
  $("empty").hidden = streams.length > 0;
  $("count").textContent = streams.length || "";
}

function streamItem(name) {
  const item = element("li");
  item.dataset.name = name;
  const link = element("a");
  link.href = `#${pathOf(name)}`;
  const viewers = element("span", "viewers");
  viewers.append(symbol("eye"), element("span"));
  link.append(element("span", "name", name), viewers, element("span", "detail"));
  item.append(link);
  return item;
}

function summary(stream) {
  const picture = stream.tracks?.find((t) => t.kind === "video");
  const parts = [];
  if (picture?.width) parts.push(`${picture.width}×${picture.height}`);
  parts.push((stream.tracks ?? []).filter((t) => t.kind !== "data").map((t) => codecName(t.codec)).join(" + "));
  if (stream.bitrate) parts.push(bitrate(stream.bitrate));
  if (stream.uptime >= 1) parts.push(duration(stream.uptime));
  const unbroken = parts.filter(Boolean).map((part) => part.replaceAll(" ", "\u00a0"));
  return unbroken.join("\u00a0· ");
}

// The chosen stream

function nameInHash() {
  try {
    return decodeURIComponent(location.hash.slice(1)) || null;
  } catch {
    return null;
  }
}

function choose(name) {
  if (name === chosen || name === null) return;
  chosen = name;
  seenType = null;
  $("name").textContent = name;
  document.title = `${name} · Runnel`;
  const audio = streams.find((s) => s.name === name)?.tracks?.some((t) => t.kind === "audio") ?? false;
  player.load(`/${pathOf(name)}`, { whep: webrtc ? new URL(`/whep/${pathOf(name)}`, location.href).href : "", audio });
  showStreams();
  showTracks(streams.find((s) => s.name === name));
  showAddresses();
}

function showTracks(stream) {
  const texts = [];
  for (const t of stream?.tracks ?? []) {
    if (t.kind === "data") continue;
    texts.push([codecName(t.codec), t.detail].filter(Boolean).join(" "));
    if (t.width) texts.push(`${t.width}×${t.height}`);
    if (t.fps) texts.push(`${Math.round(t.fps * 100) / 100} fps`);
    if (t.rate) texts.push(`${t.rate / 1000} kHz ${["", "mono", "stereo"][t.channels] ?? `${t.channels} channels`}`);
  }
  const chips = $("chips");
  if ([...chips.children].map((c) => c.textContent).join() === texts.join()) return;
  chips.replaceChildren(...texts.map((text) => element("li", "", text)));
}

function showAddresses() {
  $("watch").hidden = chosen === null;
  if (chosen !== null) $("urls").replaceChildren(...addressRows(chosen, pathOf(chosen), publishBase));
  $("publish").hidden = !publishBase && !webrtc;
  showTabs({ camera: webrtc, test: publishBase, file: publishBase, obs: publishBase });
  if (publishBase) publishPanels($("publish-name").value.trim() || "mystream", publishBase);
}

// The player

const words = {
  idle: "Nothing to play yet",
  connecting: "Connecting…",
  playing: "Playing",
  paused: "Paused",
};

function showState() {
  const { state, message } = player;
  stage.dataset.state = state;
  const stopped = state === "paused" || state === "blocked";
  setIcon($("play"), stopped ? "play" : "pause", stopped ? "Play" : "Pause");
  const text = state === "waiting" ? `${message}. Trying again…` : message;
  $("overlay-text").textContent = state === "idle" ? words.idle : text;
  $("retry").hidden = state !== "waiting" && state !== "unsupported";
  $("status").textContent = message || (words[state] ?? "");
}

function showMedia() {
  const { missing, hasAudio, hasVideo } = player.media;
  $("notice").textContent = missing;
  $("notice").hidden = !missing;
  $("audio-only").hidden = hasVideo || !hasAudio;
  showSound();
}

function showSound() {
  const silent = video.muted || video.volume === 0;
  setIcon($("mute"), silent ? "muted" : "sound", silent ? "Turn on sound" : "Turn off sound");
  $("mute").disabled = $("volume").disabled = !player.media.hasAudio;
  $("volume").value = video.muted ? 0 : video.volume;
  $("unmute").hidden = !silent || !player.media.hasAudio;
}

function setSound(on) {
  video.muted = !on;
  if (on && video.volume === 0) video.volume = 1;
  if (on && player.state === "blocked") player.resume();
}

function togglePlay() {
  if (player.state === "playing" || player.state === "connecting") player.pause();
  else player.resume();
}

async function toggleFull() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else if (stage.requestFullscreen) await stage.requestFullscreen();
  else video.webkitEnterFullscreen?.(); // phones of Apple's let nothing but the video fill the screen
}

async function togglePictureInPicture() {
  if (document.pictureInPictureElement) await document.exitPictureInPicture();
  else await video.requestPictureInPicture();
}

let active; // timer that hides the controls
function stir() {
  stage.dataset.active = "";
  clearTimeout(active);
  active = setTimeout(() => delete stage.dataset.active, 3000);
}

const keys = {
  k: togglePlay,
  m: () => setSound(video.muted),
  f: () => toggleFull().catch(() => {}),
  l: () => player.goLive(),
};

let before = { bytes: 0, frames: 0, time: 0 };
function showFigures() {
  const s = player.stats;
  const now = performance.now();
  const elapsed = (now - before.time) / 1000;
  const rate = Math.max(0, ((s.bytes - before.bytes) * 8) / elapsed);
  const fps = Math.max(0, Math.round((s.frames - before.frames) / elapsed));
  before = { bytes: s.bytes, frames: s.frames, time: now };
  const playing = player.state === "playing";
  stage.toggleAttribute("data-stalled", s.stalled);
  const seconds = (n) => (Number.isFinite(n) ? `${n.toFixed(1)} s` : "");
  // WebRTC is worth telling the milliseconds.
  const latency = Number.isFinite(s.latency) && s.latency < 1 ? `${Math.round(s.latency * 1000)} ms` : seconds(s.latency);
  $("latency").textContent = seconds(s.live) || latency;
  $("live").dataset.edge = playing && s.latency < s.target + 1.5;
  $("protocol-name").textContent = playing ? s.transport : "";
  $("f-live").textContent = seconds(s.live) || "–";
  $("f-latency").textContent = latency || "–";
  $("f-picture").textContent = playing && video.videoWidth ? `${video.videoWidth}×${video.videoHeight} @ ${fps}` : "–";
  $("f-bitrate").textContent = playing ? bitrate(rate) : "–";
  $("f-dropped").textContent = playing ? `${s.dropped} of ${s.frames}` : "–";
  $("f-stalls").textContent = playing ? String(s.stalls) : "–";
}

// Small things

function element(tag, className = "", text = "") {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text) e.textContent = text;
  return e;
}

function symbol(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function setIcon(button, name, label) {
  button.querySelector("use").setAttribute("href", `#i-${name}`);
  button.setAttribute("aria-label", label);
  button.title = label;
}

function pathOf(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}

function codecName(codec = "") {
  const names = { h264: "H.264", h265: "H.265", av1: "AV1", vp8: "VP8", vp9: "VP9", aac: "AAC", mp3: "MP3", opus: "Opus", pcma: "G.711 A", pcmu: "G.711 µ", ac3: "AC-3" };
  return names[codec] ?? codec;
}

function bitrate(bits) {
  return bits >= 999_500 ? `${(bits / 1e6).toFixed(2)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;
}

function duration(seconds) {
  const s = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  const days = Math.floor(s / 86400);
  const clock = `${Math.floor((s % 86400) / 3600)}:${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
  if (days) return `${days} d ${clock}`;
  return s < 3600 ? clock.slice(2).replace(/^0(?=\d:)/, "") : clock;
}

// Start

for (const [value, label] of [["auto", "Automatic"], ...Object.entries(transports).map(([k, t]) => [k, t.label])]) {
  const option = element("option", "", label);
  option.value = value;
  $("protocol").append(option);
}
$("protocol").addEventListener("change", (e) => (player.protocol = e.target.value));
player.addEventListener("state", showState);
player.addEventListener("media", showMedia);
video.addEventListener("volumechange", showSound);
video.addEventListener("click", () => (stage.hasAttribute("data-active") ? togglePlay() : stir()));
stage.addEventListener("dblclick", (e) => e.target === video && toggleFull().catch(() => {}));
for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) stage.addEventListener(event, stir);
$("play").addEventListener("click", togglePlay);
$("big-play").addEventListener("click", () => player.resume());
$("retry").addEventListener("click", () => player.retry());
$("mute").addEventListener("click", () => setSound(video.muted));
$("unmute").addEventListener("click", () => setSound(true));
$("volume").addEventListener("input", (e) => {
  video.volume = Number(e.target.value);
  video.muted = video.volume === 0;
});
$("live").addEventListener("click", () => player.goLive());
$("full").addEventListener("click", () => toggleFull().catch(() => {}));
$("pip").addEventListener("click", () => togglePictureInPicture().catch(() => {}));
$("pip").hidden = !document.pictureInPictureEnabled;
$("player").addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, select")) return;
  const action = keys[e.key.toLowerCase()];
  if (action) action();
});
$("publish-name").addEventListener("input", showAddresses);
cameraPanel($("panel-camera"), () => $("publish-name"));
addEventListener("hashchange", () => choose(nameInHash() ?? pick()));

video.muted = true; // browsers start nothing that is heard by itself
showState();
showSound();
showAddresses();
setInterval(showFigures, 1000);
poll();
