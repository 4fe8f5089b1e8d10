// LivePlayer plays a live stream: by WebRTC where that can be had, else as
// fragmented MP4, with which it keeps close to the live edge, steps over gaps,
// follows changes of codec and comes back when the stream does. A browser without
// Media Source Extensions that knows HLS plays that by itself.

import { hasSource, Sink, UnsupportedError } from "./mse.js";
import { Clock, TransportError } from "./request.js";
import { hasRTC, playRTC } from "./rtc.js";
import { transports } from "./transport.js";

const firstTarget = 0.5; // seconds between what is shown and what has come
const maxTarget = 3;
const jumpBehind = 3; // further behind the target than this: jump, don't hurry
const keepPlayed = 20; // seconds of what was shown that stay in memory, at most
const silence = 30_000; // milliseconds without a byte after which to connect anew; key frames may be 20 s apart
const retryDelays = [500, 1000, 2000, 3000, 5000];
const withSource = Object.keys(transports).filter((t) => transports[t].open);
const nothing = { missing: "", hasAudio: false, hasVideo: false };

// A LivePlayer is in one of these states, told by a "state" event:
//
//   idle         nothing to play
//   connecting   asked for the stream, nothing shown yet
//   playing      (also while it stalls: see stats.stalled)
//   blocked      the browser wants a click first: call resume
//   paused       by the user; nothing is received
//   waiting      the stream is gone or can't be had: tries again by itself
//   unsupported  the browser can't play it: tries again when told to
//
// A "media" event tells that what is played has changed.
export class LivePlayer extends EventTarget {
  #video;
  #sink;
  #url = null;
  #how = {}; // as load has it
  #noRTC = false; // WebRTC was tried, and is not to be had for this stream
  #run = null; // AbortController of the current load
  #attempt = null; // AbortController of the current connection
  #wake = () => {}; // ends the wait before the next attempt
  #timer = 0;

  #state = "idle";
  #message = "";
  #media = nothing;
  #wanted = "auto";
  #transport = "http";

  #starting = null; // time at which the first data of a timeline came, or null
  #startedAt = 0;
  #ends = new Map(); // kind of track → where its last fragment ended
  #clearedAt = 0;
  #target = firstTarget;
  #lag = 0; // smoothed latency
  #calmSince = 0;
  #stalledAt = 0;

  #clock = new Clock(); // the server's
  #epoch = NaN; // its time, in milliseconds, at which what is shown at 0 was captured
  #dataAt = 0;
  #bytes = 0;
  #stalls = 0;
  #jumps = 0;
  #failures = 0;

  constructor(video) {
    super();
    this.#video = video;
    this.#sink = new Sink(video);
    this.#sink.onupdate = () => this.#control();
    this.#sink.onerror = (error) => this.#attempt?.abort(error);
    video.addEventListener("waiting", () => this.#onwaiting());
    video.addEventListener("playing", () => (this.#stalledAt = 0));
    video.addEventListener("error", () => this.#onerror());
    // Keyboards, headsets and the picture-in-picture window pause and play too.
    video.addEventListener("pause", () => {
      if (this.#state === "playing" && !document.hidden && !video.error && (video.hasAttribute("src") || video.srcObject)) this.pause();
    });
    video.addEventListener("play", () => {
      if (this.#state === "paused") this.resume();
    });
    addEventListener("pagehide", () => this.#end());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#url && this.#state !== "paused" && this.#start());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#state === "playing") this.#play();
    });
  }

  get state() {
    return this.#state;
  }

  // message says in a sentence why the player is in its state, "" if that
  // needs no words.
  get message() {
    return this.#message;
  }

  // media says what is played: hasAudio, hasVideo, and in missing what the
  // browser can't play of the stream.
  get media() {
    return this.#media;
  }

  // protocol is "auto", or the key of the transport to use.
  get protocol() {
    return this.#wanted;
  }
  set protocol(name) {
    this.#wanted = name;
    if (this.#attempt) this.#attempt.abort(new Restart());
  }

  // stats are the figures of now: latency and target in seconds, measure saying
  // of what, live being from capture to the screen, or NaN where that can't be
  // known; received bytes, counts of stalls and jumps, the transport in use.
  get stats() {
    const quality = this.#video.getVideoPlaybackQuality?.();
    return {
      latency: this.#state === "playing" ? this.#lag : NaN,
      measure: this.#transport === "webrtc" ? "on the way and in the browser" : "behind what was received",
      live: this.#state === "playing" ? (this.#clock.now() - this.#epoch) / 1000 - this.#video.currentTime : NaN,
      target: this.#target,
      rate: this.#video.playbackRate,
      bytes: this.#bytes,
      stalls: this.#stalls,
      stalled: this.#stalledAt > 0 && performance.now() - this.#stalledAt > 400,
      jumps: this.#jumps,
      frames: quality?.totalVideoFrames ?? 0,
      dropped: quality?.droppedVideoFrames ?? 0,
      transport: hasSource || this.#transport === "webrtc" ? transports[this.#transport].label : "HLS by the browser",
    };
  }

  // load plays the stream at a URL without extension, in place of what is played
  // now. whep is where it is played by WebRTC, token what the server wants of
  // players; with audio WebRTC is taken by itself only if it brings sound.
  load(url, { whep = "", token = "", audio = false } = {}) {
    this.stop();
    this.#url = url;
    this.#how = { whep, token, audio };
    this.#noRTC = false;
    this.#target = firstTarget;
    this.#stalls = this.#jumps = 0;
    this.#start();
  }

  // stop ends playing and frees everything.
  stop() {
    this.#end();
    this.#sink.close();
    this.#video.srcObject = null;
    this.#url = null;
    this.#tell(nothing);
    this.#set("idle");
  }

  // pause stops receiving and keeps the picture.
  pause() {
    if (!this.#run) return;
    this.#end();
    this.#set("paused");
    this.#video.pause();
  }

  // resume plays on, from the live edge.
  resume() {
    if (this.#state === "blocked") this.#play();
    else if (this.#state === "paused") this.#start();
    else this.retry();
  }

  // retry ends the wait before the next attempt.
  retry() {
    this.#wake();
  }

  // goLive jumps to the live edge.
  goLive() {
    const { buffered } = this.#video;
    if (buffered.length) this.#seek(buffered.end(buffered.length - 1) - this.#target);
  }

  #start() {
    this.#run = new AbortController();
    this.#failures = 0;
    this.#transport = this.#first();
    this.#timer = setInterval(() => this.#tick(), 200);
    this.#loop(this.#run.signal);
  }

  // #first is the transport to begin with.
  #first() {
    if (this.#wanted !== "auto") return this.#wanted;
    return hasRTC && this.#how.whep && !this.#noRTC ? "webrtc" : "http";
  }

  #end() {
    this.#run?.abort();
    this.#run = this.#attempt = null;
    clearInterval(this.#timer);
  }

  #set(state, message = "") {
    if (state === this.#state && message === this.#message) return;
    this.#state = state;
    this.#message = message;
    this.dispatchEvent(new Event("state"));
  }

  #tell(media) {
    this.#media = media;
    this.dispatchEvent(new Event("media"));
  }

  // #loop connects again and again until run is aborted.
  async #loop(run) {
    while (!run.aborted) {
      if (this.#state !== "waiting") this.#set("connecting");
      const attempt = new AbortController();
      const abort = () => attempt.abort();
      run.addEventListener("abort", abort);
      this.#attempt = attempt;
      const began = performance.now();
      const before = this.#bytes;
      let problem;
      try {
        await this.#receive(attempt.signal);
        problem = new TransportError("The stream has ended");
      } catch (error) {
        problem = error;
      }
      run.removeEventListener("abort", abort);
      if (run.aborted) return;
      attempt.abort();
      this.#attempt = null;
      if (performance.now() - began > 5000 && this.#bytes > before) this.#failures = 0;
      await this.#recover(problem, this.#bytes > before, run);
    }
  }

  // #recover waits as a problem demands; got says that there were bytes
  // before it.
  async #recover(problem, got, run) {
    if (problem instanceof Restart) {
      this.#failures = 0;
      this.#transport = this.#first();
      return;
    }
    const auto = this.#wanted === "auto";
    if (auto && this.#transport === "webrtc" && !got) {
      // The next transport tells whether the stream is there.
      if (problem.status !== 404) this.#noRTC = true;
      this.#transport = "http";
      return;
    }
    if (got && this.#transport !== "webrtc") this.#noRTC = true;
    if (problem instanceof UnsupportedError) {
      this.#sink.close();
      this.#tell(nothing);
      this.#set("unsupported", problem.message);
      await this.#wait(Infinity, run);
      return;
    }
    const known = problem instanceof TransportError;
    if (!known) this.#sink.close(); // the browser's part is in an unknown condition
    if (auto && known && !problem.status && !got && (this.#failures > 0 || problem instanceof Silence)) {
      this.#transport = withSource[(withSource.indexOf(this.#transport) + 1) % withSource.length];
    } else if (auto && problem.status === 404) {
      this.#transport = this.#first(); // it may come back as something else
    }
    let delay = retryDelays[Math.min(this.#failures, retryDelays.length - 1)];
    if (problem.status === 401 || problem.status === 403) delay = 15_000;
    this.#failures++;
    this.#set("waiting", problem.message);
    await this.#wait(delay * (0.8 + 0.4 * Math.random()), run);
  }

  async #wait(delay, run) {
    let timer;
    const done = new AbortController();
    await new Promise((resolve) => {
      this.#wake = resolve;
      if (Number.isFinite(delay)) timer = setTimeout(resolve, delay);
      run.addEventListener("abort", resolve, { signal: done.signal });
    });
    done.abort();
    clearTimeout(timer);
    this.#wake = () => {};
  }

  // #receive plays what one connection brings, to its end.
  async #receive(signal) {
    this.#epoch = NaN;
    if (this.#transport === "webrtc") return this.#receiveRTC(signal);
    this.#video.srcObject = null;
    if (!hasSource) return this.#leave(signal);
    let fresh = true;
    this.#dataAt = performance.now();
    for await (const { bytes, segments } of transports[this.#transport].open(this.#url, this.#query(), signal, this.#clock)) {
      this.#dataAt = performance.now();
      this.#bytes += bytes;
      for (const segment of segments) {
        if (segment.tracks) {
          const media = await this.#sink.configure(segment.tracks, fresh, signal);
          if (media.restarted) this.#begin();
          fresh = false;
          this.#tell(media);
        } else {
          for (const fragment of segment.fragments) this.#append(fragment);
        }
      }
      await this.#sink.room(signal);
      this.#dataAt = performance.now(); // waiting for room is not silence
    }
  }

  #query() {
    return this.#how.token ? `?token=${encodeURIComponent(this.#how.token)}` : "";
  }

  // #receiveRTC leaves everything but the connection to the browser.
  async #receiveRTC(signal) {
    if (!hasRTC || !this.#how.whep) throw new UnsupportedError("WebRTC is not to be had here");
    this.#sink.close();
    const audio = this.#how.audio && this.#wanted === "auto";
    const started = (media) => {
      this.#lag = NaN;
      this.#startedAt = performance.now();
      this.#tell({ missing: "", ...media });
      this.#play();
    };
    const update = (bytes, lag) => {
      this.#bytes += bytes;
      this.#lag = lag;
      this.#dataAt = performance.now();
    };
    this.#dataAt = performance.now();
    await playRTC(this.#video, { ...this.#how, audio }, signal, started, update);
  }

  // #leave has the browser play HLS, until it fails or the stream ends.
  async #leave(signal) {
    const video = this.#video;
    if (!video.canPlayType("application/vnd.apple.mpegurl")) throw new UnsupportedError("This browser can play neither Media Source Extensions nor HLS");
    const done = new AbortController();
    const over = new Promise((resolve) => {
      for (const event of ["error", "ended"]) video.addEventListener(event, resolve, { signal: done.signal });
      signal.addEventListener("abort", resolve, { signal: done.signal });
    });
    const update = () => {
      const start = video.getStartDate?.().getTime(); // Safari's
      if (Number.isFinite(start)) this.#epoch = start;
      this.#dataAt = performance.now();
    };
    video.addEventListener("timeupdate", update, { signal: done.signal });
    video.addEventListener("loadedmetadata", () => this.#tell({ missing: "", hasAudio: true, hasVideo: video.videoWidth > 0 }), { signal: done.signal });
    update();
    video.src = `${this.#url}.m3u8${this.#query()}`;
    this.#play();
    await over;
    done.abort();
    signal.throwIfAborted();
    if (video.error) throw new TransportError(`The browser could not play the stream (${video.error.message || `error ${video.error.code}`})`);
  }

  #begin() {
    this.#starting = 0;
    this.#ends.clear();
    this.#clearedAt = performance.now();
  }

  #append(fragment) {
    const { kind } = fragment.track;
    if (fragment.start < this.#ends.get(kind) - 1 && performance.now() - this.#clearedAt > 1000) {
      // Time went back: what was appended would be played after what comes now.
      this.#sink.clear();
      this.#begin();
    }
    this.#ends.set(kind, fragment.end);
    if (fragment.time > 0 && (kind === "video" || !this.#ends.has("video"))) this.#epoch = fragment.time - fragment.shown * 1000;
    this.#sink.append(fragment);
  }

  #tick() {
    if (this.#attempt && performance.now() - this.#dataAt > silence) {
      this.#attempt.abort(new Silence("Nothing has come from the server for a while"));
    }
    this.#control();
  }

  // #control steers the playhead by what is buffered.
  #control() {
    const video = this.#video;
    const { buffered } = video;
    if (!this.#run || !hasSource || !buffered.length || this.#sink.clearing || video.error) return;
    const now = performance.now();
    const last = buffered.length - 1;
    const end = buffered.end(last);

    if (this.#starting !== null) {
      // A moment's wait: joining sends all since the last key frame at once,
      // and a start on the first frame alone would stall on the second.
      this.#starting ||= now;
      const start = buffered.start(last);
      if (end - start < this.#target && now - this.#starting < 700) return;
      this.#starting = null;
      this.#startedAt = now;
      this.#lag = Math.min(end - start, this.#target);
      this.#seek(Math.max(start, end - this.#target));
      this.#play();
      return;
    }
    if (video.seeking) return;

    const at = video.currentTime;
    let inside = false;
    let next = NaN;
    for (let i = 0; i <= last; i++) {
      if (at >= buffered.start(i) && at < buffered.end(i) - 0.02) inside = true;
      else if (buffered.start(i) > at && Number.isNaN(next)) next = buffered.start(i);
    }
    if (!inside && next > at) {
      // A gap under the playhead that nothing will fill.
      this.#jumps++;
      this.#seek(Math.max(next, end - this.#target) + 0.001);
      return;
    }

    const latency = Math.max(0, end - at);
    this.#lag += (latency - this.#lag) * 0.1;
    // What a joiner gets at once may take a moment to be read.
    const settling = now - this.#startedAt < 3000;
    if (latency > this.#target + (settling ? 1 : jumpBehind)) {
      this.#jumps++;
      this.#lag = this.#target;
      this.#seek(Math.max(buffered.start(last), end - this.#target));
      return;
    }
    this.#setRate(latency);
    if (now - this.#calmSince > 60_000 && this.#target > firstTarget) {
      this.#calmSince = now;
      this.#target = Math.max(firstTarget, this.#target - 0.2);
    }
    if (at - buffered.start(0) > keepPlayed) this.#sink.trim(at - keepPlayed / 2);
  }

  // #setRate plays a little faster when behind and slower when about to run
  // dry; it changes its mind late, for every change can be heard.
  #setRate(latency) {
    const behind = this.#lag - this.#target;
    const rate = this.#video.playbackRate;
    let wish = rate;
    if (behind > 1) wish = 1.1;
    else if (behind > 0.25 && rate <= 1) wish = 1.04;
    else if (rate > 1 && behind < 0.05) wish = 1;
    else if (latency < 0.1 && behind < -0.2) wish = 0.9;
    else if (rate < 1 && behind > -0.1) wish = 1;
    if (wish !== rate) this.#video.playbackRate = wish;
  }

  #seek(time) {
    this.#video.playbackRate = 1;
    this.#video.currentTime = time;
  }

  async #play() {
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name === "NotAllowedError" && this.#run) this.#set("blocked", "Your browser waits for a click before it plays");
      return; // else a newer load took its place
    }
    if (!this.#run) return;
    this.#calmSince = performance.now();
    this.#set("playing");
  }

  #onwaiting() {
    const now = performance.now();
    if (this.#state !== "playing" || this.#video.seeking || now - this.#startedAt < 1000 || !this.#attempt) return;
    this.#stalls++;
    this.#stalledAt = now;
    this.#calmSince = now;
    this.#target = Math.min(maxTarget, this.#target + 0.25);
  }

  #onerror() {
    const { error } = this.#video;
    if (!error || !this.#attempt) return;
    this.#attempt.abort(new Error(`The browser could not decode the stream (${error.message || `error ${error.code}`})`));
  }
}

// Silence says that a connection brings nothing: something on the way may hold it
// back.
class Silence extends TransportError {}

// Restart ends a connection for another with other settings.
class Restart extends Error {}
