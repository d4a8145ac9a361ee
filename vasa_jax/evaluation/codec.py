"""Job `evaluate_face`: the codec alone; held-out people in true images, whose motion drives portraits; no speech.

    python -m vasa_jax.main --config configs/evaluate_face.py --config.checkpoint=runs/model

Columns of the first table:

  same       a person's portrait in the motion of its own images: self-reenactment
  cross      in the motion of another person's images; the person itself in the same motion is the truth
  truth      the true images, measured by the same probe: the ceiling of what is measured
  portrait   the portrait, unmoved: what is got by doing nothing

Linear probes then say what can be read off the frozen latents. At last one factor changes, only the head pose or only
the dynamics: the test of separate latents.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import FaceEvaluationConfig, VASAConfig
from vasa_jax.conventions import POSE_DIM, head_angles
from vasa_jax.evaluation import metrics, sheets
from vasa_jax.evaluation.face_readings import FaceReader, Measurements, different_people, reading_errors
from vasa_jax.evaluation.held_out import (
    DYNAMICS,
    HELD_OUT_STILLS,
    HeldOutPerson,
    HeldOutStills,
    Stills,
    landmark_indices,
)
from vasa_jax.evaluation.image_metrics import image_metrics
from vasa_jax.evaluation.metrics import OPEN_LIDS, Metrics, spread
from vasa_jax.evaluation.probes import class_accuracy, held_out_predictions, r_squared, splits_by_block
from vasa_jax.evaluation.report import Rows, cell, markdown_table, metrics_table, number_cell, probe_table, save_report
from vasa_jax.evaluation.stage import Codec, probe_errors

FOLDS = 5
# Targets that several linear probes share.
MEANS = {"rotation": ("yaw", "pitch", "roll"), "lids": ("lid_left", "lid_right"), "gaze": ("gaze_yaw", "gaze_pitch")}
Changes = dict[str, Metrics]

COLUMNS = {
    "same": "same person",
    "cross": "across people",
    "truth": "truth, measured",
    "portrait": "portrait, unmoved",
}
ROWS: Rows = {
    "psnr": ("PSNR, whole image, dB", 2),
    "psnr_head": ("PSNR, head and body, dB", 2),
    "ssim": ("SSIM, whole image", 3),
    "ssim_head": ("SSIM, head and body", 3),
    "identity": ("identity, cosine to the portrait", 3),
    "rotation_error_degrees": ("head rotation, error in degrees", 2),
    "distance_error": ("head distance, mean absolute error", 3),
    "gaze_mae_degrees": ("gaze, mean absolute error in degrees", 2),
    "lids_mae": ("lids, mean absolute error", 3),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "mouth_r": ("mouth opening, r per person", 3),
    "landmark_error_pixels": ("landmarks, error in pixels of 128", 2),
}
LINEAR_PROBE_COLUMNS = {
    "dynamics": "z_dyn",
    "pose": "z_pose",
    "truth": "exact dynamics",
    "shuffled": "z_dyn of another row",
    "chance": "chance",
    "wanted": "wanted of z_dyn",
}
# (title, digits, what is wanted of the dynamics).
LINEAR_PROBE_ROWS = {
    "identity": ("who it is, accuracy", 3, ""),
    "yaw": ("head yaw, R2", 3, "<= 0.1"),
    "pitch": ("head pitch, R2", 3, "<= 0.1"),
    "roll": ("head roll, R2", 3, "<= 0.1"),
    "rotation": ("mean of the three, R2", 3, "<= 0.1"),
    "mouth": ("mouth opening, R2", 3, ">= 0.8"),
    "gaze": ("gaze in the head, R2", 3, ">= 0.8"),
    "lids": ("lids, R2", 3, ">= 0.8"),
}
CHANGE_COLUMNS = {"pose": "only the pose changes", "dynamics": "only the dynamics change"}
LATENT_ROWS: Rows = {
    "dynamics": ("z_dyn moves, over what it moves when both change", 3),
    "rotation": ("z_pose turns, degrees", 2),
    "position": ("z_pose shifts, half images", 3),
}
IMAGE_ROWS: Rows = {
    "mouth": ("mouth opening", 4),
    "lids": ("lids", 3),
    "gaze": ("gaze in the head, degrees", 2),
    "rotation": ("head rotation, degrees", 2),
}


@dataclasses.dataclass(frozen=True)
class Latents:
    """Holds what the codec made of N images, beside whose they are and what they truly show."""

    values: np.ndarray  # (N, 137)
    person: np.ndarray  # (N,) whose image it is
    owner: np.ndarray  # (N,) for whom the motion was drawn
    still: np.ndarray  # (N,) its number there
    labels: dict[str, np.ndarray]  # held_out.LABELS
    motion: dict[str, np.ndarray]  # (N,) by name


def evaluate_face(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the codec in `config.checkpoint`, by the face probe in `config.face_evaluation.instrument`."""
    from vasa_jax.generation.animator import PortraitAnimator
    from vasa_jax.weights.parts import load_part

    reader = FaceReader.from_pretrained(config.face_evaluation.instrument)
    codec = PortraitAnimator(load_part(config.checkpoint, "face"), config.decode_batch, mark=False)
    return CodecEvaluator(codec, config.face_evaluation, config.seed, reader).run(workdir)


class CodecEvaluator:
    """Measures a codec on the held-out stills."""

    def __init__(self, codec: Codec, settings: FaceEvaluationConfig, seed: int, reader: FaceReader):
        self._codec, self._settings, self._seed, self._reader = codec, settings, seed, reader
        self._points = landmark_indices(reader.points)

    def run(self, workdir: str | Path) -> dict[str, Any]:
        """Writes report.md, report.json and sheet.png to the workdir, prints the table and returns the report."""
        s, workdir = self._settings, Path(workdir)
        people = HeldOutStills(s.people, s.stills, s.mixed, self._codec.image_size, self._seed, s.supersample)
        heads, latents, readings, rows = [], [], [], []
        for index in range(len(people)):
            person = people[index]
            measured, own, reading, images = self._person(person, index)
            heads.append(measured)
            latents += own
            readings.append((person.stills.labels | {"landmarks": person.stills.landmarks}, reading))
            rows.append(images)
            cross = measured["table"]["cross"]["psnr"]
            logging.info("%s: across heads %.2f dB (%d of %d)", person.name, cross, index + 1, s.people)
        sheets.save(workdir / "sheet.png", sheets.grid(rows))
        report = self._summary(heads, _joined(latents), readings)
        save_report(report, codec_markdown(report), workdir)
        return report

    def _person(self, person: HeldOutPerson, index: int):
        """Returns (metrics, latents of its and its driver's images, the reading of the true ones, a sheet row)."""
        stills, drivers, partner = person.stills, person.drivers, person.partner()
        avatar, portrait = self._codec.prepare(person.portrait), self._reader.measure(person.portrait[None])
        own, other, mixed = (self._codec.encode_motion(part.rgb) for part in (stills, drivers, person.mixed))
        here, there = own[: len(mixed)], own[partner]
        same, cross, swapped = (
            np.concatenate(list(self._codec.render(avatar, motion)))
            for motion in (own, other, np.concatenate([there[:, :POSE_DIM], here[:, POSE_DIM:]], -1))
        )
        read = {name: self._reader.measure(video) for name, video in (("same", same), ("cross", cross))}
        read["truth"] = self._reader.measure(stills.rgb)
        read["portrait"] = portrait[np.zeros(len(own), int)]
        shown = {"same": same, "cross": cross, "portrait": np.repeat(person.portrait[None], len(own), 0)}
        table = {column: self._reading_metrics(read[column], stills, portrait) for column in COLUMNS}
        for column, video in shown.items():
            table[column] |= image_metrics(video, stills.rgb, stills.mask)
        lids = stills.labels["lids"]
        lids = lids[: len(mixed)], lids[partner]
        reread = {"decoded": (read["same"], swapped), "true": (read["truth"], person.mixed.rgb)}
        measured = {
            "name": person.name,
            "table": table,
            "encoder": {
                "rotation_error": float(metrics.rotation_error_degrees(own, stills.labels["pose"]).mean()),
                "position_error": float(np.linalg.norm(own[:, 7:9] - stills.labels["pose"][:, 7:9], axis=-1).mean()),
            },
            "latents": latent_changes(here, there, mixed),
            "images": {
                name: reading_changes(reading[: len(mixed)], reading[partner], self._reader.measure(video), *lids)
                for name, (reading, video) in reread.items()
            },
            "swapped": image_metrics(swapped, person.mixed.rgb, person.mixed.mask),
        }
        following = (index + 1) % self._settings.people
        latents = [_latents(own, stills, index, index), _latents(other, drivers, following, index)]
        row = [person.portrait, stills.rgb[0], same[0], drivers.rgb[0], cross[0], person.mixed.rgb[0], swapped[0]]
        return measured, latents, read["truth"], row

    def _reading_metrics(self, reading: Measurements, truth: Stills, portrait: Measurements) -> Metrics:
        labels = truth.labels | {"landmarks": truth.landmarks[:, self._points], "person": np.zeros(len(truth.rgb))}
        identity = float(metrics.cosine(reading.embedding, portrait.embedding).mean())
        return reading_errors(reading, labels) | {"identity": identity}

    def _summary(
        self, heads: list[dict], latents: Latents, readings: list[tuple[dict, Measurements]]
    ) -> dict[str, Any]:
        table = {
            column: {name: spread(head["table"][column][name] for head in heads) for name in heads[0]["table"][column]}
            for column in COLUMNS
        }
        return {
            "set": HELD_OUT_STILLS,
            "settings": dataclasses.asdict(self._settings) | {"seed": self._seed},
            "face_probe": {
                "here": probe_errors(self._reader, readings),
                "training": self._reader.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in readings)),
            },
            "table": table,
            "different_people": different_people([reading for _, reading in readings]),
            "encoder": {name: spread(head["encoder"][name] for head in heads) for name in heads[0]["encoder"]},
            "probes": linear_probes(latents, self._seed),
            "latents": _spread_changes([head["latents"] for head in heads]),
            "images": {name: _spread_changes([head["images"][name] for head in heads]) for name in heads[0]["images"]},
            "swapped": {name: spread(head["swapped"][name] for head in heads) for name in heads[0]["swapped"]},
            "heads": heads,
        }


def linear_probes(latents: Latents, seed: int) -> dict[str, Metrics]:
    """Returns {input: {metric: value}}: what linear probes read off the latents of people they were not fitted on.

    Inputs are the dynamics and the pose; `truth`, the exact dynamics of the scene (what any linear probe can get of
    perfect dynamics); `shuffled`, the dynamics of another row. Metrics are R2 of yaw, pitch, roll, mouth opening, lids
    and gaze in the head (open eyes). Their probes saw neither the person nor the motion. `identity` is the accuracy
    of naming the person, by probes that saw the person in other motions.
    """
    shuffled = np.random.default_rng(seed).permutation(len(latents.values))
    inputs = {
        "dynamics": latents.values[:, POSE_DIM:],
        "pose": latents.values[:, :POSE_DIM],
        "truth": np.stack([latents.motion[name] for name in DYNAMICS], -1),
        "shuffled": latents.values[shuffled, POSE_DIM:],
    }
    angles = head_angles(latents.labels["pose"])
    targets = dict(zip(("yaw", "pitch", "roll"), angles.T, strict=True))
    targets |= {"mouth": latents.labels["mouth"], "lid_left": latents.labels["lids"][:, 0]}
    targets |= {"lid_right": latents.labels["lids"][:, 1]}
    # In the head: seen from the camera, the eyes of a head that turns would count as pose.
    eyes = {name: latents.motion[name] for name in ("gaze_yaw", "gaze_pitch")}
    open_ = latents.labels["lids"].mean(-1) > OPEN_LIDS
    # Neighbours share motions, so people are left out in runs of neighbours.
    people = int(latents.person.max()) + 1
    block = np.stack([latents.person, latents.owner], -1) * min(FOLDS, people) // people
    results = {}
    for source, x in inputs.items():
        found = _explained(x, targets, block)
        found |= _explained(x[open_], {name: y[open_] for name, y in eyes.items()}, block[open_])
        for name, parts in MEANS.items():
            found[name] = float(np.mean([found[part] for part in parts]))
        found["identity"] = class_accuracy(x, latents.person, splits_by_block(latents.still % FOLDS))
        results[source] = found
    results["chance"] = {"identity": 1.0 / len(np.unique(latents.person))}
    return results


def _explained(x: np.ndarray, targets: dict[str, np.ndarray], block: np.ndarray) -> dict[str, float]:
    y = np.stack(list(targets.values()), -1)
    r2 = r_squared(held_out_predictions(x, y, splits_by_block(block)), y)
    return dict(zip(targets, r2.tolist(), strict=True))


def _latents(values: np.ndarray, stills: Stills, person: int, owner: int) -> Latents:
    count = len(values)
    return Latents(
        values, np.full(count, person), np.full(count, owner), np.arange(count), stills.labels, stills.motion
    )


def _joined(parts: list[Latents]) -> Latents:
    def join(values):
        if isinstance(values[0], dict):
            return {name: join([value[name] for value in values]) for name in values[0]}
        return np.concatenate(values)

    return Latents(**{f.name: join([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Latents)})


def _spread_changes(heads: list[dict]) -> dict[str, dict[str, Any]]:
    return {
        factor: {name: spread(head[factor][name] for head in heads) for name in heads[0][factor]} for factor in heads[0]
    }


def latent_changes(here: np.ndarray, there: np.ndarray, mixed: np.ndarray) -> Changes:
    """Returns {what changes: {latent: how far it moves}} of the latents (K, 137) of three stills of one person.

    `here` (pose 1, dynamics 1), `there` (pose 2, dynamics 2) and `mixed` (pose 2, dynamics 1): from here to mixed only
    the pose changes, from there to mixed only the dynamics. dynamics: root mean square distance over that from here to
    there, where both factors change; rotation: degrees; position: in half images.
    """
    both = _distance(here[:, POSE_DIM:], there[:, POSE_DIM:])

    def change(before: np.ndarray) -> dict[str, float]:
        return {
            "dynamics": _distance(before[:, POSE_DIM:], mixed[:, POSE_DIM:]) / max(both, 1e-12),
            "rotation": float(metrics.rotation_error_degrees(before, mixed).mean()),
            "position": float(np.linalg.norm(before[:, 7:9] - mixed[:, 7:9], axis=-1).mean()),
        }

    return {"pose": change(here), "dynamics": change(there)}


def reading_changes(
    here: Measurements, there: Measurements, mixed: Measurements, lids_here: np.ndarray, lids_there: np.ndarray
) -> Changes:
    """Returns {what changes: {metric: mean absolute change}} of what the face probe reads in K images of each kind.

    The three kinds are those of `latent_changes`. mouth and lids: of the opening; gaze: degrees in the head's own
    frame, where both true lid openings (K, 2) are open; rotation: degrees.
    """

    def change(before: Measurements, lids: np.ndarray) -> dict[str, float]:
        seen = np.minimum(lids, lids_here).mean(-1) > OPEN_LIDS
        turned = np.abs(metrics.gaze_in_head(before.gaze, before.pose) - metrics.gaze_in_head(mixed.gaze, mixed.pose))
        return {
            "mouth": float(np.abs(before.mouth - mixed.mouth).mean()),
            "lids": float(np.abs(before.lids - mixed.lids).mean()),
            "gaze": float(turned[seen].mean()) if seen.any() else float("nan"),
            "rotation": float(metrics.rotation_error_degrees(before.pose, mixed.pose).mean()),
        }

    return {"pose": change(here, lids_here), "dynamics": change(there, lids_there)}


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(np.asarray(a, np.float64) - b).sum(-1).mean()))


def codec_markdown(report: dict[str, Any]) -> str:
    """Writes the tables: the face probe's own errors first, then reenactment, linear probes and exchanged factors."""
    s, face_probe = report["settings"], report["face_probe"]
    images = {
        f"{source} {factor}": report["images"][source][factor]
        for factor in CHANGE_COLUMNS
        for source in ("decoded", "true")
    }
    image_columns = {
        f"{source} {factor}": f"{title}, {source}"
        for factor, title in CHANGE_COLUMNS.items()
        for source in ("decoded", "true")
    }
    encoder, swapped = report["encoder"], report["swapped"]
    lines = [
        "# The codec on held-out people",
        "",
        f"{report['set']}: {s['people']} people in {s['stills']} broad stills each, seed {s['seed']}; head poses are "
        "drawn apart from the dynamics. Mean +- standard error over people.",
        "",
        "## The face probe's own errors on true renders",
        "",
        *probe_table(face_probe["here"], "these true images", face_probe["training"]),
        "",
        f"These true images: {face_probe['frames']} of {s['people']} people. "
        "Broad stills: when the face probe was trained.",
        "",
        "## True images drive the portrait",
        "",
        *metrics_table(ROWS, COLUMNS, report["table"]),
        "",
        "Against the exact truth: the person itself in the driver's motion. Across people: the drivers are another "
        f"person's images. Identity of two different people: {cell(report['different_people'], 3)}. The "
        f"codec's own pose encoder errs by {cell(encoder['rotation_error'], 2)} degrees and "
        f"{cell(encoder['position_error'], 3)} half images on the true ones. Sheet, by columns: portrait; "
        "own driver, which is the truth; decoded; another person's driver; decoded; the first driver's dynamics in "
        "another head pose, true; decoded from the two drivers' latents.",
        "",
        "## Linear probes on frozen latents",
        "",
        *_probe_table(report["probes"]),
        "",
        "Ridge regression. R2: fitted on other people in other motions. Accuracy: fitted on other motions of the same "
        "people, who keep their light and surroundings. Exact dynamics: the scene's own numbers in the place of the "
        "code, what a linear probe gets of perfect dynamics.",
        "",
        "## One factor changed at a time",
        "",
        *metrics_table(LATENT_ROWS, CHANGE_COLUMNS, report["latents"]),
        "",
        f"{s['mixed']} true images per person with the dynamics of one still and the head pose of another. Separate "
        "latents: zero where the other factor changes.",
        "",
        *metrics_table(IMAGE_ROWS, image_columns, images),
        "",
        "What the face probe reads, mean absolute change. Decoded: the latents of two stills, exchanged. True: the "
        "same exchange, rendered; what it shows where nothing should change is the face probe's own error. Decoded "
        f"images with exchanged pose against the exact truth: PSNR {cell(swapped['psnr'], 2)} dB, head and "
        f"body {cell(swapped['psnr_head'], 2)} dB, SSIM {cell(swapped['ssim'], 3)}.",
        "",
    ]
    return "\n".join(lines)


def _probe_table(probes: dict[str, dict[str, float]]) -> list[str]:
    rows = []
    for name, (title, digits, wanted) in LINEAR_PROBE_ROWS.items():
        cells = [number_cell(probes[column].get(name), digits) for column in LINEAR_PROBE_COLUMNS if column != "wanted"]
        rows.append([title, *cells, wanted])
    return markdown_table(["", *LINEAR_PROBE_COLUMNS.values()], rows)
