// The console: logs in, and shows one of its parts, as the address says.

import { CallError, call, identify, me, presume, token, whenRefused } from "./api.js";
import { cluster } from "./cluster.js";
import { complain, make, put, tell } from "./dom.js";
import { events } from "./events.js";
import { overview } from "./overview.js";
import { recordings } from "./recordings.js";
import { allocations, sessions } from "./sessions.js";
import { oneStream, streams } from "./streams.js";
import { watch } from "./watch.js";

const $ = (id) => document.getElementById(id);
const tick = 2000; // milliseconds
const parts = { media: false, turn: false, recordings: false, cluster: false };

let views = {}; // by the first part of the address
let links = []; // of the navigation
let current = null;
let session = null; // AbortController: from log-in to log-out

// Logging in and out

async function begin(first) {
  complain();
  $("login-error").textContent = "";
  try {
    await whoAmI();
  } catch (error) {
    if (!(error instanceof CallError)) throw error;
    const had = token.get() !== "";
    if (error.status === 401) token.clear();
    end();
    if (error.status === 0 || error.status >= 500) {
      complain(`${error.message}, trying again…`);
      setTimeout(() => begin(first), 3000);
      return;
    }
    $("login").hidden = false;
    if (error.status === 401 && !had) $("login-error").textContent = "";
    else $("login-error").textContent = error.status === 401 ? "This token is not valid, or not any more." : error.message;
    if (!first || had) $("token").select();
    $("token").focus();
    return;
  }
  await probe();
  open(first);
}

// whoAmI fills in me. A TURN server alone does not say who calls it: then its
// refusals tell what may be done.
async function whoAmI() {
  try {
    await identify();
    parts.media = true;
  } catch (error) {
    if (error.status !== 404) throw error;
    await call("GET", "turn/stats", { quiet: true });
    parts.media = false;
    presume();
  }
}

async function probe() {
  const has = (path) => call("GET", path).then(() => true, () => false);
  [parts.turn, parts.recordings, parts.cluster] = await Promise.all([has("turn/stats"), has("recordings?limit=1"), has("cluster?limit=1")]);
}

function open(first) {
  session = new AbortController();
  views = {
    ...(parts.media && { overview: overview(), streams: streams(), stream: oneStream(parts), watch: watch(), sessions: sessions() }),
    ...(parts.turn && { turn: allocations() }),
    ...(parts.recordings && { recordings: recordings() }),
    ...(parts.cluster && { cluster: cluster() }),
    ...(parts.media && { events: events() }),
  };
  const names = { overview: "Overview", streams: "Streams", sessions: "Sessions", turn: "TURN", recordings: "Recordings", cluster: "Cluster", events: "Events" };
  links = Object.entries(names)
    .filter(([k]) => views[k])
    .map(([k, text]) => ({ key: k, a: make("a", { href: `#/${k}` }, text) }));
  $("nav").firstElementChild.replaceChildren(...links.map(({ a }) => make("li", {}, a)));
  $("nav").hidden = false;
  $("login").hidden = true;
  $("token").value = "";
  $("who").hidden = false;
  put($("who-text"), token.get() ? me.user && me.user !== me.role ? `${me.user} (${me.role})` : me.role : `no token needed (${me.role})`);
  $("logout").hidden = !token.get();
  views.events?.run(session.signal);
  route(first);
  turn(session.signal);
}

function end(message = "") {
  session?.abort();
  session = null;
  current?.hide?.();
  current = null;
  views = {};
  $("view").replaceChildren();
  $("nav").hidden = $("who").hidden = true;
  $("confirm").close();
  document.title = "Runnel console";
  if (message) {
    token.clear();
    $("login").hidden = false;
    $("login-error").textContent = message;
    $("token").focus();
  }
}

whenRefused(() => session && end("This token is not valid any more."));
$("logout").addEventListener("click", () => {
  token.clear();
  end();
  $("login").hidden = false;
  $("token").focus();
  tell("Logged out");
});
$("login-form").addEventListener("submit", (e) => {
  e.preventDefault();
  const value = $("token").value.trim();
  // What a header can't hold is no token.
  if (!/^[\x21-\x7e]+$/.test(value)) {
    $("login-error").textContent = "A token is made of letters, digits and signs, without spaces.";
    return;
  }
  token.set(value);
  begin(false);
});

// Which part is shown

function where() {
  const [, key = "", ...rest] = location.hash.split("/");
  let name = "";
  try {
    name = rest.map(decodeURIComponent).join("/");
  } catch {
    // not one of ours
  }
  if (key === "streams" && name) return ["stream", name];
  return [key, name];
}

function route(first) {
  if (!session) return;
  let [key, name] = where();
  if (!Object.hasOwn(views, key) || ((key === "stream" || key === "watch") && !name)) [key, name] = [Object.keys(views)[0], ""];
  complain();
  current?.hide?.();
  current = views[key];
  $("view").replaceChildren(current.element);
  for (const { key: k, a } of links) {
    if (k === key || (k === "streams" && (key === "stream" || key === "watch"))) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  current.show(name);
  const title = current.element.querySelector(".title");
  document.title = `${title.firstChild.textContent.trim()} · Runnel console`;
  refresh();
  if (first !== true) title.focus();
}
addEventListener("hashchange", () => route(false));
$("skip").addEventListener("click", (e) => {
  e.preventDefault(); // the address says which part is shown
  $("content").focus();
});

// Keeping it up to date

let failed = false;

async function attempt(f) {
  const at = current;
  try {
    await f();
    if (failed) complain();
    failed = false;
  } catch (error) {
    if (!session || at !== current || error.name === "AbortError") return;
    if (!(error instanceof CallError)) throw error;
    failed = true;
    complain(error.message);
  }
}

const refresh = () => attempt(() => current.refresh());

async function turn(signal) {
  for (let n = 0; !signal.aborted; n++) {
    const wait = new Promise((resolve) => setTimeout(resolve, tick / 4));
    if (n % 4 === 0 && views.overview) await attempt(views.overview.sample);
    const every = Math.round(((current?.every ?? tick / 1000) * 4000) / tick);
    if (current && !document.hidden && n % every === 0) await refresh();
    await wait;
  }
}

begin(true);
