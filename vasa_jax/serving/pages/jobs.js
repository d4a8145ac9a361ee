// Jobs of videos: posted, followed, cancelled, shown.

import { ask, askJson, form, make } from "./server.js";

/** Posts a video; returns the job. */
export const post = (fields, path = "v1/videos") => askJson(path, { method: "POST", body: form(fields) });

const KEY = "jobs"; // of the browser's store of this tab, which others do not see: [place, job, title] of each card

function kept() {
  try { return JSON.parse(sessionStorage.getItem(KEY)) ?? []; } catch { return []; } // none, or the browser has none
}

function keep(jobs) {
  try { sessionStorage.setItem(KEY, JSON.stringify(jobs)); } catch { /* they are lost when the page is loaded anew */ }
}

const forget = (id) => keep(kept().filter((job) => job[1] !== id));

/** Shows something first in a place, where the user sees it. */
export function showFirst(place, element) {
  place.prepend(element);
  element.scrollIntoView({ block: "nearest" });
}

/** Shows a new job, first in its place or `part` of a sheet, and again when the page is loaded anew. */
export function showJob(place, job, title, part = false) {
  keep([...kept(), [place.id, job.id, title]]);
  if (part) place.append(card(job, title, false));
  else showFirst(place, card(job, title));
}

/** Shows the jobs that a place had when the page was loaded before. */
export async function showAgain(place, part = false) {
  for (const [where, id, title] of kept()) {
    if (where !== place.id) continue;
    let job;
    try { job = await askJson(`v1/videos/${id}`); } catch { forget(id); continue; } // it is gone
    if (part) place.append(card(job, title, false));
    else place.prepend(card(job, title));
  }
}

/** Empties a place; its jobs are not shown again. */
export function clear(place) {
  keep(kept().filter(([where]) => where !== place.id));
  for (const shown of place.children) unfollow(shown.dataset.job);
  place.replaceChildren();
}

// A browser has six connections to a server, for all tabs together. So the events of one job are followed at a time,
// the oldest that has not ended: jobs are made in their order.
const followed = []; // { id, made, update } of each, the oldest first, which `events` follows
let events = null;

function follow({ id, made }, update) {
  const later = followed.findIndex((one) => one.made > made), at = later < 0 ? followed.length : later;
  followed.splice(at, 0, { id, made, update });
  if (at === 0) listen();
}

function unfollow(id) {
  const at = followed.findIndex((one) => one.id === id);
  if (at < 0) return;
  followed.splice(at, 1);
  if (at === 0) listen();
}

function listen() {
  events?.close();
  const [first, ...later] = followed;
  if (!first) return;
  const { id, update } = first;
  events = new EventSource(`v1/videos/${id}/events`);
  events.onmessage = (event) => update(JSON.parse(event.data));
  events.addEventListener("removed", () => update(null));
  for (const one of later) askJson(`v1/videos/${one.id}`).then(one.update, () => {}); // how many are before it now
}

/** Shows a job in a card until it has ended; `full` with what can be done with the result. Returns the card. */
function card(job, title, full = true) {
  const text = make("p", { className: "state" }), bar = make("progress", { max: 1 }), body = make("div");
  const cancel = make("button", { type: "button" }, "Cancel");
  const result = make("article", { className: "card" }, make("strong", {}, title), text, bar, body, make("p", { className: "buttons" }, cancel));
  bar.setAttribute("aria-label", "progress");
  result.dataset.job = job.id;
  const finish = () => { unfollow(job.id); bar.remove(); cancel.textContent = "Remove"; };
  cancel.onclick = async () => {
    unfollow(job.id);
    forget(job.id);
    try { await ask(`v1/videos/${job.id}`, { method: "DELETE" }); } catch { /* it is gone already */ }
    result.remove();
  };
  const update = (now) => {
    if (!now) { finish(); text.textContent = "removed"; return; }
    result.dataset.state = now.state;
    text.textContent = told(now);
    if (now.total) { bar.max = now.total; bar.value = now.done; }
    if (now.state === "failed") { text.className = "fault"; finish(); }
    if (now.state === "done") { finish(); body.replaceChildren(...shown(now, full)); }
  };
  if (!["done", "failed"].includes(job.state)) follow(job, update);
  update(job);
  return result;
}

function told(job) {
  if (job.state === "waiting") return job.ahead ? `waits; ${job.ahead} before it` : "waits";
  if (job.state === "failed") return job.error;
  if (job.state === "done") return `${job.result.frames} frames, ${job.result.seconds.toFixed(2)} s, made in ${job.result.took.toFixed(1)} s`;
  const left = job.left === null ? "" : `, ${Math.ceil(job.left)} s left`;
  return job.total ? `${job.stage}: ${job.done} of ${job.total}${left}` : `${job.stage} ...`;
}

function shown(job, full) {
  const path = `v1/videos/${job.id}/result`, { output, backdrop, idle } = job.settings, parts = [];
  const clear = backdrop === "transparent";
  if (output.endsWith(".zip") || (clear && output.endsWith(".mov"))) parts.push(make("p", { className: "hint" }, "Browsers do not play this kind of file: download it."));
  else {
    const video = make("video", { src: path, controls: true, playsInline: true, loop: !full || Boolean(idle), className: clear ? "clear" : "" });
    if (job.result.subtitles) {
      const track = make("track", { kind: "subtitles", src: `v1/videos/${job.id}/subtitles`, label: "Subtitles", default: true });
      video.append(track);
    }
    parts.push(video);
  }
  if (!full) return parts;
  const settings = JSON.stringify(job.settings);
  const line = URL.createObjectURL(new Blob([`${settings}\n`], { type: "application/jsonl" }));
  parts.push(...job.result.notes.map((note) => make("p", { className: "hint" }, note)));
  parts.push(make("p", { className: "buttons" }, make("a", { href: path, download: output, className: "button" }, "Download"),
    make("a", { href: line, download: "video.jsonl", className: "button" }, "Settings")));
  const command = job.job === "generate"
    ? `python -m vasa_jax.main --config configs/generate.py --config.jobs=video.jsonl\n\nvideo.jsonl:\n${settings}`
    : ["python -m vasa_jax.main --config configs/reenact.py", ...Object.entries(job.settings).map(([name, value]) => `--config.${name}=${quoted(value)}`)].join(" \\\n    ");
  parts.push(make("details", {}, make("summary", {}, "The same from the command line"), make("pre", {}, command)));
  return parts;
}

function quoted(value) {
  const text = value === true ? "True" : value === false ? "False" : String(value);
  return /^[\w.,:#%@/+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
