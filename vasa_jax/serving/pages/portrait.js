// A portrait from a file, the clipboard, a camera or the package, with the square of it that is used.

import { capture, copiedPicture } from "./devices.js";
import { takesDrops } from "./drop.js";
import { ask, askJson, form, make } from "./server.js";

export class PortraitInput {
  constructor(place, panel) {
    this.file = null; // [blob, name]
    this.crop = ""; // as the user set it; empty = found by the server
    this.found = ""; // by the server
    const field = make("input", { type: "file", accept: "image/*,video/*,.heic", onchange: () => field.files[0] && this.take(field.files[0], field.files[0].name) });
    field.setAttribute("aria-label", "portrait file");
    const button = (text, action) => make("button", { type: "button", onclick: () => this.tried(action) }, text);
    this.note = make("p", { className: "hint" }, "A picture, or a video whose best early frame is taken; drop it here. Nothing chosen: the shipped portrait.");
    this.note.setAttribute("role", "status");
    this.view = make("div");
    place.append(field, make("p", { className: "buttons" }, button("Camera", () => this.fromCamera()), button("Paste", () => this.fromClipboard()),
      button("Shipped portrait", () => this.fromPackage())), this.view, this.note);
    takesDrops(place, (file, name) => this.take(file, name));
    document.addEventListener("paste", (event) => {
      const item = [...(event.clipboardData?.files ?? [])].find((file) => file.type.startsWith("image/"));
      if (item && !panel.hidden) { event.preventDefault(); this.take(item, "clipboard.png"); }
    });
  }

  /** Returns the fields of a request. */
  async fields() {
    if (!this.file) await this.fromPackage();
    return { portrait: this.file, crop: this.crop };
  }

  /** Returns the same with the square that the server has found already, so that it need not look for the face again. */
  async placed() {
    const fields = await this.fields();
    return { ...fields, crop: fields.crop || this.found };
  }

  async tried(action) {
    try { await action(); } catch (error) { this.tell(error.message, true); }
  }

  tell(text, fault = false) { this.note.textContent = text; this.note.className = fault ? "fault" : "hint"; }

  async fromPackage() { await this.take(await (await ask("v1/examples/portrait")).blob(), "portrait.png"); }

  async fromClipboard() { await this.take(await copiedPicture(), "clipboard.png"); }

  async fromCamera() {
    const dialog = document.getElementById("camera-dialog"), video = dialog.querySelector("video");
    const stream = await capture("camera", { video: { width: 1280, height: 960 } }, "choose a file");
    video.srcObject = stream;
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue === "take") {
      const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
      canvas.getContext("2d").drawImage(video, 0, 0);
      await this.take(await new Promise((resolve) => canvas.toBlob(resolve, "image/png")), "camera.png");
    }
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }

  async take(blob, name) {
    this.file = [blob, name];
    this.crop = this.found = "";
    this.view.replaceChildren();
    this.tell(`${name}: the face is looked for ...`);
    const taken = this.file;
    try {
      const found = await askJson("v1/crops", { method: "POST", body: form({ portrait: this.file }) });
      if (taken !== this.file) return;
      this.found = found.crop;
      this.tell([`${name}. The square is what the video shows: drag it, or move it with the arrow keys, + and -.`, ...found.notes].join(" "));
      await this.show(found.crop);
    } catch (error) {
      if (taken !== this.file) return;
      this.tell(error.message.replace(/^portrait:/, `${name}:`), true); // the server knows it by its field
      await this.show("");
    }
  }

  async show(crop) {
    const image = make("img", { alt: "the portrait", src: URL.createObjectURL(this.file[0]) });
    try { await image.decode(); } catch { return; } // a video, or a kind that browsers do not show
    const square = make("div", { tabIndex: 0 }, make("span"));
    square.setAttribute("role", "application");
    square.setAttribute("aria-label", "square of the portrait; arrow keys move it, plus and minus change its size");
    const width = image.naturalWidth, height = image.naturalHeight;
    let [x, y, size] = crop ? crop.split(",").map(Number) : [(width - Math.min(width, height)) / 2, (height - Math.min(width, height)) / 2, Math.min(width, height)];
    const place = (byUser) => {
      size = Math.round(Math.min(Math.max(size, 32), 2 * Math.max(width, height)));
      x = Math.round(Math.min(Math.max(x, -size / 2), width - size / 2));
      y = Math.round(Math.min(Math.max(y, -size / 2), height - size / 2));
      for (const [side, part] of [["left", x / width], ["top", y / height], ["width", size / width], ["height", size / height]]) square.style[side] = `${100 * part}%`;
      if (byUser) this.crop = `${x},${y},${size}`;
      square.setAttribute("aria-description", `${x}, ${y}, ${size} pixels`);
      square.dataset.crop = `${x},${y},${size}`;
    };
    square.onpointerdown = (event) => {
      event.preventDefault();
      square.focus();
      square.setPointerCapture(event.pointerId);
      const scale = width / image.clientWidth, resize = event.target !== square, from = { x, y, size, cx: event.clientX, cy: event.clientY };
      square.onpointermove = (move) => {
        const dx = (move.clientX - from.cx) * scale, dy = (move.clientY - from.cy) * scale;
        if (resize) size = from.size + Math.max(dx, dy);
        else { x = from.x + dx; y = from.y + dy; }
        place(true);
      };
      square.onpointerup = square.onpointercancel = () => { square.onpointermove = null; };
    };
    square.onkeydown = (event) => {
      const step = Math.max(1, Math.round(size / 50));
      const act = { ArrowLeft: () => { x -= step; }, ArrowRight: () => { x += step; }, ArrowUp: () => { y -= step; }, ArrowDown: () => { y += step; },
        "+": () => { size += 2 * step; x -= step; y -= step; }, "-": () => { size -= 2 * step; x += step; y += step; } }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
      place(true);
    };
    place(!crop);
    this.view.replaceChildren(make("div", { className: "crop" }, image, square));
  }
}
