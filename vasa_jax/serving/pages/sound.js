// A sound from a file, the microphone, text or the package.

import { capture } from "./devices.js";
import { takesDrops } from "./drop.js";
import { ask, make } from "./server.js";

export class SoundInput {
  constructor(place, about, where) {
    this.file = null; // [blob, name]
    const field = make("input", { type: "file", accept: "audio/*,video/*", onchange: () => field.files[0] && this.take(field.files[0], field.files[0].name) });
    field.setAttribute("aria-label", "sound file");
    this.record = make("button", { type: "button", onclick: () => this.tried(() => this.fromMicrophone()) }, "Record");
    this.record.setAttribute("aria-pressed", "false");
    const example = make("button", { type: "button", onclick: () => this.tried(() => this.fromPackage()) }, "Shipped sentence");
    this.note = make("p", { className: "hint" }, where === "perform" ? "Nothing chosen: the driving video's." : "Speech: a sound file, or a video with sound. Nothing chosen: the shipped sentence.");
    this.note.setAttribute("role", "status");
    this.player = make("audio", { controls: true, hidden: true });
    place.append(field, make("p", { className: "buttons" }, this.record, example));
    if (about.voices.length) {
      const voice = voiceChoice(about);
      const text = make("input", { type: "text", maxLength: 2000, placeholder: "or a text" });
      text.setAttribute("aria-label", "text to speak");
      const say = make("button", { type: "button", onclick: () => this.tried(() => this.fromText(text.value, voice.value)) }, "Speak it");
      place.append(make("p", { className: "buttons" }, text, voice, say));
    }
    place.append(this.player, this.note);
    takesDrops(place, (file, name) => this.take(file, name));
  }

  async fields() {
    if (!this.file) await this.fromPackage();
    return { sound: this.file };
  }

  async tried(action) {
    try { await action(); } catch (error) { this.note.textContent = error.message; this.note.className = "fault"; }
  }

  async fromPackage() { this.take(await (await ask("v1/examples/sound")).blob(), "speech.wav"); }

  async fromText(text, voice) { this.take(await spoken(text, voice), "text.wav"); }

  async fromMicrophone() {
    if (this.recorder) { this.recorder.stop(); return; }
    const stream = await capture("microphone", { audio: true }, "choose a file"), parts = [];
    this.recorder = new MediaRecorder(stream);
    this.recorder.ondataavailable = (event) => parts.push(event.data);
    this.recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      this.record.textContent = "Record";
      this.record.setAttribute("aria-pressed", "false");
      this.take(new Blob(parts, { type: this.recorder.mimeType }), "microphone.webm");
      this.recorder = null;
    };
    this.recorder.start();
    this.record.textContent = "Stop";
    this.record.setAttribute("aria-pressed", "true");
  }

  take(blob, name) {
    this.file = [blob, name];
    this.player.src = URL.createObjectURL(blob);
    this.player.hidden = false;
    this.note.textContent = name;
    this.note.className = "hint";
  }
}

/** Returns a choice of the server's voices. */
export function voiceChoice(about) {
  const choice = make("select", {}, ...about.voices.map((name) => make("option", {}, name)));
  choice.setAttribute("aria-label", "voice");
  return choice;
}

/** Returns the sound of a text, as the server speaks it. */
export async function spoken(text, voice) {
  if (!text.trim()) throw new Error("the text is empty; write what is to be said");
  return (await ask("v1/speech", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ text, voice }) })).blob();
}
