// Calls the server's API with the token of this tab.

// The API and the streams lie beside the console, whatever path it is served under.
export const root = new URL("..", document.baseURI.split(/[?#]/)[0]);

const key = "runnel-console-token";
const ranks = { viewer: 1, operator: 2, admin: 3 };

// CallError is a refusal of the server's, or, with status 0, no answer.
export class CallError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

// onrefused is told when the server does not take the token any more.
let onrefused = () => {};
export function whenRefused(f) {
  onrefused = f;
}

export const token = {
  get: () => sessionStorage.getItem(key) ?? "",
  set: (value) => sessionStorage.setItem(key, value),
  clear: () => sessionStorage.removeItem(key),
};

// me is who the server takes us for.
export let me = null;
export const may = (role) => (ranks[me?.role] ?? 0) >= ranks[role];

export async function identify() {
  me = null;
  me = await call("GET", "me", { quiet: true });
}

// presume takes us for an admin, where the server does not tell.
export function presume() {
  me = { user: "", role: "admin" };
}

// pathOf is a name with its slashes as a part of a path.
export const pathOf = (name) => String(name).split("/").map(encodeURIComponent).join("/");

// call asks for something below /api/v2/ and returns what it says, null if that
// is nothing.
export async function call(method, path, { body, quiet = false, signal } = {}) {
  const response = await send(method, path, { body, quiet, signal: signal ?? AbortSignal.timeout(15_000) });
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch {
    throw new CallError("The server's answer was cut off");
  }
}

async function send(method, path, { body, quiet, signal }) {
  const headers = { Accept: "application/json" };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(`api/v2/${path}`, root), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("The server is out of reach");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const error = new CallError(problem.detail || `The server answered with status ${response.status}`, response.status);
  if (response.status === 401 && !quiet) onrefused();
  throw error;
}

// follow yields the server's events as {kind, info} until the connection ends.
export async function* follow(signal) {
  const response = await send("GET", "events", { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const event = { kind: "", info: null };
      for (const line of text.slice(0, end).split("\n")) {
        if (line.startsWith("event: ")) event.kind = line.slice(7);
        else if (line.startsWith("data: ")) event.info = JSON.parse(line.slice(6));
      }
      if (event.kind) yield event;
    }
  }
}
