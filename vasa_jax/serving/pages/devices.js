// Camera, microphone and clipboard, which a browser gives only to secure pages, and where its user allows it.

/** Returns a stream of what is `wanted`; throws an Error of one line, which ends with the remedy. */
export async function capture(what, wanted, remedy) {
  if (!navigator.mediaDevices) throw new Error(`browsers give a ${what} only to pages from localhost or by HTTPS; ${remedy}`);
  try { return await navigator.mediaDevices.getUserMedia(wanted); }
  catch { throw new Error(`there is no ${what}, or this page may not use it; ${remedy}`); }
}

/** Returns the picture in the clipboard, as a blob; throws an Error of one line. */
export async function copiedPicture() {
  let items;
  try { items = await navigator.clipboard.read(); }
  catch { throw new Error("this page may not read the clipboard; press Ctrl+V, or choose a file"); }
  for (const item of items) {
    const kind = item.types.find((type) => type.startsWith("image/"));
    if (kind) return item.getType(kind);
  }
  throw new Error("there is no picture in the clipboard; copy one first");
}
