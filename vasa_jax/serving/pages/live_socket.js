// A live session's socket, as every player of it needs it: its lines, what was measured, and its end.

export class LiveSocket {
  /** hop, end: called with the server's lines; end also with whether anything was seen. A player defines `line(line)`
   * and `bytes(data)` for what comes, and `release()`, which frees what it plays with. */
  constructor(path, { hop, end }) {
    this.on = { hop, end };
    this.opened = performance.now();
    this.figures = { firstFrame: null, latency: [], skew: [], stalls: 0, interrupt: null };
    this.socket = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")));
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.message(data).catch((error) => this.ended(error.message));
    this.socket.onclose = (event) => this.ended(event.reason || "the connection has ended");
  }

  async message(data) {
    if (typeof data !== "string") { this.bytes(data); return; }
    const line = JSON.parse(data);
    if (line.type === "end") this.ended(line.reason);
    else await this.line(line);
  }

  every(milliseconds, action) { this.timer = setInterval(action, milliseconds); }

  /** Tells the server of medians, and returns them. */
  report() {
    const { latency, skew, ...rest } = this.figures, word = { latency: median(latency), skew: median(skew) };
    if (word.skew !== null) this.send({ type: "report", ...word });
    return { ...rest, ...word };
  }

  interrupt() {
    this.send({ type: "interrupt" });
    this.pressed = performance.now();
  }

  /** Measures how long ago the interruption was, once its answer is there. */
  answered() {
    if (this.pressed) this.figures.interrupt = (performance.now() - this.pressed) / 1000;
    this.pressed = null;
  }

  send(word) { if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(word)); }

  ended(reason, seen = true) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    this.socket.close();
    this.release();
    this.on.end(reason, seen);
  }
}

export function push(list, value) {
  list.push(value);
  if (list.length > 100) list.shift();
}

function median(list) {
  return list.length ? [...list].sort((a, b) => a - b)[list.length >> 1] : null;
}
