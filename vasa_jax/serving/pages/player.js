// Plays a live session: fragments from a WebSocket into Media Source Extensions, near the live edge.

import { LiveSocket, push } from "./live_socket.js";

const AHEAD = 0.08; // seconds of sound that the server takes before their hop
const START = 0.25; // of a hop: reserve before playing begins
const ENOUGH = 0.2, TOO_MUCH = 0.4; // seconds that are buffered when the next fragment comes
const KEPT = 10; // seconds of the past that stay in the buffer

export const Source = window.MediaSource ?? window.ManagedMediaSource; // iPhones have the second alone, old ones none

export class Player extends LiveSocket {
  constructor(video, rest, path, on) {
    super(path, on);
    this.video = video;
    this.rest = rest;
    this.hops = [];
    this.queue = [];
    this.sent = 0; // seconds of sound, all told
    this.log = [[0, null]]; // [sent, when]; null: a file
    this.lows = [];
    this.muted = false;
    this.quietSince = null;
    this.every(100, () => this.tend());
    video.onwaiting = () => { if (this.figures.firstFrame) this.figures.stalls += 1; };
    this.frameSeen = (now, frame) => this.seen(now, frame);
    video.requestVideoFrameCallback?.(this.frameSeen);
  }

  line(line) {
    if (line.type === "hello") this.begin(line);
    else if (line.type === "hop") { this.coming = line; this.on.hop(line); }
  }

  begin({ mime }) {
    if (!Source?.isTypeSupported(mime)) { this.ended(`this browser cannot play ${mime}; try Chrome, Edge, Firefox or Safari 17`); return; }
    this.source = new Source();
    this.url = URL.createObjectURL(this.source);
    this.video.src = this.url;
    this.source.onsourceopen = () => {
      this.buffer = this.source.addSourceBuffer(mime);
      this.buffer.onupdateend = () => this.appended();
      this.append();
    };
  }

  bytes(data) {
    this.queue.push([data, this.coming]);
    this.coming = null;
    this.append();
  }

  append() {
    if (!this.buffer || this.buffer.updating || !this.queue.length || this.source.readyState !== "open") return;
    const [data, hop] = this.queue.shift();
    this.appending = hop;
    if (hop && this.video.buffered.length) this.lows.push(this.ahead());
    this.buffer.appendBuffer(data);
  }

  appended() {
    const hop = this.appending;
    this.appending = null;
    if (hop) {
      if (hop.portraits !== this.portraits) { this.portraits = hop.portraits; this.hasRest = false; } // of another face
      this.hops.push(hop);
      if (this.hops.length > 200) this.hops.shift();
      if (!this.started) {
        this.started = true;
        this.video.currentTime = hop.start;
        setTimeout(() => this.video.play().catch(() => { this.video.muted = true; this.video.play(); }), 1000 * START * hop.seconds);
      } else if (hop.interrupted || this.skipped) this.jump(hop);
      this.skipped = hop.skipped; // the server was far behind: what comes next is shown at once
    }
    this.append();
  }

  ahead() {
    const { buffered, currentTime } = this.video;
    return buffered.length ? buffered.end(buffered.length - 1) - currentTime : 0;
  }

  /** Stays near the live edge, forgets the past, and keeps a picture of the closed mouth. */
  tend() {
    if (this.lows.length >= 5) {
      const low = Math.min(...this.lows);
      this.video.playbackRate = low > TOO_MUCH ? 1.08 : low > ENOUGH ? this.video.playbackRate : 1;
      this.lows = this.lows.slice(-4);
    }
    const past = this.video.currentTime - KEPT;
    if (this.buffer && !this.buffer.updating && !this.queue.length && this.video.buffered.length && this.video.buffered.start(0) < past - KEPT) this.buffer.remove(0, past);
    const now = this.hopAt(this.video.currentTime);
    if (now && !now.speaks && !this.muted) {
      this.quietSince ??= performance.now();
      const quiet = performance.now() - this.quietSince > 600; // a mouth needs a while to close; any rest is better than none
      if (this.video.readyState > 1 && (quiet || !this.hasRest)) { this.quietSince = performance.now(); this.keepRest(); }
    } else this.quietSince = null;
  }

  keepRest() {
    this.rest.width = this.video.videoWidth;
    this.rest.height = this.video.videoHeight;
    this.rest.getContext("2d").drawImage(this.video, 0, 0);
    this.hasRest = true;
  }

  hopAt(time) {
    return this.hops.findLast((hop) => time >= hop.start - 1e-3 && time < hop.start + hop.seconds - 1e-3);
  }

  /** Silence and a closed mouth at once; the stream goes on with the first hop after the interruption. */
  interrupt() {
    super.interrupt();
    this.muted = this.video.muted = true;
    if (this.hasRest) this.rest.classList.add("shown");
  }

  jump(hop) {
    this.video.currentTime = hop.start;
    this.lows = [];
    this.video.onseeked = () => {
      this.video.onseeked = null;
      this.rest.classList.remove("shown");
      this.answered();
      setTimeout(() => { this.muted = this.video.muted = false; }, 1000 * AHEAD); // what was said before is over
    };
  }

  /** Measures latency and skew of a frame when it is shown. */
  seen(now, frame) {
    this.figures.firstFrame ??= (now - this.opened) / 1000;
    const shown = frame.expectedDisplayTime, hop = this.hopAt(frame.mediaTime + 1e-3);
    if (!this.video.seeking && !this.video.paused) {
      const heard = this.video.currentTime + this.video.playbackRate * (shown - performance.now()) / 1000;
      push(this.figures.skew, frame.mediaTime - heard);
    }
    if (hop?.speaks) {
      const second = hop.heard - (hop.start + hop.seconds + AHEAD - frame.mediaTime);
      const entry = this.log.find(([sent]) => sent >= second);
      if (entry?.[1]) push(this.figures.latency, (shown - entry[1]) / 1000 + (entry[0] - second));
    }
    if (!this.over) this.video.requestVideoFrameCallback(this.frameSeen);
  }

  say(seconds) { this.sent += seconds; this.log.push([this.sent, null]); }

  hear(piece, rate) {
    if (this.rate !== rate) { this.rate = rate; this.send({ type: "microphone", rate }); }
    if (this.socket.readyState !== WebSocket.OPEN || this.socket.bufferedAmount > 2 * rate) return;
    this.socket.send(piece.buffer);
    this.sent += piece.length / rate;
    this.log.push([this.sent, performance.now()]);
    if (this.log.length > 3000) this.log.splice(0, 1000);
  }

  release() {
    this.video.pause();
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
