// Look: the same sound and seed on every portrait, and parts of the motion alone.

import { clear, post, showAgain, showJob } from "./jobs.js";
import { contactSheet } from "./contact_sheet.js";
import { ask, make } from "./server.js";

const NAMES = { all: "all", pose: "head only", dynamics: "face only" };

export function look(panel, { sound, controls }) {
  const sheet = panel.querySelector("#look-sheet"), state = panel.querySelector("#look-state");
  const play = panel.querySelector("#look-play"), files = panel.querySelector("#look-portraits");
  const contact = panel.querySelector("#look-contact"), send = panel.querySelector("[type=submit]");
  const several = () => { play.disabled = contact.disabled = !sheet.children.length; };
  showAgain(sheet, true).then(several);
  panel.querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    state.className = "hint";
    try {
      const asked = controls.values(), parts = [...panel.querySelectorAll("#look-parts :checked")].map((box) => box.value);
      if (!parts.length) throw new Error("parts: choose one or more");
      const heard = await sound.fields();
      let portraits = [...files.files].map((file) => [file, file.name]);
      if (!portraits.length) portraits = [[await (await ask("v1/examples/portrait")).blob(), "portrait.png"]];
      clear(sheet);
      for (const [index, portrait] of portraits.entries()) {
        for (const part of parts) {
          state.textContent = `sends ${portrait[1]}, ${NAMES[part]} ...`;
          const fields = { portrait, ...heard, controls: JSON.stringify({ ...asked, animate: part }), background: controls.background.value };
          showJob(sheet, await post(fields), `${index + 1}. ${portrait[1]}: ${NAMES[part]}`, true);
          several();
        }
      }
      state.textContent = `${sheet.children.length} videos, one after the other`;
    } catch (error) {
      state.textContent = error.message;
      state.className = "fault";
    } finally {
      send.disabled = false;
    }
  };
  contact.onclick = async () => {
    const cards = [...sheet.querySelectorAll("[data-state=done]")];
    if (!cards.length) { state.textContent = "no video is ready yet; wait for one"; return; }
    const rows = cards.map((shown) => [shown.querySelector("strong").textContent, shown.querySelector("video")]);
    const file = URL.createObjectURL(await contactSheet(rows));
    make("a", { href: file, download: "contact_sheet.png" }).click();
    URL.revokeObjectURL(file);
  };
  play.onclick = () => {
    const videos = [...sheet.querySelectorAll("video")];
    for (const [index, video] of videos.entries()) { video.currentTime = 0; video.muted = index > 0; }
    for (const video of videos) video.play();
  };
}
