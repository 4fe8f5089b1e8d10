// How to watch a stream in other players and how to publish one: addresses and
// commands to copy.

// addressRows returns the addresses of a stream: path is its name as part of
// a URL, publishBase the RTMP address to publish to, with NAME in it, "" if the
// server has no RTMP.
export function addressRows(name, path, publishBase) {
  const http = location.origin;
  const ws = http.replace(/^http/, "ws");
  const [rtmp] = publishBase.match(/^rtmps?:\/\/[^/]+/) ?? [];
  return [
    ...(rtmp ? [row("RTMP", `${rtmp}/${path}`)] : []),
    row("HTTP-FLV", `${http}/${path}.flv`),
    row("WebSocket-FLV", `${ws}/${path}.flv`),
    row("HLS", `${http}/${path}.m3u8`),
    row("DASH", `${http}/${path}.mpd`),
    row("MPEG-TS", `${http}/${path}.ts`),
    row("Fragmented MP4", `${http}/${path}.mp4`),
  ];
}

// publishPanels fills the panels that tell how to publish.
export function publishPanels(name, publishBase) {
  const url = publishBase.replace("NAME", () => name);
  const slash = url.lastIndexOf("/");
  const encode = [
    "-c:v libx264 -preset veryfast \\",
    "-tune zerolatency -pix_fmt yuv420p -g 60 \\",
    "-c:a aac -b:a 128k -f flv \\",
    `"${url}"`,
  ];
  const ffmpeg = (caption, ...input) => command(caption, [...input, ...encode].join("\n  "));
  document.getElementById("panel-test").replaceChildren(
    ffmpeg(
      "A moving test picture with a tone, by ffmpeg",
      "ffmpeg -re \\",
      "-f lavfi -i testsrc2=size=1280x720:rate=30 \\",
      "-f lavfi -i sine=frequency=440 \\",
    ),
  );
  document.getElementById("panel-file").replaceChildren(
    ffmpeg("Any file that ffmpeg reads, again and again", "ffmpeg -re -stream_loop -1 -i video.mp4 \\"),
  );
  const fields = document.createElement("div");
  fields.className = "fields";
  fields.append(row("Server", url.slice(0, slash)), row("Stream key", url.slice(slash + 1)));
  document.getElementById("panel-obs").replaceChildren(
    paragraph("In Settings → Stream choose the service “Custom…”. A keyframe interval of 1 or 2 s (Settings → Output) lets viewers join quickly."),
    fields,
  );
}

let rows = 0;

function row(label, value) {
  const div = document.createElement("div");
  div.className = "row";
  const input = document.createElement("input");
  input.id = `row-${++rows}`;
  input.readOnly = true;
  input.value = value;
  input.addEventListener("focus", () => input.select());
  const caption = document.createElement("label");
  caption.htmlFor = input.id;
  caption.textContent = label;
  div.append(caption, input, copyButton(value, `Copy the ${label} value`));
  return div;
}

function command(caption, text) {
  const div = document.createElement("div");
  div.className = "command";
  const head = document.createElement("div");
  head.className = "command-head";
  head.append(paragraph(caption), copyButton(text, "Copy the command"));
  const pre = document.createElement("pre");
  const code = document.createElement("code");
  code.textContent = text;
  pre.append(code);
  div.append(head, pre);
  return div;
}

function paragraph(text) {
  const p = document.createElement("p");
  p.textContent = text;
  return p;
}

function copyButton(text, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.setAttribute("aria-label", label);
  const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  icon.setAttribute("aria-hidden", "true");
  icon.append(use);
  const caption = document.createElement("span");
  button.append(icon, caption);
  const show = (done) => {
    use.setAttribute("href", done ? "#i-done" : "#i-copy");
    caption.textContent = done ? "Copied" : "Copy";
    button.toggleAttribute("data-done", done);
  };
  show(false);
  button.addEventListener("click", async () => {
    if (!(await copy(text))) return;
    show(true);
    document.getElementById("status").textContent = "Copied";
    setTimeout(() => show(false), 1500);
  });
  return button;
}

// copy puts text on the clipboard; the new way is there only over TLS and on
// localhost.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

// Tabs: arrows move between them, as the ARIA practices have it.
const tabs = [...document.querySelectorAll('[role="tab"]')];
function select(tab) {
  for (const t of tabs) {
    const on = t === tab;
    t.setAttribute("aria-selected", on);
    t.tabIndex = on ? 0 : -1;
    document.getElementById(t.getAttribute("aria-controls")).hidden = !on;
  }
}

// showTabs hides the tabs that are not true by their names.
export function showTabs(shown) {
  for (const t of tabs) t.hidden = !shown[t.id.replace("tab-", "")];
  if (tabs.find((t) => t.getAttribute("aria-selected") === "true").hidden) select(tabs.find((t) => !t.hidden) ?? tabs[0]);
}

for (const tab of tabs) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!step) return;
    const there = tabs.filter((t) => !t.hidden);
    const next = there[(there.indexOf(tab) + step + there.length) % there.length];
    select(next);
    next.focus();
  });
}
