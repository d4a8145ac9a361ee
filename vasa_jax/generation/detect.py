"""The `detect` job: is a video or a picture marked, what does the mark say, and what does the manifest say?"""

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vasa_jax.config import VASAConfig
from vasa_jax.data.image_files import existing_file, read_image
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError, one_line, say
from vasa_jax.generation.mark_search import SURE, Evidence, search, small_luma
from vasa_jax.generation.provenance import ManifestState, read_manifest

SECONDS = 5.0  # of the windows that are pooled
ENOUGH = 1e-12  # p-value at which the rest of a video need not be read
READABLE = 0.99  # certainty of a payload that may be read out
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


@dataclasses.dataclass(frozen=True)
class Detection:
    """What was found in a file.

    evidence: of its best window, whose p-value counts all windows; start: that window's first second; windows: how many
    were searched (1 for a picture); manifest: what its C2PA manifest says.
    """

    evidence: Evidence
    start: float
    windows: int
    manifest: ManifestState

    @property
    def marked(self) -> bool:
        """Whether the frames are marked, beyond reasonable doubt."""
        return self.evidence.marked


def detect(config: VASAConfig, workdir: str | Path = "") -> Detection:
    """Searches `config.video` and prints what is found; InputError for what is neither video nor picture.

    workdir: not used; nothing is written.
    """
    if not config.video:
        raise InputError("config.video: not set; give a video or a picture, e.g. --config.video=clip.mp4")
    found = detect_file(config.video)
    say(describe(config.video, found))
    return found


def detect_file(path: str | Path) -> Detection:
    """Returns what a video or a picture carries; InputError for any other file."""
    path = existing_file(path, "video or picture")
    if path.suffix.lower() in PICTURES:
        evidence, start, windows = search(small_luma(read_image(path))), 0.0, 1
    else:
        video = read_video(path)
        evidence, start, windows = detect_frames(video.frames, video.fps)
    return Detection(evidence, start, windows, read_manifest(path))


def detect_frames(frames: Iterable[np.ndarray], fps: float) -> tuple[Evidence, float, int]:
    """Returns the best evidence in frames, uint8 (H, W, 3), its first second, and the windows searched.

    Frames are pooled over windows of SECONDS; a last one of less than half is left out. Window i spends 1 / (i (i + 1))
    of the error, which sums to 1 however long the video is. Reading stops where the evidence is more than enough.
    """
    frames, length = iter(frames), max(round(SECONDS * fps), 1)
    best, start = None, 0.0
    for index in itertools.count():
        total, count = None, 0
        for frame in itertools.islice(frames, length):
            luma = small_luma(frame)
            total = luma.astype(np.float64) if total is None else total + luma
            count += 1
        if not count or (index and count < length / 2):
            return best, start, index
        evidence = search((total / count).astype(np.float32))
        p_value = min(evidence.p_value * (index + 1) * (index + 2), 1.0)
        if best is None or p_value < best.p_value:
            best, start = dataclasses.replace(evidence, p_value=p_value), index * SECONDS
        if best.p_value <= ENOUGH:
            return best, start, index + 1


def describe(path: str | Path, found: Detection) -> str:
    """Returns the lines that the job prints."""
    path = one_line(str(path))
    evidence = found.evidence
    verdict = "marked" if found.marked else "no mark found"
    if not found.marked:
        chance = f"p = {evidence.p_value:.2g}; a mark is said to be there from {SURE:g} down"
        lines = [f"{path}: {verdict} ({chance})"]
    else:
        where = "the whole picture" if evidence.scale == 1 else f"side {evidence.scale:.2f} of the shorter side"
        where += ", mirrored" if evidence.mirrored else ""
        payload = f"{evidence.payload}, version {evidence.payload.version}"
        if evidence.certainty < READABLE:
            payload = "cannot be read with certainty"
        lines = [
            f"{path}: {verdict} (p <= {max(evidence.p_value, 1e-300):.1g})",
            f"  payload   {payload}",
            f"  square    {where}",
            f"  seen in   {found.start:g} s to {found.start + SECONDS:g} s; {found.windows} windows searched",
        ]
    return "\n".join([*lines, f"  manifest  {found.manifest}"])
