"""The report on a codec alone: held-out people in true pictures, whose motion drives portraits; no speech.

Columns of the first table:
  same       a person's portrait in the motion of its own pictures: self-reenactment
  cross      in the motion of another person's pictures, of which the same motion on the person itself is the truth
  truth      the true pictures, measured by the same instrument: the ceiling of what is measured
  portrait   the portrait, unmoved: what is got by doing nothing
Then what can be read off the frozen latents by linear probes, and what moves when only the head pose or only the
dynamics change.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import FaceEvaluationConfig, VASAConfig
from vasa_jax.conventions import POSE_DIM, head_angles
from vasa_jax.evaluation import measures, sheets
from vasa_jax.evaluation.exchange import OPEN_LIDS, latent_changes, picture_changes
from vasa_jax.evaluation.face_report import face_markdown
from vasa_jax.evaluation.figures import different_people, instrument_figures
from vasa_jax.evaluation.held_out import landmark_indices
from vasa_jax.evaluation.held_out_stills import DYNAMICS, HELD_OUT_STILLS, HeldOutPerson, HeldOutStills, Stills
from vasa_jax.evaluation.instrument import Instrument, Measurements, instrument_errors
from vasa_jax.evaluation.measures import spread
from vasa_jax.evaluation.picture_figures import picture_figures
from vasa_jax.evaluation.probes import class_accuracy, held_out_predictions, r_squared, splits_by_block
from vasa_jax.evaluation.report import save_report
from vasa_jax.evaluation.stage import Codec

FOLDS = 5
# Figures of several probes.
MEANS = {"rotation": ("yaw", "pitch", "roll"), "lids": ("lid_left", "lid_right"), "gaze": ("gaze_yaw", "gaze_pitch")}
COLUMNS = ("same", "cross", "truth", "portrait")


@dataclasses.dataclass(frozen=True)
class Codes:
    """What the codec made of N pictures, beside whose they are and what they truly show."""

    latents: np.ndarray  # (N, 137)
    person: np.ndarray  # (N,) whose picture it is
    owner: np.ndarray  # (N,) for whom the motion was drawn
    still: np.ndarray  # (N,) its number there
    labels: dict[str, np.ndarray]  # held_out.LABELS
    motion: dict[str, np.ndarray]  # (N,) by name


def evaluate_face(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """The `evaluate_face` job: the report on the codec in `config.checkpoint`."""
    from vasa_jax.generation.animator import PortraitAnimator
    from vasa_jax.weights.parts import load_part

    instrument = Instrument.from_pretrained(config.face_evaluation.instrument)
    codec = PortraitAnimator(load_part(config.checkpoint, "face"), config.decode_batch, mark=False)
    return FaceEvaluator(codec, config.face_evaluation, config.seed, instrument).run(workdir)


class FaceEvaluator:
    """Measures a codec on the held-out stills."""

    def __init__(self, codec: Codec, settings: FaceEvaluationConfig, seed: int, instrument: Instrument):
        self._codec, self._settings, self._seed, self._instrument = codec, settings, seed, instrument
        self._points = landmark_indices(instrument.points)

    def run(self, workdir: str | Path) -> dict[str, Any]:
        """Writes report.md, report.json and sheet.png to the workdir, prints the table and returns the report."""
        s, workdir = self._settings, Path(workdir)
        people = HeldOutStills(s.people, s.stills, s.mixed, self._codec.image_size, self._seed, s.supersample)
        heads, codes, readings, rows = [], [], [], []
        for index in range(len(people)):
            person = people[index]
            figures, own, reading, pictures = self._person(person, index)
            heads.append(figures)
            codes += own
            readings.append((person.stills.labels | {"landmarks": person.stills.landmarks}, reading))
            rows.append(pictures)
            cross = figures["table"]["cross"]["psnr"]
            logging.info("%s: across heads %.2f dB (%d of %d)", person.name, cross, index + 1, s.people)
        sheets.save(workdir / "sheet.png", sheets.grid(rows))
        report = self._summary(heads, _joined(codes), readings)
        save_report(report, face_markdown(report), workdir)
        return report

    def _person(self, person: HeldOutPerson, index: int):
        """(figures, codes of its and its driver's pictures, the instrument's reading of the true ones, a sheet row)."""
        stills, drivers, partner = person.stills, person.drivers, person.partner()
        avatar, portrait = self._codec.prepare(person.portrait), self._instrument.measure(person.portrait[None])
        own, other, mixed = (self._codec.encode_motion(part.rgb) for part in (stills, drivers, person.mixed))
        here, there = own[: len(mixed)], own[partner]
        same, cross, swapped = (
            np.concatenate(list(self._codec.render(avatar, motion)))
            for motion in (own, other, np.concatenate([there[:, :POSE_DIM], here[:, POSE_DIM:]], -1))
        )
        read = {name: self._instrument.measure(video) for name, video in (("same", same), ("cross", cross))}
        read["truth"] = self._instrument.measure(stills.rgb)
        read["portrait"] = portrait[np.zeros(len(own), int)]
        shown = {"same": same, "cross": cross, "portrait": np.repeat(person.portrait[None], len(own), 0)}
        table = {column: self._reading_figures(read[column], stills, portrait) for column in COLUMNS}
        for column, video in shown.items():
            table[column] |= picture_figures(video, stills.rgb, stills.mask)
        lids = stills.labels["lids"]
        lids = lids[: len(mixed)], lids[partner]
        reread = {"decoded": (read["same"], swapped), "true": (read["truth"], person.mixed.rgb)}
        figures = {
            "name": person.name,
            "table": table,
            "encoder": {
                "rotation_error": float(measures.rotation_error_degrees(own, stills.labels["pose"]).mean()),
                "position_error": float(np.linalg.norm(own[:, 7:9] - stills.labels["pose"][:, 7:9], axis=-1).mean()),
            },
            "latents": latent_changes(here, there, mixed),
            "pictures": {
                name: picture_changes(reading[: len(mixed)], reading[partner], self._instrument.measure(video), *lids)
                for name, (reading, video) in reread.items()
            },
            "swapped": picture_figures(swapped, person.mixed.rgb, person.mixed.mask),
        }
        following = (index + 1) % self._settings.people
        codes = [_codes(own, stills, index, index), _codes(other, drivers, following, index)]
        row = [person.portrait, stills.rgb[0], same[0], drivers.rgb[0], cross[0], person.mixed.rgb[0], swapped[0]]
        return figures, codes, read["truth"], row

    def _reading_figures(self, reading: Measurements, truth: Stills, portrait: Measurements) -> dict[str, float]:
        labels = truth.labels | {"landmarks": truth.landmarks[:, self._points], "person": np.zeros(len(truth.rgb))}
        identity = float(measures.cosine(reading.embedding, portrait.embedding).mean())
        return instrument_errors(reading, labels) | {"identity": identity}

    def _summary(self, heads: list[dict], codes: Codes, readings: list[tuple[dict, Measurements]]) -> dict[str, Any]:
        table = {
            column: {name: spread(head["table"][column][name] for head in heads) for name in heads[0]["table"][column]}
            for column in COLUMNS
        }
        return {
            "set": HELD_OUT_STILLS,
            "settings": dataclasses.asdict(self._settings) | {"seed": self._seed},
            "instrument": {
                "here": instrument_figures(self._instrument, readings),
                "training": self._instrument.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in readings)),
            },
            "table": table,
            "different_people": different_people([reading for _, reading in readings]),
            "encoder": {name: spread(head["encoder"][name] for head in heads) for name in heads[0]["encoder"]},
            "probes": probe_figures(codes, self._seed),
            "latents": _spread_changes([head["latents"] for head in heads]),
            "pictures": {
                name: _spread_changes([head["pictures"][name] for head in heads]) for name in heads[0]["pictures"]
            },
            "swapped": {name: spread(head["swapped"][name] for head in heads) for name in heads[0]["swapped"]},
            "heads": heads,
        }


def probe_figures(codes: Codes, seed: int) -> dict[str, dict[str, float]]:
    """{code: {figure: value}}: what linear probes read off the latents of people whom they were not fitted on.

    The codes are the dynamics and the pose; `truth`, the exact dynamics of the scene (what any linear probe can get of
    perfect dynamics); `shuffled`, the dynamics of another row. The figures are R2 of yaw, pitch, roll, mouth opening,
    lids and gaze in the head (open eyes), by probes that saw neither the person nor the motion; and `identity`, the
    accuracy of naming the person, by probes that saw the person in other motions.
    """
    shuffled = np.random.default_rng(seed).permutation(len(codes.latents))
    inputs = {
        "dynamics": codes.latents[:, POSE_DIM:],
        "pose": codes.latents[:, :POSE_DIM],
        "truth": np.stack([codes.motion[name] for name in DYNAMICS], -1),
        "shuffled": codes.latents[shuffled, POSE_DIM:],
    }
    angles = head_angles(codes.labels["pose"])
    targets = dict(zip(("yaw", "pitch", "roll"), angles.T, strict=True))
    targets |= {"mouth": codes.labels["mouth"], "lid_left": codes.labels["lids"][:, 0]}
    targets |= {"lid_right": codes.labels["lids"][:, 1]}
    # In the head: seen from the camera, the eyes of a head that turns would count as pose.
    eyes = {name: codes.motion[name] for name in ("gaze_yaw", "gaze_pitch")}
    open_ = codes.labels["lids"].mean(-1) > OPEN_LIDS
    # Neighbours share motions, so people are left out in runs of neighbours.
    people = int(codes.person.max()) + 1
    block = np.stack([codes.person, codes.owner], -1) * min(FOLDS, people) // people
    figures = {}
    for code, x in inputs.items():
        found = _explained(x, targets, block)
        found |= _explained(x[open_], {name: y[open_] for name, y in eyes.items()}, block[open_])
        for name, parts in MEANS.items():
            found[name] = float(np.mean([found[part] for part in parts]))
        found["identity"] = class_accuracy(x, codes.person, splits_by_block(codes.still % FOLDS))
        figures[code] = found
    figures["chance"] = {"identity": 1.0 / len(np.unique(codes.person))}
    return figures


def _explained(x: np.ndarray, targets: dict[str, np.ndarray], block: np.ndarray) -> dict[str, float]:
    y = np.stack(list(targets.values()), -1)
    r2 = r_squared(held_out_predictions(x, y, splits_by_block(block)), y)
    return dict(zip(targets, r2.tolist(), strict=True))


def _codes(latents: np.ndarray, stills: Stills, person: int, owner: int) -> Codes:
    count = len(latents)
    return Codes(
        latents, np.full(count, person), np.full(count, owner), np.arange(count), stills.labels, stills.motion
    )


def _joined(parts: list[Codes]) -> Codes:
    def join(values):
        if isinstance(values[0], dict):
            return {name: join([value[name] for value in values]) for name in values[0]}
        return np.concatenate(values)

    return Codes(**{f.name: join([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Codes)})


def _spread_changes(heads: list[dict]) -> dict[str, dict[str, Any]]:
    return {
        factor: {name: spread(head[factor][name] for head in heads) for name in heads[0][factor]}
        for factor in heads[0]
    }
