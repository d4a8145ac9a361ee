"""How good the labels of a face analyzer are: against the exact truth of the built-in corpus (job `label_accuracy`).

    python -m vasa_jax.main --config configs/label_accuracy.py --config.prepare.models=face_models

Random heads in random stills are rendered, analysed as a prepared video is, and compared with what was rendered. Drawn
heads are not photographs: the figures show gross faults and conventions, and bound nothing on real people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vasa_jax.config import LabelAccuracyConfig, PrepareConfig, VASAConfig
from vasa_jax.conventions import LANDMARKS, head_angles
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels as exact_labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.errors import InputError
from vasa_jax.files import write_json, write_text
from vasa_jax.preparation import landmark_labels
from vasa_jax.preparation.face_backends.base import FaceAnalyzer
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.preparation.report import table
from vasa_jax.rng import named_key

MESH = "mediapipe_478"
# Points that both sets have: name of the corpus -> number in the mesh.
SAME_POINTS = {
    "irises": {"iris_left": 468, "iris_right": 473},
    "eye corners": {"eye_left_0": 33, "eye_left_4": 133, "eye_right_0": 362, "eye_right_4": 263},
    "lips": {"outer_lip_0": 61, "outer_lip_6": 291, "outer_lip_3": 0, "outer_lip_9": 17},
    "inner lips": {"inner_lip_2": 13, "inner_lip_6": 14},
    "nose tip": {"nose_tip": 4},
    "chin": {"jaw_8": 152},
}


@dataclasses.dataclass(frozen=True)
class LabelError:
    """Found minus exact over the frames in which a face was found; NaN where a column says nothing."""

    label: str
    unit: str
    bias: float  # mean
    error: float  # mean size
    spread: float  # mean size beside the bias
    correlation: float


def label_accuracy(settings: LabelAccuracyConfig, prepare: PrepareConfig, seed: int, workdir: str | Path):
    """Renders and analyses heads, prints the table, writes label_accuracy.md and .json; returns the rows.

    Raises InputError for an analyzer that gives no landmarks.
    """
    analyzer = open_analyzer(prepare.analyzer, prepare.models)
    if analyzer.landmark_set != MESH:
        raise InputError(f"config.prepare.analyzer: {analyzer.name} gives no landmarks to measure; choose litert")
    found, truth, mattes = _analysed(analyzer, settings, seed)
    seen = np.array([points is not None for points in found])
    if seen.sum() < 2:
        raise InputError(f"config.prepare.analyzer: {analyzer.name} found {seen.sum()} of {len(seen)} faces; too few")
    points = np.stack([points for points in found if points is not None])
    rows = label_errors(points, {name: value[seen] for name, value in truth.items()})
    if mattes is not None:
        rows.append(_row("matte", "of a pixel", mattes, truth["matte"]))
    text = markdown(rows, f"{analyzer.name}: {seen.sum()} of {len(seen)} heads found at {settings.size} pixels")
    workdir = Path(workdir)
    content = {"found": int(seen.sum()), "heads": len(seen), "rows": [_plain(row) for row in rows]}
    write_json(workdir / "label_accuracy.json", content)
    write_text(workdir / "label_accuracy.md", text + "\n")
    print(text)
    return rows


def label_accuracy_job(config: VASAConfig, workdir: str | Path):
    """Does the job `label_accuracy`."""
    return label_accuracy(config.label_accuracy, config.prepare, config.seed, workdir)


def label_errors(points: np.ndarray, truth: dict[str, np.ndarray]) -> list[LabelError]:
    """Compares landmarks (T, 478, 3) in image coordinates with the exact pose, gaze, lids, mouth and corpus landmarks.
    """
    pose = landmark_labels.fit_pose(points)
    rows = [
        _row(name, "degrees", *angles)
        for name, *angles in zip(
            ("yaw", "pitch", "roll"), head_angles(pose).T, head_angles(truth["pose"]).T
        )
    ]
    rows.append(_row("distance", "share", np.exp(truth["pose"][:, 6] - pose[:, 6]) - 1.0, np.zeros(len(pose))))
    for name, column in (("shift x", 7), ("shift y", 8)):
        rows.append(_row(name, "half pictures", pose[:, column], truth["pose"][:, column]))
    open_eyes = truth["lids"].min(-1) > landmark_labels.OPEN_EYE
    gaze = landmark_labels.gaze_angles(points, pose)
    rows += [
        _row(f"gaze {name}", "degrees, open eyes", gaze[open_eyes, i], truth["gaze"][open_eyes, i])
        for i, name in enumerate(("yaw", "pitch"))
    ]
    # Openings are over the eye's width here, and over the person's open eye in the truth: only their course compares.
    lids = _row("lids", "", landmark_labels.lid_openings(points, pose).ravel(), truth["lids"].ravel())
    rows.append(dataclasses.replace(lids, bias=np.nan, error=np.nan, spread=np.nan))
    rows.append(_row("mouth", "eye distances", landmark_labels.mouth_opening(points), truth["mouth"]))
    return rows + list(_point_rows(points, truth["landmarks"]))


def _point_rows(points: np.ndarray, exact: np.ndarray) -> Iterator[LabelError]:
    """Distances in the image over the distance between the exact eyes."""
    index = {name: i for i, name in enumerate(LANDMARKS)}
    corners = [[index[f"eye_{side}_{i}"] for i in (0, 4)] for side in ("left", "right")]
    left, right = (exact[:, pair].mean(1) for pair in corners)
    eyes = np.linalg.norm((left - right)[:, :2], axis=-1)[:, None]
    for group, same in SAME_POINTS.items():
        numbers = [index[name] for name in same]
        offset = (points[:, list(same.values()), :2] - exact[:, numbers, :2]) / eyes[..., None]
        mean = offset.mean((0, 1))
        size, beside = (float(np.linalg.norm(value, axis=-1).mean()) for value in (offset, offset - mean))
        yield LabelError(group, "eye distances", float(np.linalg.norm(mean)), size, beside, float("nan"))


def _row(label: str, unit: str, found: np.ndarray, exact: np.ndarray) -> LabelError:
    if not found.size:  # no head has its eyes open
        return LabelError(label, unit, *4 * [float("nan")])
    difference = found.astype(np.float64) - exact
    bias = float(difference.mean())
    varies = min(np.ptp(found), np.ptp(exact)) > 0
    correlation = float(np.corrcoef(found.ravel(), exact.ravel())[0, 1]) if varies else float("nan")
    return LabelError(
        label, unit, bias, float(np.abs(difference).mean()), float(np.abs(difference - bias).mean()), correlation
    )


def _analysed(analyzer: FaceAnalyzer, settings: LabelAccuracyConfig, seed: int):
    """Points per head in image coordinates (or None), the truth by name, and mattes (or None)."""
    @jax.jit
    def draw(keys):
        identity = jax.vmap(sample_identity)(keys)
        motion = jax.vmap(lambda key: sample_motion(jax.random.fold_in(key, 1)))(keys)
        out = render(identity, motion, settings.size, settings.supersample)
        kept = {"rgb": to_uint8(out["rgb"]), "matte": out["matte"], "landmarks": out["landmarks"]}
        return {**kept, **exact_labels(identity, motion)}

    keys = jax.random.split(named_key(seed, "label accuracy"), -(-settings.heads // settings.batch) * settings.batch)
    parts = [jax.device_get(draw(part)) for part in keys.reshape(-1, settings.batch)]
    truth = {name: np.concatenate([part[name] for part in parts])[: settings.heads] for name in parts[0]}
    images = truth.pop("rgb")
    looks = [analyzer.landmarks(image) for image in images]
    to_image = 2.0 / settings.size
    found = [None if look is None else look.points * to_image - np.array([1, 1, 0], np.float32) for look in looks]
    mattes = [analyzer.matte(image) for image in images]
    return found, truth, None if mattes[0] is None else np.stack(mattes)


def markdown(rows: list[LabelError], title: str) -> str:
    """Returns the title and the rows as a Markdown table."""

    def cells(row: LabelError) -> tuple[str, ...]:
        numbers = (row.bias, row.error, row.spread, row.correlation)
        return row.label, row.unit, *("" if np.isnan(number) else f"{number:.3g}" for number in numbers)

    header = ("label", "unit", "bias", "mean error", "mean error beside the bias", "correlation")
    return f"{title}\n\n{table(header, map(cells, rows))}"


def _plain(row: LabelError) -> dict[str, Any]:
    """JSON has no NaN."""
    values = dataclasses.asdict(row)
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()}
