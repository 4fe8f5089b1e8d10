// What happens, as it happens.

import { follow } from "./api.js";
import { heading, make, put } from "./dom.js";
import { clock, duration, size, words } from "./format.js";

const kept = 200;

export function events() {
  const list = make("ol", { class: "events", "aria-label": "Events, the newest first" });
  const state = make("p", { class: "hint", role: "status" });
  const pause = make("button", { type: "button", class: "button", "aria-pressed": "false" }, "Pause");
  const clear = make("button", { type: "button", class: "button" }, "Clear");
  const empty = make("p", { class: "empty" }, "Nothing has happened since the console was opened.");
  const element = make("div", {}, heading("Events"), make("div", { class: "actions" }, pause, clear), state, list, empty);
  let paused = false;
  let held = [];

  function add(event) {
    if (paused) {
      held.push(event);
      if (held.length > kept) held.shift();
      return;
    }
    const { kind, info } = event;
    const bad = Boolean(info.reason) || kind === "events_lost" || kind === "storage_failed";
    list.prepend(
      make(
        "li",
        { class: bad ? "bad" : "" },
        make("time", {}, clock(info.time ?? new Date().toISOString())),
        make("strong", {}, words(kind)),
        make("span", {}, detail(info)),
      ),
    );
    while (list.children.length > kept) list.lastChild.remove();
    empty.hidden = true;
  }
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) for (const e of held.splice(0)) add(e);
  });
  clear.addEventListener("click", () => {
    list.replaceChildren();
    held = [];
    empty.hidden = false;
  });

  // run follows until signal says otherwise, again and again.
  async function run(signal) {
    while (!signal.aborted) {
      try {
        put(state, "Connecting…");
        const stream = follow(signal);
        const first = stream.next();
        put(state, "Events come as they happen.");
        for (let next = await first; !next.done; next = await stream.next()) add(next.value);
        put(state, "The connection has ended; trying again. What happened meanwhile is not shown.");
      } catch (error) {
        if (signal.aborted) return;
        put(state, `${error.message}; trying again. What happens meanwhile is not shown.`);
        if (error.status === 401 || error.status === 404) return;
      }
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
  return { element, run, refresh: async () => {}, show: () => {} };
}

// detail is what an event says, in words.
function detail(info) {
  const { session, stats, reason } = info;
  const parts = [info.stream ?? session?.stream];
  if (session) parts.push(`${session.role === "publish" ? "publisher" : "player"} ${session.user || session.remote} over ${session.protocol}`);
  if (info.user) parts.push(info.user);
  if (info.client) parts.push(info.client);
  if (info.title) parts.push(info.title);
  if (info.file) parts.push(info.file);
  if (info.size) parts.push(size(info.size));
  if (info.duration || stats?.duration) parts.push(duration(info.duration || stats.duration));
  if (info.count) parts.push(`${info.count} lost`);
  if (reason) parts.push(reason);
  return parts.filter(Boolean).join(" · ");
}
