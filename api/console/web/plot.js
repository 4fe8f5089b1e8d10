// A line plot of the last minutes, drawn as SVG, with its values in words beside.

import { draw, make, put } from "./dom.js";

const width = 600;
const height = 160;
const points = 120;

// Plot has series {name, format}, which take a value each at every push.
export class Plot {
  #series;
  #format;
  #least;
  #lines = [];
  #top = make("span", { class: "scale" });
  #svg;
  element;

  // least is how much the highest value on the axis is at least.
  constructor(title, names, format, least) {
    this.#format = format;
    this.#least = least;
    const legend = make("ul", { class: "legend" });
    this.#svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", class: "plot" });
    for (const y of [0.25, 0.5, 0.75]) this.#svg.append(draw("line", { x1: 0, x2: width, y1: height * y, y2: height * y, class: "grid" }));
    this.#series = names.map((name, i) => {
      const value = make("strong");
      const area = draw("path", { class: `area area-${i}` });
      const line = draw("path", { class: `line line-${i}` });
      this.#svg.append(area, line);
      this.#lines.push({ area, line });
      legend.append(make("li", { class: `key key-${i}` }, `${name} `, value));
      return { name, value, values: [] };
    });
    this.element = make("figure", { class: "card plot-card" }, make("figcaption", {}, make("h3", {}, title), legend), make("div", { class: "plot-frame" }, this.#svg, this.#top));
    this.element.dataset.title = title;
  }

  push(...values) {
    for (const [i, s] of this.#series.entries()) {
      s.values.push(values[i]);
      if (s.values.length > points) s.values.shift();
      put(s.value, this.#format(values[i]) || "–");
    }
    const highest = Math.max(...this.#series.flatMap((s) => s.values.filter(Number.isFinite)), 0);
    const top = Math.max(this.#least, round(highest * 1.1));
    put(this.#top, this.#format(top));
    for (const [i, s] of this.#series.entries()) {
      const first = points - s.values.length;
      let path = "";
      let at = [];
      for (const [n, v] of s.values.entries()) {
        if (!Number.isFinite(v)) continue;
        const x = ((first + n) / (points - 1)) * width;
        const y = height - (Math.max(0, v) / top) * (height - 4) - 2;
        at.push(x);
        path += `${path ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      }
      this.#lines[i].line.setAttribute("d", path || "M0 0");
      this.#lines[i].area.setAttribute("d", path ? `${path}L${at.at(-1).toFixed(1)} ${height}L${at[0].toFixed(1)} ${height}Z` : "M0 0");
    }
    const text = this.#series.map((s) => `${s.name} now ${this.#format(s.values.at(-1)) || "unknown"}`).join(", ");
    this.#svg.setAttribute("aria-label", `${this.element.dataset.title}, the last ${Math.round((points * 2) / 60)} minutes: ${text}; highest ${this.#format(highest)}`);
  }
}

// round rounds up to a number that reads well.
function round(n) {
  if (n <= 0) return 0;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 2.5, 5, 10].map((f) => f * power).find((v) => v >= n) ?? n;
}
