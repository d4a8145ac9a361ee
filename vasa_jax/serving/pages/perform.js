// Perform: a portrait moves as the face of a driving video does.

import { settingRows } from "./controls.js";
import { capture } from "./devices.js";
import { takesDrops } from "./drop.js";
import { post, showAgain, showFirst, showJob } from "./jobs.js";
import { make } from "./server.js";

export function perform(panel, { portrait, sound, form }, about) {
  const place = panel.querySelector("#perform-jobs"), send = panel.querySelector("[type=submit]");
  const motion = settingRows(panel.querySelector("[data-motion]"), about.motion);
  const driving = drivingInput(panel.querySelector("[data-driving]"));
  showAgain(place);
  panel.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    place.querySelector(":scope > .fault")?.remove();
    try {
      const file = driving();
      const heard = sound.file ? await sound.fields() : {};
      const fields = { ...(await portrait.fields()), ...heard, driving: file, motion: JSON.stringify(motion()), ...form.fields() };
      showJob(place, await post(fields, "v1/reenactments"), `${fields.portrait[1]} · ${file[1]}`);
    } catch (error) {
      showFirst(place, make("p", { className: "fault" }, error.message));
    } finally {
      send.disabled = false;
    }
  };
}

/** A file or a take of the camera; returns a function that gives [blob, name]. */
function drivingInput(place) {
  let chosen = null, recorder = null;
  const video = make("video", { controls: true, playsInline: true, hidden: true, muted: true });
  const note = make("p", { className: "hint" }, "One take with one face, seen from its first frame on: best at rest there. A picture gives its pose and face.");
  note.setAttribute("role", "status");
  const take = (blob, name) => {
    chosen = [blob, name];
    video.src = URL.createObjectURL(blob);
    video.hidden = blob.type.startsWith("image/");
    note.textContent = name;
    note.className = "hint";
  };
  const field = make("input", { type: "file", accept: "video/*,image/*", onchange: () => field.files[0] && take(field.files[0], field.files[0].name) });
  field.setAttribute("aria-label", "driving video file");
  const button = make("button", { type: "button" }, "Record with the camera");
  button.setAttribute("aria-pressed", "false");
  button.onclick = async () => {
    if (recorder) { recorder.stop(); return; }
    let stream;
    try { stream = await capture("camera", { video: { width: 1280, height: 720 }, audio: true }, "choose a file"); }
    catch (error) { note.textContent = error.message; note.className = "fault"; return; }
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
      take(new Blob(parts, { type: recorder.mimeType }), "camera.webm");
      recorder = null;
      button.textContent = "Record with the camera";
      button.setAttribute("aria-pressed", "false");
    };
    video.hidden = false;
    video.srcObject = stream;
    video.play();
    recorder.start();
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
  };
  place.append(field, make("p", { className: "buttons" }, button), video, note);
  takesDrops(place, take);
  return () => {
    if (!chosen) throw new Error("driving video: choose a file, or record one");
    return chosen;
  };
}
