// Peers of every protocol, and how to get rid of them.

import { call, may } from "./api.js";
import { complain, confirmed, heading, make, put, Table, tell } from "./dom.js";
import { rate, since, size } from "./format.js";

const page = 100;

// kicked asks, ends a session by DELETE and tells about it. done updates the list.
async function kick(what, path, done) {
  if (!(await confirmed("End this session?", `${what} is disconnected. It may connect again: this is no ban.`, "End it"))) return;
  try {
    await call("DELETE", path);
    tell("The session has been ended");
    complain();
  } catch (error) {
    if (error.status !== 404) complain(error.message); // it went by itself meanwhile
  }
  await done();
}

export function sessions() {
  const input = (id) => make("input", { id, type: "search", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const streamName = input("session-stream");
  const address = input("session-address");
  const role = make("select", { id: "session-role" }, make("option", { value: "" }, "all"), make("option", { value: "publish" }, "publishing"), make("option", { value: "play" }, "playing"));
  const columns = [
    { title: "Stream", text: (s) => s.stream },
    { title: "Does", text: (s) => (s.role === "publish" ? "publishes" : "plays") },
    { title: "Protocol", text: (s) => s.protocol },
    { title: "Address", text: (s) => s.remote },
    { title: "User", text: (s) => s.user },
    { title: "For", text: (s) => since(s.started), number: true },
    { title: "Bit rate", text: (s) => rate(s.bit_rate), number: true },
    { title: "Bytes", text: (s) => size(s.role === "publish" ? s.bytes_in : s.bytes_out), number: true },
    { title: "Skips", text: (s) => String(s.skips), number: true },
  ];
  const describe = (s) => `${s.user || s.remote}, who ${s.role === "publish" ? "publishes" : "plays"} “${s.stream}” over ${s.protocol},`;
  if (may("operator")) {
    columns.push({
      title: "Kick",
      button: () => "Kick",
      label: (s) => `Kick ${s.user || s.remote}, ${s.protocol}, ${s.stream}`,
      run: (s) => kick(describe(s), `sessions/${encodeURIComponent(s.id)}`, refresh),
    });
  }
  const table = new Table("Sessions", columns, (s) => s.id, "Nobody is connected who matches.");
  const more = make("button", { type: "button", class: "button", hidden: true }, "Show more");
  const count = make("span", { class: "count" });
  const title = heading("Sessions ");
  title.append(count);
  const label = (id, text, e) => make("div", {}, make("label", { for: id }, text), e);
  const element = make(
    "div",
    {},
    title,
    make("div", { class: "filters" }, label("session-stream", "Stream", streamName), label("session-address", "Address", address), label("session-role", "Does", role)),
    table.element,
    more,
  );
  let limit = page;
  let asked = 0;

  async function refresh() {
    const query = new URLSearchParams({ limit: Math.min(limit, 1000) });
    for (const [k, e] of [["stream", streamName], ["address", address], ["role", role]]) if (e.value.trim()) query.set(k, e.value.trim());
    const turn = ++asked;
    const list = await call("GET", `sessions?${query}`);
    if (turn !== asked) return;
    table.update(list.sessions);
    put(count, String(list.total));
    more.hidden = list.total <= list.sessions.length || limit >= 1000;
  }
  const again = () => refresh().then(() => complain(), (error) => complain(error.message));
  for (const e of [streamName, address, role]) e.addEventListener("change", again);
  more.addEventListener("click", () => {
    limit += page;
    again();
  });
  return { element, refresh, show: (rest) => (streamName.value = rest) };
}

export function allocations() {
  const columns = [
    { title: "User", text: (a) => a.user },
    { title: "Realm", text: (a) => a.realm },
    { title: "Client", text: (a) => `${a.client} ${a.transport}` },
    { title: "Relayed", text: (a) => `${(a.relayed ?? []).join(", ")} ${a.network}` },
    { title: "Peers", text: (a) => String((a.permissions ?? []).length), number: true },
    { title: "For", text: (a) => since(a.created), number: true },
    { title: "From client", text: (a) => size(a.usage.fromClient.bytes), number: true },
    { title: "To client", text: (a) => size(a.usage.toClient.bytes), number: true },
  ];
  if (may("operator")) {
    columns.push({
      title: "End",
      button: () => "End",
      label: (a) => `End the allocation of ${a.user || a.client}`,
      run: (a) => kick(`The allocation of ${a.user || a.client}`, `turn/sessions/${a.id}`, refresh),
    });
  }
  const table = new Table("TURN allocations", columns, (a) => a.id, "There are no allocations.");
  const element = make("div", {}, heading("TURN allocations"), table.element);
  async function refresh() {
    table.update((await call("GET", "turn/sessions?limit=1000")).sessions);
  }
  return { element, refresh, show: () => {} };
}
