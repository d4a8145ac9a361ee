// The form of a video: frame rate, shape, background, file, subtitles, loop.

import { row } from "./controls.js";
import { make } from "./server.js";

const RATES = [24, 25, 30, 50, 60];
const SHAPES = [["", "as it is made"], ["square", "square"], ["portrait", "portrait, 9:16"], ["landscape", "landscape, 16:9"]];
const BACKDROPS = [["", "its own"], ["blur", "blurred"], ["green", "green"], ["transparent", "transparent"], ["colour", "a colour ..."], ["picture", "a picture ..."]];
const FORMATS = [["mp4", "MP4, H.264"], ["webm", "WebM, VP9"], ["mov", "MOV, H.264"], ["zip", "ZIP of PNG pictures"]];
const CLEAR_FORMATS = [["webm", "WebM, VP9 with a matte"], ["mov", "MOV, ProRes 4444"], ["zip", "ZIP of PNG pictures"]];

export class FormInput {
  constructor(place, about, { loops }) {
    const help = Object.fromEntries(about.form.map((item) => [item.name, item]));
    this.fps = choice(RATES.map((rate) => [rate, rate]), 25);
    this.shape = choice(SHAPES);
    this.backdrop = choice(BACKDROPS);
    this.format = choice(FORMATS);
    this.colour = make("input", { type: "color", value: "#3060a0", hidden: true });
    this.colour.setAttribute("aria-label", "colour behind the head");
    this.picture = make("input", { type: "file", accept: "image/*,.heic", hidden: true });
    this.picture.setAttribute("aria-label", "picture behind the head");
    this.paste = make("input", { type: "checkbox" });
    this.text = make("textarea", { rows: 2, maxLength: 20000, placeholder: "what is said, spread over the speech" });
    this.file = make("input", { type: "file", accept: ".srt,.vtt,.txt,text/plain" });
    this.backdrop.onchange = () => this.update();
    this.paste.onchange = () => this.update();
    place.append(
      row("fps", help.fps.help, "frames a second", [this.fps]),
      row("shape", "of the frame", "", [this.shape]),
      row("paste", "the whole photograph, in which the head moves; its background stays", "", [this.paste], "whole picture"),
      row("backdrop", "behind the head", "", [this.backdrop, this.colour, this.picture]),
      row("format", "of the file", "", [this.format]),
      row("subtitles", "a track that players can show: .srt or .vtt, or a text", "", [this.file, this.text]),
    );
    if (loops) {
      this.idle = make("input", { type: "number", min: 0, max: help.idle.high, step: "any", placeholder: "0" });
      place.append(row("idle", help.idle.help, "seconds", [this.idle], "silent loop"));
    }
    this.update();
  }

  update() {
    const kind = this.backdrop.value, clear = kind === "transparent", before = this.format.value;
    this.colour.hidden = kind !== "colour";
    this.picture.hidden = kind !== "picture";
    this.format.replaceChildren(...options(clear ? CLEAR_FORMATS : FORMATS));
    if ([...this.format.options].some((option) => option.value === before) && !(clear && before === "mp4")) this.format.value = before;
    if (this.paste.checked) this.backdrop.value = "";
    this.backdrop.disabled = this.paste.checked;
    if (this.paste.checked && kind) this.update();
  }

  /** Whether a loop is asked for, which has no sound. */
  get loops() { return Boolean(this.idle && Number(this.idle.value) > 0); }

  /** Returns the fields of a request; throws for what is not complete. */
  fields() {
    const form = { fps: Number(this.fps.value), shape: this.shape.value, format: this.format.value, paste: this.paste.checked };
    const kind = this.backdrop.value, fields = {};
    if (kind === "colour") form.backdrop = this.colour.value;
    else if (kind === "picture") {
      if (!this.picture.files[0]) throw new Error("background: choose the picture");
      fields.backdrop = [this.picture.files[0], this.picture.files[0].name];
    } else form.backdrop = kind;
    if (this.idle) {
      if (!this.idle.checkValidity()) { this.idle.reportValidity(); throw new Error(`silent loop: ${this.idle.validationMessage}`); }
      form.idle = Number(this.idle.value);
    }
    if (this.file.files[0]) fields.subtitles = [this.file.files[0], this.file.files[0].name];
    else if (this.text.value.trim()) fields.subtitles = [new Blob([this.text.value], { type: "text/plain" }), "subtitles.txt"];
    for (const [name, value] of Object.entries(form)) if (value === "" || value === false || value === 0) delete form[name];
    return { ...fields, form: JSON.stringify(form) };
  }
}

const options = (pairs) => pairs.map(([value, text]) => make("option", { value }, text));

function choice(pairs, value = pairs[0][0]) {
  const field = make("select", {}, ...options(pairs));
  field.value = value;
  return field;
}
