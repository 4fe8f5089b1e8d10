// Publishes the camera and the microphone by WHIP.

import { publishRTC } from "./rtc.js";

const wanted = {
  video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
  audio: true,
};

function element(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}

// cameraPanel fills the panel; name returns the input with the stream's name.
export function cameraPanel(panel, name) {
  const preview = element("video", { className: "preview", muted: true, playsInline: true, hidden: true });
  preview.setAttribute("aria-label", "Your camera");
  const token = element("input", { type: "password", id: "publish-secret", autocomplete: "off", spellcheck: false });
  const button = element("button", { type: "button", className: "copy", id: "publish-camera" }, "Publish the camera");
  const state = element("p", { id: "publish-state" });
  state.setAttribute("role", "status");
  panel.replaceChildren(
    element("p", {}, "Straight from this browser, by WebRTC. It asks whether the page may use the camera and the microphone."),
    preview,
    element("p", { className: "hint" }, element("label", { htmlFor: "publish-secret" }, "Publish token, if there is one"), token),
    button,
    state,
  );
  let running = null; // AbortController

  async function publish() {
    running = new AbortController();
    const { signal } = running;
    button.textContent = "Stop";
    let stream = null;
    try {
      if (!navigator.mediaDevices) throw new Error("browsers give the camera to pages over HTTPS and on localhost only");
      state.textContent = "Waiting for the camera…";
      stream = await navigator.mediaDevices.getUserMedia(wanted);
      signal.throwIfAborted();
      for (const track of stream.getTracks()) track.addEventListener("ended", () => running?.abort());
      preview.srcObject = stream;
      preview.hidden = false;
      preview.play().catch(() => {});
      const path = name().value.trim().split("/").map(encodeURIComponent).join("/");
      state.textContent = "Connecting…";
      await publishRTC(stream, { whip: new URL(`/whip/live/${path}`, location.href).href, token: token.value.trim() }, signal, () => {
        state.textContent = `Published as live/${decodeURIComponent(path)}`;
      });
    } catch (error) {
      if (signal.aborted) state.textContent = "Stopped";
      else state.textContent = `Not published: ${refusal(error)}`;
    } finally {
      for (const track of stream?.getTracks() ?? []) track.stop();
      preview.srcObject = null;
      preview.hidden = true;
      button.textContent = "Publish the camera";
      running = null;
    }
  }

  button.addEventListener("click", () => {
    if (running) running.abort();
    else if (name().reportValidity()) publish();
  });
  addEventListener("pagehide", () => running?.abort());
}

function refusal(error) {
  switch (error.status) {
    case 401:
    case 403:
      return "the server does not allow it; it may want a token";
    case 404:
      return "the server takes no WebRTC";
    case 409:
      return "somebody else publishes under this name";
  }
  if (error.name === "NotAllowedError") return "the camera was not allowed";
  if (error.name === "NotFoundError") return "there is no camera";
  return error.message;
}
