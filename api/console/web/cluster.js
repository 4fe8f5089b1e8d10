// The servers of the cluster, and which of them has which stream.

import { call } from "./api.js";
import { complain, heading, make, put, Table } from "./dom.js";

const page = 100;

export function cluster() {
  const percent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });
  const state = (s) => [s.draining ? "draining" : "serving", s.edge ? "edge" : "", s.self ? "this one" : ""].filter(Boolean).join(", ");
  const servers = new Table(
    "Servers",
    [
      { title: "Server", text: (s) => s.id },
      { title: "State", text: state },
      { title: "Load", text: (s) => percent.format(s.load), number: true },
      { title: "Streams", text: (s) => String(s.streams), number: true },
      { title: "For servers", text: (s) => s.url },
      { title: "For clients", text: (s) => Object.values(s.public ?? {}).join(" ") },
      { title: "TURN", text: (s) => (s.turn ?? []).join(" ") },
      { title: "List", button: () => "Streams", label: (s) => `Streams of ${s.id}`, run: list },
    ],
    (s) => s.id,
    "No server is known to be alive.",
  );
  const streams = new Table("Streams of the server", [{ title: "Stream", text: (s) => s.name }], (s) => s.name, "It has no streams.");
  const what = make("h3", { tabindex: "-1" });
  const more = make("button", { type: "button", class: "button", hidden: true }, "Show more");
  const part = make("section", { hidden: true, "aria-label": "Streams of the server" }, what, streams.element, more);
  const count = make("span", { class: "count" });
  const title = heading("Cluster ");
  title.append(count);
  const element = make("div", {}, title, servers.element, part);
  let of = ""; // the server whose streams are listed
  let limit = page;

  async function list(s) {
    of = s.id;
    limit = page;
    part.hidden = false;
    await again();
    what.focus();
  }
  async function claims() {
    if (!of) return;
    const asked = of;
    const found = await call("GET", `cluster/streams?${new URLSearchParams({ server: asked, limit: Math.min(limit, 1000) })}`);
    if (asked !== of) return;
    put(what, `Streams of ${of}: ${found.total}`);
    streams.update(found.streams);
    more.hidden = found.total <= found.streams.length || limit >= 1000;
  }
  async function refresh() {
    const found = await call("GET", "cluster?limit=1000");
    servers.update(found.servers);
    put(count, String(found.total));
    await claims();
  }
  const again = () => claims().catch((error) => complain(error.message));
  more.addEventListener("click", () => {
    limit += page;
    again();
  });
  return { element, refresh, show: () => {} };
}
