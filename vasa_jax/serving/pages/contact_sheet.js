// Videos side by side as one picture: a row each, the same moments of all in the columns.

import { make } from "./server.js";

const COLUMNS = 8, SIZE = 160, LINE = 22; // moments; pixels of a picture and of the text above a row

/** Returns a PNG of rows of [title, video]. */
export async function contactSheet(rows) {
  const canvas = make("canvas", { width: COLUMNS * SIZE, height: rows.length * (SIZE + LINE) }), pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "black";
  pen.font = "14px sans-serif";
  for (const [index, [title, video]] of rows.entries()) {
    const top = index * (SIZE + LINE);
    pen.fillText(`${title} · AI-generated`, 4, top + 16);
    for (let column = 0; column < COLUMNS; column++) {
      await shownAt(video, (column + 0.5) / COLUMNS);
      const scale = SIZE / Math.max(video.videoWidth, video.videoHeight);
      pen.drawImage(video, column * SIZE, top + LINE, scale * video.videoWidth, scale * video.videoHeight);
    }
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** Waits until a video shows the moment at a share of its length. */
async function shownAt(video, share) {
  video.pause();
  if (video.readyState < 1) await new Promise((done) => video.addEventListener("loadedmetadata", done, { once: true }));
  const seeked = new Promise((done) => video.addEventListener("seeked", done, { once: true }));
  video.currentTime = share * video.duration;
  await seeked;
  if (video.readyState < 2) await new Promise((done) => video.addEventListener("loadeddata", done, { once: true }));
}
