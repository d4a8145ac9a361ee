// Speak: one portrait, one sound, one video.

import { card, post } from "./jobs.js";
import { make } from "./server.js";

export function speak(panel, { portrait, sound, controls }) {
  const place = panel.querySelector("#speak-jobs"), send = panel.querySelector("[type=submit]");
  panel.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    place.querySelector(":scope > .fault")?.remove();
    try {
      const asked = controls.text();
      const fields = { ...(await portrait.fields()), ...(await sound.fields()), controls: asked, background: controls.background.value };
      const job = await post(fields);
      place.prepend(card(job, `${fields.portrait[1]} · ${fields.sound[1]}`));
    } catch (error) {
      place.prepend(make("p", { className: "fault" }, error.message));
    } finally {
      send.disabled = false;
    }
  };
}
