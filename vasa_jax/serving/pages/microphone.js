// Runs beside the sound hardware: hands on what the microphone hears, 16 bit, in pieces of about 20 ms.

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(Math.round(sampleRate / 50));
    this.filled = 0;
  }

  process([input]) {
    for (const value of input[0] ?? []) {
      this.piece[this.filled++] = Math.max(-1, Math.min(1, value)) * 32767;
      if (this.filled === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("microphone", Microphone);
