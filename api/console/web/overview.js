// The server at a glance: live plots, and its figures.

import { call, may } from "./api.js";
import { complain, Facts, heading, make, tell } from "./dom.js";
import { date, duration, milliseconds, rate, size } from "./format.js";
import { Plot } from "./plot.js";

const levels = ["DEBUG", "INFO", "WARN", "ERROR"];

export function overview() {
  const bits = new Plot("Bit rate", ["in", "out"], rate, 1e6);
  const peers = new Plot("Sessions", ["publishing", "playing"], (n) => (Number.isFinite(n) ? String(Math.round(n)) : ""), 5);
  const cpu = new Plot("CPU", ["of all processors"], (n) => (Number.isFinite(n) ? `${n.toFixed(n < 9.95 ? 1 : 0)} %` : ""), 10);
  const facts = new Facts();
  const level = make("select", { id: "log-level", disabled: true }, ...levels.map((l) => make("option", { value: l }, l.toLowerCase())));
  const levelRow = make("p", { class: "row", hidden: true }, make("label", { for: "log-level" }, "Log level"), level);
  const element = make(
    "div",
    {},
    heading("Overview"),
    make("div", { class: "plots" }, bits.element, peers.element, cpu.element),
    make("section", { class: "card", "aria-labelledby": "server-title" }, make("h3", { id: "server-title" }, "Server"), facts.element, levelRow),
  );

  level.addEventListener("change", async () => {
    try {
      await call("PUT", "log-level", { body: { level: level.value } });
      tell(`The log level is ${level.value.toLowerCase()}`);
      complain();
    } catch (error) {
      complain(error.message);
    }
    showLevel();
  });

  async function showLevel() {
    const answer = await call("GET", "log-level").catch(() => null);
    levelRow.hidden = !answer;
    if (!answer || document.activeElement === level) return;
    if (!levels.includes(answer.level)) level.append(make("option", { value: answer.level }, answer.level.toLowerCase()));
    level.value = answer.level;
    level.disabled = !may("admin");
  }

  let last = null;
  const count = (roles) => Object.values(roles ?? {}).reduce((a, b) => a + b, 0);

  // Bytes are those of the sessions that are open: their sum falls when one
  // closes, and then the figure of before is the better one.
  let shown = [NaN, NaN];
  function flow(now, seconds) {
    const grown = [now.bytes_in - last.bytes_in, now.bytes_out - last.bytes_out];
    shown = grown.map((n, i) => (n >= 0 ? (n * 8) / seconds : shown[i]));
    return shown;
  }

  async function sample() {
    const now = await call("GET", "server");
    const seconds = last ? (Date.parse(now.time) - Date.parse(last.time)) / 1000 : 0;
    const same = last && last.pid === now.pid && last.started === now.started;
    if (same && seconds > 0) {
      bits.push(...flow(now, seconds));
      cpu.push(now.cpu_time ? ((now.cpu_time - last.cpu_time) / seconds / now.cpus) * 100 : NaN);
      peers.push(count(now.sessions.publish), count(now.sessions.play));
    }
    last = now;
    const byProtocol = (role) => Object.entries(now.sessions[role] ?? {}).map(([p, n]) => `${n} ${p}`).join(", ") || "none";
    facts.update([
      ["Name", [now.name, now.version].filter(Boolean).join(" ")],
      ["Up for", duration((Date.parse(now.time) - Date.parse(now.started)) / 1000)],
      ["Started", date(now.started)],
      ["Streams", String(now.streams)],
      ["Publishing", byProtocol("publish")],
      ["Playing", byProtocol("play")],
      ["Latency, median", now.latency.count ? milliseconds(now.latency.median) : ""],
      ["Latency, 99 %", now.latency.count ? milliseconds(now.latency.p99) : ""],
      ["Memory", `${size(now.memory)}, ${size(now.heap)} in use`],
      ["Goroutines", String(now.goroutines)],
      ["System", `${now.os}/${now.arch}, ${now.cpus} ${now.cpus === 1 ? "processor" : "processors"}`],
      ["Built with", now.go],
    ]);
  }

  return { element, sample, show: showLevel, refresh: async () => {} };
}
