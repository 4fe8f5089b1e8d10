// Figures as people read them.

export function rate(bits) {
  if (!Number.isFinite(bits)) return "";
  if (bits >= 999_500_000) return `${(bits / 1e9).toFixed(2)} Gbit/s`;
  if (bits >= 999_500) return `${(bits / 1e6).toFixed(2)} Mbit/s`;
  return `${Math.round(bits / 1000)} kbit/s`;
}

export function size(bytes) {
  if (!Number.isFinite(bytes)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (bytes >= 999.5 && i < units.length - 1) {
    bytes /= 1000;
    i++;
  }
  return `${i && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[i]}`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  const s = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  const days = Math.floor(s / 86400);
  const hours = Math.floor((s % 86400) / 3600);
  const clock = `${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
  if (days) return `${days} d ${two(hours)}:${clock}`;
  return hours ? `${hours}:${clock}` : clock.replace(/^0(?=\d:)/, "");
}

// since is how long ago a time of the server's is.
export const since = (time) => duration(Math.max(0, (Date.now() - Date.parse(time)) / 1000));

export const milliseconds = (seconds) => (Number.isFinite(seconds) ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : "");

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clocks = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const show = (format, time) => (Number.isFinite(Date.parse(time)) ? format.format(Date.parse(time)) : "");
export const date = (time) => show(dates, time);
export const clock = (time) => show(clocks, time);

const codecs = { h264: "H.264", h265: "H.265", av1: "AV1", vp8: "VP8", vp9: "VP9", aac: "AAC", mp3: "MP3", opus: "Opus", pcma: "G.711 A", pcmu: "G.711 µ", ac3: "AC-3" };
export const codec = (name) => codecs[name] ?? name;

// tracks are a stream's or a recording's in few words.
export function tracks(list) {
  const media = (list ?? []).filter((t) => t.kind !== "data");
  const picture = media.find((t) => t.width);
  return [picture ? `${picture.width}×${picture.height}` : "", media.map((t) => codec(t.codec)).join(" + ")].filter(Boolean).join(" · ");
}

// words are a name of the API's as words.
export const words = (name) => {
  const text = String(name).replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
};
