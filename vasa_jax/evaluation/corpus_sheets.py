"""Contact sheets of the built-in corpus: what its people, poses, visemes, emotions, gazes and looks look like.

python -m vasa_jax.main --config configs/corpus_sheets.py --workdir runs/corpus_sheets
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw

from vasa_jax.config import CorpusSheetsConfig, VASAConfig
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.visemes import (
    EMOTION_SHAPES,
    MOTION_NAMES,
    MOTION_NEUTRAL,
    VISEME_FIELDS,
    VISEMES,
)
from vasa_jax.corpus.render_cache import restyle
from vasa_jax.evaluation import sheets
from vasa_jax.rng import named_key

COLUMNS = 8  # of the sheets that show one picture of each person
_HEADING = 16  # pixels

Motion = dict[str, float]  # changes of the face at rest
POSES: dict[str, Motion] = {
    "yaw -40": {"yaw": -0.7}, "yaw -20": {"yaw": -0.35}, "yaw 20": {"yaw": 0.35}, "yaw 40": {"yaw": 0.7},
    "pitch -20": {"pitch": -0.35}, "pitch 20": {"pitch": 0.35}, "roll 17": {"roll": 0.3},
    "near": {"dist": 0.8}, "far": {"dist": 1.25},
}  # fmt: skip
GAZES: dict[str, Motion] = {
    "far left": {"gaze_yaw": -0.6}, "left": {"gaze_yaw": -0.3}, "right": {"gaze_yaw": 0.3},
    "far right": {"gaze_yaw": 0.6}, "down": {"gaze_pitch": -0.38}, "up": {"gaze_pitch": 0.36},
    **{f"lids {share}": {"blink_l": share, "blink_r": share} for share in (0.3, 0.6, 0.8, 1.0)},
    "wide": {"wide": 1.0}, "wink": {"blink_l": 1.0},
}  # fmt: skip


def corpus_sheets(settings: CorpusSheetsConfig, seed: int, workdir: str | Path) -> list[Path]:
    """Renders and writes one PNG per subject; returns their paths."""
    shown = _Shown(settings, seed)
    people = range(settings.people)
    few = people[: settings.rows]
    # Where the mouth and the eyes of a resting head are, as shares of the picture: rows, columns.
    mouth, eyes = (0.42, 0.86, 0.28, 0.72), (0.22, 0.66, 0.28, 0.72)
    at_rest = shown.pictures([(person, {}) for person in people])
    made = {
        "identities": _rows(at_rest, COLUMNS),
        "looks": _rows(shown.styled(at_rest), COLUMNS),
        "poses": shown.table(few, POSES),
        "visemes": shown.table(few, {name: dict(zip(VISEME_FIELDS, row)) for name, row in VISEMES.items()}, mouth),
        "emotions": shown.table(few, EMOTION_SHAPES),
        "gazes": shown.table(few, GAZES, eyes),
    }
    paths = [Path(workdir) / f"{name}.png" for name in made]
    for path, picture in zip(paths, made.values()):
        sheets.save(path, picture)
        print(path)
    return paths


def corpus_sheets_job(config: VASAConfig, workdir: str | Path) -> list[Path]:
    """Does the job `corpus_sheets`."""
    return corpus_sheets(config.corpus_sheets, config.seed, workdir)


class _Shown:
    """People of one seed, rendered in batches of one compiled shape."""

    def __init__(self, settings: CorpusSheetsConfig, seed: int):
        self._size, self._batch = settings.size, settings.batch
        key = named_key(seed, "corpus sheets")
        self._identity = jax.device_get(jax.vmap(sample_identity)(jax.random.split(key, settings.people)))
        self._looks = jax.random.split(jax.random.fold_in(key, settings.people), settings.people)
        self._render = jax.jit(
            lambda identity, motion: to_uint8(render(identity, motion, settings.size, settings.supersample)["rgb"])
        )

    def pictures(self, scenes: Sequence[tuple[int, Motion]]) -> np.ndarray:
        """Renders (person, changes of the face at rest), uint8 (N, n, n, 3)."""
        parts = []
        for first in range(0, len(scenes), self._batch):
            rows = np.minimum(np.arange(first, first + self._batch), len(scenes) - 1)
            some = [scenes[row] for row in rows]
            identity = {name: value[[person for person, _ in some]] for name, value in self._identity.items()}
            motion = {
                name: np.array([change.get(name, MOTION_NEUTRAL[name]) for _, change in some], np.float32)
                for name in MOTION_NAMES
            }
            parts.append(np.asarray(self._render(identity, motion))[: len(scenes) - first])
        return np.concatenate(parts)

    def styled(self, pictures: np.ndarray) -> np.ndarray:
        """Renders one picture of each person, each in a look of its own."""
        return np.asarray(jax.jit(jax.vmap(restyle))(self._looks, pictures[:, None]))[:, 0]

    def table(self, people: Sequence[int], changes: dict[str, Motion], crop=(0.0, 1.0, 0.0, 1.0)) -> np.ndarray:
        """Draws a row per person and a column per change, under its name; `crop` is top, bottom, left, right."""
        pictures = self.pictures([(person, change) for person in people for change in changes.values()])
        top, bottom, left, right = (round(self._size * share) for share in crop)
        sheet = _rows(pictures[:, top:bottom, left:right], len(changes))
        heading = Image.new("RGB", (sheet.shape[1], _HEADING), "white")
        draw = ImageDraw.Draw(heading)
        for column, name in enumerate(changes):
            draw.text((column * sheets.TILE + 4, 2), name, fill=(60, 60, 60))
        return np.concatenate([np.asarray(heading), sheet])


def _rows(pictures: np.ndarray, columns: int) -> np.ndarray:
    return sheets.grid([pictures[first : first + columns] for first in range(0, len(pictures), columns)])
