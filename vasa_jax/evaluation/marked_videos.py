"""Unmarked videos of 5 s that are marked to see what the mark survives: clips of people, and what the model makes.

The model makes squares, and whole photographs in which the face speaks. Both are marked as the product marks them.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vasa_jax.config import MarksConfig, VASAConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.face_crop import Crop
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.mark_attacks import scaled
from vasa_jax.evaluation.unmarked_windows import Pieces, means
from vasa_jax.files import cached, fingerprint
from vasa_jax.generation.detect import PICTURES, SECONDS
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.picture_mark import picture_mark
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.watermark import Payload, marked

LENGTH = int(SECONDS * FPS)
RENDERED = 256  # pixels per side of rendered heads
PEOPLE, STILLS = 200, 6  # rendered heads, and poses of each that make a window
WHOLE = "whole photographs"
WHOLE_NUMBERS = 10**6  # the first number of their carriers, which no square has
SOUNDS = {".wav", ".mp3", ".m4a", ".flac", ".ogg"}


@dataclasses.dataclass(frozen=True)
class Carrier:
    """A video to be marked.

    kind: real, generated or WHOLE; frames: uint8 (T, H, W, 3), unmarked; number: tells this trial from all others;
    photograph: uint8 (H, W, 3), whose one mark all frames get; None = each frame has its own.
    """

    kind: str
    frames: np.ndarray
    number: int
    photograph: np.ndarray | None = None

    def marked(self, payload: Payload) -> np.ndarray:
        """Returns the marked frames, uint8 (T, H, W, 3); those of a photograph are rounded once more than Paste's."""
        if self.photograph is None:
            return marked(self.frames, payload)
        added = picture_mark(self.photograph, payload)[..., None] + 0.5
        return np.stack([np.clip(frame + added, 0, 255).astype(np.uint8) for frame in self.frames])


class Carriers(Sequence):
    """Every video at every size, as often as it gets another payload: real clips, then generated ones.

    Each is made when it is asked for.
    """

    def __init__(self, marks: MarksConfig, real: Sequence[np.ndarray], generated: Sequence[np.ndarray]):
        self._sizes, self._payloads = marks.sizes, marks.payloads
        self._real, self._generated = real, generated
        self._last = (-1, 0, np.zeros(0))

    def __len__(self) -> int:
        return (len(self._real) + len(self._generated)) * len(self._sizes) * self._payloads

    def __getitem__(self, number: int) -> Carrier:
        if not 0 <= number < len(self):
            raise IndexError(number)
        video, rest = divmod(number, len(self._sizes) * self._payloads)
        size = self._sizes[rest // self._payloads]
        is_real = video < len(self._real)
        if (video, size) != self._last[:2]:
            frames = self._real[video] if is_real else self._generated[video - len(self._real)]
            self._last = (video, size, scaled(frames, size / frames.shape[1]))
        return Carrier("real" if is_real else "generated", self._last[2], number)


def real_windows(clips: Sequence[Path], count: int) -> list[np.ndarray]:
    """Returns the squares in the middle of up to `count` stretches of 5 s, uint8 (125, n, n, 3), n <= 512.

    No two share a frame. The first of every clip come first, then the second ones, and so on.
    """
    videos, result = [iter(read_video(path, fps=FPS).frames) for path in clips], []
    while videos and len(result) < count:
        lasting = []
        for frames in videos:
            window = _square_window(frames)
            if window is not None and len(result) < count:
                result.append(window)
                lasting.append(frames)
        videos = lasting
    return result


def _square_window(frames: Iterator[np.ndarray]) -> np.ndarray | None:
    window: list[np.ndarray] = []
    for frame in itertools.islice(frames, LENGTH):
        side = min(frame.shape[:2]) // 2 * 2
        top, left = ((length - side) // 2 for length in frame.shape[:2])
        square = frame[top : top + side, left : left + side]
        window.append(scaled(square[None], 512 / side)[0] if side > 512 else square.copy())
    return np.stack(window) if len(window) == LENGTH else None


class GeneratedVideos(Sequence):
    """Unmarked frames, uint8 (125, n, n, 3), of up to `count` portraits that speak; kept in a folder once made."""

    def __init__(self, config: VASAConfig, count: int, folder: Path):
        from vasa_jax.generation.generator import VideoGenerator

        self._generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
        self._portraits = portraits(config.marks, self._generator, config.seed, count)
        self._sounds = files_below(config.marks.sounds, SOUNDS) or [Path(DEMO["audio"])]
        self._folder = folder

    def __len__(self) -> int:
        return len(self._portraits)

    def __getitem__(self, number: int) -> np.ndarray:
        pixels = self._portraits[number].pixels
        key = {"model": self._generator.model, "portrait": fingerprint(pixels), "sound": self._sound(number).name}
        self._folder.mkdir(parents=True, exist_ok=True)
        return cached(self._folder / f"{number}.npz", key, functools.partial(self._make, number))["frames"]

    def whole(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns a photograph, uint8 (H, W, 3), and the frames (125, H, W, 3) in which its face speaks; not kept."""
        portrait = self._portraits[number]
        avatar = self._generator.prepare(portrait.pixels)
        paste = self._generator.paste(portrait, avatar)
        motion = self._motion(number, avatar, "portrait")
        return paste.picture, np.stack(list(self._generator.render_whole(paste, avatar, motion)))

    def _make(self, number: int) -> dict[str, np.ndarray]:
        avatar = self._generator.prepare(self._portraits[number].pixels)
        motion = self._motion(number, avatar, "absolute")
        return {"frames": np.concatenate(list(self._generator.render(avatar, motion)))}

    def _motion(self, number: int, avatar: Any, anchor: str) -> np.ndarray:
        samples = read_audio(self._sound(number)).samples
        # Once more, where the sound is short.
        samples = np.tile(samples, -(-LENGTH * SAMPLE_RATE // (FPS * len(samples))))[: LENGTH * SAMPLE_RATE // FPS]
        return self._generator.motion(samples, avatar, pose_anchor=anchor, seed=number)[:LENGTH]

    def _sound(self, number: int) -> Path:
        return self._sounds[number % len(self._sounds)]


class WholePhotographs(Sequence):
    """Carriers of the whole photographs that generated videos are cut from; made when they are asked for."""

    def __init__(self, videos: GeneratedVideos):
        self._videos = videos

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> Carrier:
        photograph, frames = self._videos.whole(number)
        return Carrier(WHOLE, frames, WHOLE_NUMBERS + number, photograph)


def portraits(marks: MarksConfig, generator: Any, seed: int, count: int) -> list[Portrait]:
    """Returns up to `count` portraits: of the folder's images with a face, or rendered heads."""
    if not marks.portraits:
        heads = HeldOutHeads(generator.image_size, seed)
        shown = [heads.portrait(heads.identity(index)) for index in range(count)]
        return [Portrait(pixels, (), Crop(0, 0, len(pixels)), pixels) for pixels in shown]
    result: list[Portrait] = []
    paths = files_below(marks.portraits, PICTURES)
    # In an order of their own, so that a few are of all sources, and more are these and others.
    for number in np.random.default_rng(seed).permutation(len(paths)):
        if len(result) == count:
            break
        path = paths[number]
        try:
            result.append(generator.read_portrait(path))
        except InputError as error:
            logging.info("left out: %s", error)
    return result


def rendered_lumas(seed: int) -> Sequence[np.ndarray]:
    """Returns lumas (1, H, W), each of a rendered head in random poses: nobody's video, but it passes for one."""
    heads = HeldOutHeads(RENDERED, seed)

    def make(index: int) -> np.ndarray:
        keys = jax.random.split(jax.random.fold_in(heads.key, index), STILLS)
        frames = heads.render(heads.identity(index), jax.device_get(jax.vmap(sample_motion)(keys)))["rgb"]
        return means(frames).mean(0, keepdims=True)

    return Pieces(PEOPLE, make)


def files_below(folders: str, suffixes: set[str]) -> list[Path]:
    """Returns the files of given suffixes below folders, which commas part; InputError where a folder is none."""
    roots = [Path(name) for name in folders.split(",") if name]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"{root}: is no folder; give folders that exist, parted by commas")
    files = (path for root in roots for path in sorted(root.rglob("*")))
    return [path for path in files if path.suffix.lower() in suffixes]
