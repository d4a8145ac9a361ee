"""Unmarked videos of 5 s that are marked to see what the mark survives: clips of people, and what the model makes."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vasa_jax.config import MarksConfig, VASAConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.mark_attacks import scaled
from vasa_jax.evaluation.unmarked_windows import Pieces, means
from vasa_jax.files import cached, fingerprint
from vasa_jax.generation.detect import PICTURES, SECONDS
from vasa_jax.generation.job import DEMO

LENGTH = int(SECONDS * FPS)
RENDERED = 256  # pixels per side of rendered heads
PEOPLE, STILLS = 200, 6  # rendered heads, and poses of each that make a window
SOUNDS = {".wav", ".mp3", ".m4a", ".flac", ".ogg"}


@dataclasses.dataclass(frozen=True)
class Carrier:
    """kind: real or generated; frames: uint8 (T, n, n, 3), unmarked; number: tells this trial from all others."""

    kind: str
    frames: np.ndarray
    number: int


class Carriers(Sequence):
    """Every video at every size, as often as it gets another payload; made when it is asked for.

    Half of the videos are real clips of at least 5 s, as far as there are any; the others are generated.
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
    """Returns the squares in the middle of the first 5 s of up to `count` clips, uint8 (125, n, n, 3), n <= 512."""
    result: list[np.ndarray] = []
    for path in clips:
        if len(result) == count:
            break
        frames = [frame for frame, _ in zip(read_video(path, fps=FPS).frames, range(LENGTH))]
        if len(frames) < LENGTH:
            continue
        side = min(frames[0].shape[:2]) // 2 * 2
        top, left = ((length - side) // 2 for length in frames[0].shape[:2])
        square = np.stack(frames)[:, top : top + side, left : left + side]
        result.append(scaled(square, 512 / side) if side > 512 else square)
    return result


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
        sound = self._sounds[number % len(self._sounds)]
        portrait = self._portraits[number]
        key = {"model": self._generator.model, "portrait": fingerprint(portrait), "sound": sound.name}
        make = functools.partial(self._make, number, portrait, sound)
        self._folder.mkdir(parents=True, exist_ok=True)
        return cached(self._folder / f"{number}.npz", key, make)["frames"]

    def _make(self, number: int, portrait: np.ndarray, sound: Path) -> dict[str, np.ndarray]:
        samples = read_audio(sound).samples
        # Once more, where the sound is short.
        samples = np.tile(samples, -(-LENGTH * SAMPLE_RATE // (FPS * len(samples))))[: LENGTH * SAMPLE_RATE // FPS]
        motion = self._generator.motion(samples, pose_anchor="absolute", seed=number)[:LENGTH]
        avatar = self._generator.prepare(portrait)
        return {"frames": np.concatenate(list(self._generator.render(avatar, motion)))}


def portraits(marks: MarksConfig, generator: Any, seed: int, count: int) -> list[np.ndarray]:
    """Returns up to `count` portraits, uint8 (n, n, 3): of the folder's images with a face, or rendered heads."""
    if not marks.portraits:
        heads = HeldOutHeads(generator.image_size, seed)
        return [heads.portrait(heads.identity(index)) for index in range(count)]
    result, paths = [], files_below(marks.portraits, PICTURES)
    # Every n-th, so that a few are of all sources.
    for path in paths[:: max(len(paths) // max(count, 1), 1)][:count]:
        try:
            result.append(generator.read_portrait(path)[0])
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
