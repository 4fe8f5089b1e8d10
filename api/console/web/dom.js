// Makes elements. What comes from the server gets in as text alone.

export function make(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value !== undefined) e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c !== null));
  return e;
}

const space = "http://www.w3.org/2000/svg";

export function draw(tag, attributes = {}, ...children) {
  const e = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

// put changes an element's text, unless it is that already: what has not
// changed is neither laid out nor read aloud again.
export function put(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// heading is that of a view; it takes the focus when the view opens.
export const heading = (text) => make("h2", { tabindex: "-1", class: "title" }, text);

// tell says something to those who listen to the page.
export function tell(text) {
  document.getElementById("status").textContent = text;
}

// complain shows what went wrong, "" for nothing.
export function complain(text = "") {
  const alert = document.getElementById("alert");
  put(alert, text);
  alert.hidden = !text;
}

// confirmed asks whether to do what can't be undone.
export function confirmed(title, text, verb) {
  const dialog = document.getElementById("confirm");
  const yes = document.getElementById("confirm-yes");
  const no = document.getElementById("confirm-no");
  document.getElementById("confirm-title").textContent = title;
  document.getElementById("confirm-text").textContent = text;
  yes.textContent = verb;
  return new Promise((resolve) => {
    const done = new AbortController();
    const options = { signal: done.signal };
    yes.addEventListener("click", () => dialog.close("yes"), options);
    no.addEventListener("click", () => dialog.close(""), options);
    dialog.addEventListener("cancel", () => (dialog.returnValue = ""), options);
    dialog.addEventListener(
      "close",
      () => {
        done.abort();
        resolve(dialog.returnValue === "yes");
      },
      options,
    );
    dialog.returnValue = "";
    dialog.showModal();
    no.focus();
  });
}

// Table shows items as rows that stay while their items do, so that neither the
// focus nor what is selected gets lost when figures change. columns are
// {title, text(item)}, with href(item) for links, and number: true; or
// {title, button(item), label(item), run(item)} where button is the text.
export class Table {
  #columns;
  #key;
  #rows = new Map();
  #body = make("tbody", { role: "rowgroup" });
  #empty;
  element;

  constructor(caption, columns, key, empty) {
    this.#columns = columns;
    this.#key = key;
    this.#empty = make("p", { class: "empty", hidden: true }, empty);
    const head = make("tr", { role: "row" }, ...columns.map((c) => {
      const cell = make("th", { scope: "col", role: "columnheader", class: c.number ? "number" : "" }, c.button ? "" : c.title);
      if (c.button) cell.append(make("span", { class: "visually-hidden" }, c.title));
      return cell;
    }));
    this.element = make(
      "div",
      { class: "table" },
      make("table", { role: "table" }, make("caption", { class: "visually-hidden" }, caption), make("thead", { role: "rowgroup" }, head), this.#body),
      this.#empty,
    );
  }

  update(items) {
    const seen = new Set();
    let before = null;
    for (const item of items) {
      const key = this.#key(item);
      if (seen.has(key)) continue;
      seen.add(key);
      let row = this.#rows.get(key);
      if (!row) this.#rows.set(key, (row = this.#row()));
      row.item = item;
      this.#fill(row);
      const after = before ? before.nextSibling : this.#body.firstChild;
      if (row.element !== after) this.#body.insertBefore(row.element, after);
      before = row.element;
    }
    for (const [key, row] of this.#rows) {
      if (seen.has(key)) continue;
      this.#keepFocus(row.element);
      row.element.remove();
      this.#rows.delete(key);
    }
    this.#empty.hidden = seen.size > 0;
    this.element.firstChild.hidden = seen.size === 0;
  }

  // #keepFocus gives the focus of a row that goes to a neighbour's button.
  #keepFocus(element) {
    if (!element.contains(document.activeElement)) return;
    const next = element.nextElementSibling ?? element.previousElementSibling;
    const to = next?.querySelector("button") ?? document.querySelector("#view .title");
    to?.focus();
  }

  #row() {
    const row = { item: null, parts: [], element: make("tr", { role: "row" }) };
    for (const c of this.#columns) {
      let part;
      if (c.button) part = make("button", { type: "button", class: "button small", onclick: () => c.run(row.item) });
      else part = c.href ? make("a") : make("span");
      row.parts.push(part);
      row.element.append(make("td", { role: "cell", "data-title": c.button ? "" : c.title, class: c.number ? "number" : "" }, part));
    }
    return row;
  }

  #fill({ item, parts }) {
    for (const [i, c] of this.#columns.entries()) {
      const part = parts[i];
      if (c.button) {
        const text = c.button(item);
        put(part, text);
        part.hidden = !text;
        part.setAttribute("aria-label", c.label(item));
        continue;
      }
      if (c.href) part.setAttribute("href", c.href(item));
      const text = c.text(item);
      part.parentElement.classList.toggle("none", !text);
      put(part, text || "–");
    }
  }
}

// Facts shows names and values.
export class Facts {
  #values = new Map();
  element = make("dl", { class: "facts" });

  update(entries) {
    for (const [name, value] of entries) {
      let e = this.#values.get(name);
      if (!e) {
        e = make("dd");
        this.#values.set(name, e);
        this.element.append(make("div", {}, make("dt", {}, name), e));
      }
      put(e, value || "–");
    }
  }
}
