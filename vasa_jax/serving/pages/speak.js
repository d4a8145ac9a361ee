// Speak: one portrait, one sound, one video.

import { post, showAgain, showFirst, showJob } from "./jobs.js";
import { make } from "./server.js";

export function speak(panel, { portrait, sound, controls, form }) {
  const place = panel.querySelector("#speak-jobs"), send = panel.querySelector("[type=submit]");
  showAgain(place);
  panel.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    place.querySelector(":scope > .fault")?.remove();
    try {
      const asked = controls.text();
      const heard = form.loops ? {} : await sound.fields();
      const fields = { ...(await portrait.fields()), ...heard, controls: asked, background: controls.background.value, ...form.fields() };
      const job = await post(fields);
      showJob(place, job, `${fields.portrait[1]} · ${form.loops ? "silent loop" : fields.sound[1]}`);
    } catch (error) {
      showFirst(place, make("p", { className: "fault" }, error.message));
    } finally {
      send.disabled = false;
    }
  };
}
