// Plays a live session over WebRTC: the server keeps pace, rest and reserve; the browser evens out what the line does.

import { LiveSocket, push } from "./live_socket.js";

const HELD = 80, MOST_HELD = 500; // ms that sound is held at least; pictures as long as brings them in step with it
const GATHERING = 3000; // ms in which addresses are looked for, where servers for that are named

export class RtcPlayer extends LiveSocket {
  constructor(video, path, on) {
    super(`${path}/webrtc`, on);
    this.video = video;
    video.muted = false;
    this.stream = new MediaStream();
    this.every(500, () => this.measure());
    video.requestVideoFrameCallback?.((now) => { this.figures.firstFrame = (now - this.opened) / 1000; });
  }

  async line(line) {
    if (line.type === "hello") await this.offer(line.servers);
    else if (line.type === "answer") await this.peer.setRemoteDescription(line);
    else if (line.type === "hop") this.hop(line);
  }

  async offer(iceServers) {
    this.peer = new RTCPeerConnection({ iceServers });
    this.voice = this.peer.addTransceiver("audio", { direction: "sendrecv" }).sender;
    this.peer.addTransceiver("video", { direction: "recvonly" });
    this.peer.ontrack = ({ track, receiver }) => {
      receiver.jitterBufferTarget = HELD;
      if (track.kind === "video") this.pictures = receiver;
      this.stream.addTrack(track);
      this.video.srcObject = this.stream;
      this.video.play().catch(() => { this.video.muted = true; this.video.play().catch(() => {}); });
    };
    await this.peer.setLocalDescription();
    if (iceServers.length) await this.gathered();
    this.send({ type: "offer", sdp: this.peer.localDescription.sdp });
  }

  gathered() {
    return new Promise((done) => {
      setTimeout(done, GATHERING);
      this.peer.onicegatheringstatechange = () => { if (this.peer.iceGatheringState === "complete") done(); };
    });
  }

  hop(line) {
    this.last = line;
    this.figures.stalls = line.stalls;
    if (line.interrupted) this.answered();
    this.on.hop(line);
  }

  /** Asks the browser how far apart picture and sound are, and how long it holds them. */
  async measure() {
    if (this.peer?.connectionState !== "connected") return;
    const kinds = {};
    for (const item of (await this.peer.getStats()).values()) {
      if (item.type === "inbound-rtp") kinds[item.kind] = item;
      if (item.type === "candidate-pair" && item.nominated) kinds.trip = item.currentRoundTripTime;
    }
    const { audio, video, trip } = kinds, before = this.before;
    this.before = video;
    if (audio?.estimatedPlayoutTimestamp && video?.estimatedPlayoutTimestamp) {
      const early = video.estimatedPlayoutTimestamp - audio.estimatedPlayoutTimestamp; // ms; browsers let some pass
      push(this.figures.skew, early / 1000);
      this.pictures.jitterBufferTarget = Math.min(MOST_HELD, Math.max(HELD, this.pictures.jitterBufferTarget + 0.3 * early));
    }
    const shown = video && before ? video.jitterBufferEmittedCount - before.jitterBufferEmittedCount : 0;
    if (shown > 0 && this.last?.speaks) push(this.figures.latency, this.last.waiting + this.last.delay + (trip ?? 0) + (video.jitterBufferDelay - before.jitterBufferDelay) / shown);
  }

  /** Sends what a microphone hears; null: nothing more. */
  listen(stream) { return this.voice.replaceTrack(stream?.getAudioTracks()[0] ?? null); }

  say() {} // how much is said needs no count here

  release() {
    this.peer?.close();
    this.video.srcObject = null;
  }

  ended(reason) { super.ended(reason, this.figures.firstFrame !== null); }
}
