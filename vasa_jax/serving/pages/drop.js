// Files that are dropped on the page: what takes one gets it; elsewhere they do not take the place of the page.

const ours = (event) => event.dataTransfer?.types.includes("Files") && !event.target.closest?.("input[type=file]"); // these take them by themselves

for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => { if (ours(event)) event.preventDefault(); });

/** Has a place take the file that is dropped on it. */
export function takesDrops(place, take) {
  place.addEventListener("drop", (event) => {
    const [file] = ours(event) ? event.dataTransfer.files : [];
    if (file) take(file, file.name);
  });
}
