"""Job `evaluate`: held-out heads speak, the face probe reads the result, and references stand beside each metric.

    python -m vasa_jax.main --config configs/evaluate.py --config.checkpoint=runs/model

References, in the columns of the table:
  truth      the true video, measured by the same probe: what no generator can beat (the ceiling)
  second     another true performance of the same sound, from labels: how much of a metric the sound leaves open
  shuffled   generated for the same portrait from another clip's sound: what is got without listening
  constant   the portrait, held still
Codec rows leave the motion model out: true frames are encoded and drive the portrait, of the same head and across
heads.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation import metrics, sheets
from vasa_jax.evaluation.face_readings import FaceReader, Measurements, different_people
from vasa_jax.evaluation.held_out import HELD_OUT_SET, HeldOutHead, HeldOutSet
from vasa_jax.evaluation.image_metrics import image_metrics
from vasa_jax.evaluation.metrics import spread
from vasa_jax.evaluation.report import Rows, cell, metrics_table, probe_lines, save_report, setting
from vasa_jax.evaluation.stage import Generator, Stage, asked_throughout, label_metrics, probe_errors, stated
from vasa_jax.generation.control_track import controls_of

# What this project calls done: the mean over clips of Pearson's r between generated and true mouth opening.
REQUIRED_MOUTH_R = 0.6
RENDERED_SECONDS = 2.0  # of each clip's truth, for the truth column, the probe's errors and the sheets
SHUFFLED_STRIDE = 3  # every n-th frame of the video from another clip's sound is decoded
SHEET_COLUMNS = 8

COLUMNS = {
    "generated": "generated",
    "truth": "truth, measured",
    "second": "second true take",
    "shuffled": "shuffled audio",
    "constant": "constant motion",
}
ROWS: Rows = {
    "mouth_r": ("mouth opening, r per clip", 3),
    "mouth_r_pooled": ("mouth opening, r over all frames", 3),
    "mouth_r_at_offset": ("mouth opening, r at the best offset", 3),
    "mouth_offset": ("best offset, frames (+ is late)", 2),
    "mouth_offset_size": ("best offset, absolute, frames", 2),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "mouth_closed": ("opening while the true mouth is closed", 4),
    "mouth_open": ("opening while it is open", 4),
    "lip_shape_r": ("width and height of the lips, r per clip", 3),
    "lip_shape_mae": ("width and height of the lips, mean absolute error", 4),
    "head_motion": ("head motion, degrees per frame", 3),
    "head_motion_ratio": ("head motion over the clip's true one", 2),
    "head_r": ("head rotation, r per clip", 3),
    "pose_audio_r": ("speed of the head against loudness, r", 3),
    "blinks": ("blinks per minute", 1),
    "identity": ("identity, cosine to the portrait", 3),
    "gaze_error": ("main gaze, error in degrees", 1),
    "distance_error": ("head distance, error", 3),
}
CODEC_COLUMNS = {"same": "same head", "cross": "across heads", "portrait": "portrait, unmoved"}
CODEC_ROWS: Rows = {
    "psnr": ("PSNR, whole image, dB", 2),
    "psnr_head": ("PSNR, head and body, dB", 2),
    "ssim": ("SSIM, whole image", 3),
    "ssim_head": ("SSIM, head and body", 3),
    "mouth_r_pooled": ("mouth opening, r over all frames", 3),
    "rotation_error": ("head rotation, error in degrees", 2),
    "identity": ("identity, cosine to the portrait", 3),
}


def evaluate(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the model in `config.checkpoint`, measured by the face probe beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    reader = FaceReader.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    return TalkingEvaluator(generator, config, reader).run(workdir)


class TalkingEvaluator:
    """Measures a generator on the held-out set; the report is a function of the weights and of `config`.

    Takes are generated with the config's controls. Each clip's own main gaze and distance are given, as far as the
    weights know them.
    """

    def __init__(self, generator: Generator, config: VASAConfig, reader: FaceReader):
        self._generator, self._config, self._reader = generator, config, reader
        self._settings, self._controls = config.evaluation, controls_of(config)
        known = generator.trained_controls
        self._given = tuple(name for name in ("gaze", "distance") if name in known)
        self._asked = asked_throughout(self._controls, known)

    def run(self, workdir: str | Path) -> dict[str, Any]:
        """Writes report.md, report.json and sheets/ to the workdir, prints the table and returns the report."""
        s, config, workdir = self._settings, self._config, Path(workdir)
        held_out = HeldOutSet(
            s.heads, s.seconds, RENDERED_SECONDS, self._generator.image_size, config.seed, config.corpus.supersample,
            speech=config.corpus.speech,
        )  # fmt: skip
        heads, codec, truths, faces = [], [], [], []
        following = first = held_out[0]
        for index in range(len(held_out)):
            head = following
            following = held_out[index + 1] if index + 1 < len(held_out) else first
            stage = Stage(self._generator, self._reader, head)
            results, measured, video = self._head(stage, following, index)
            heads.append(results)
            truths.append((head, measured))
            pairs, images = self._codec(stage, following.identity, held_out)
            codec.append(pairs)
            faces.append([head.portrait, *images])
            self._sheet(workdir, head, video, results)
            logging.info("%s: mouth r %.3f (%d of %d)", head.name, results["generated"]["mouth_r"], index + 1, s.heads)
        sheets.save(workdir / "sheets" / "codec.png", sheets.grid(faces))
        report = self._summary(heads, codec, truths)
        save_report(report, talking_markdown(report), workdir)
        return report

    # One head ---------------------------------------------------------------------------------------------------------

    def _head(self, stage: Stage, other: HeldOutHead, index: int):
        """Returns ({column: {metric: value}}, the reading of the true frames, the generated video)."""
        s, head, points = self._settings, stage.head, self._reader.points
        given = {name: getattr(head, name) for name in self._given}
        first = 1_000 * self._config.seed + s.samples * index
        takes = [
            stage.take(dataclasses.replace(self._controls, seed=first + sample, **given)) for sample in range(s.samples)
        ]
        seeded = dataclasses.replace(self._controls, seed=first, **given)
        shuffled = stage.take(seeded, other.samples, slice(None, None, SHUFFLED_STRIDE))
        still, truth = stage.still(), stage.truth()
        columns = {
            "generated": metrics.mean_metrics([take.metrics for take in takes]),
            "truth": truth.metrics,
            "second": label_metrics(head.second, head, points),
            "shuffled": shuffled.metrics,
            "constant": still.metrics,
            "labels": label_metrics(head.truth, head, points),
            "tracks": {"truth": head.truth["mouth"], "generated": takes[0].reading.mouth,
                       "shuffled": shuffled.reading.mouth, "constant": still.reading.mouth,
                       "second": head.second["mouth"], "truth_measured": truth.reading.mouth},
        }  # fmt: skip
        return columns, truth.reading, takes[0].frames

    # The codec alone --------------------------------------------------------------------------------------------------

    def _codec(self, stage: Stage, other: dict, held_out: HeldOutSet):
        """Returns ({row: metrics}, [truth, same-head, cross-head images]): true frames drive the portrait.

        `other` is the identity whose images with this head's motion are the cross-head drivers.
        """
        head = stage.head
        rows = np.linspace(0, len(head.frames) - 1, self._settings.codec_frames).round().astype(int)
        truth, mask = head.frames[rows], head.masks[rows]
        moved = {name: track[head.window][rows] for name, track in head.motion.items()}
        drivers = {"same": truth, "cross": held_out.render(other, moved)["rgb"]}
        results, images = {}, [truth[len(rows) // 2]]
        for name, driver in drivers.items():
            video = stage.video(self._generator.encode_motion(driver))
            reading = self._reader.measure(video)
            images.append(video[len(rows) // 2])
            results[name] = image_metrics(video, truth, mask) | {
                "identity": float(metrics.cosine(reading.embedding, stage.portrait.embedding).mean()),
                "rotation_error": float(
                    metrics.rotation_error_degrees(reading.pose, head.in_window("pose")[rows]).mean()
                ),
                "mouth": reading.mouth,
            }
        still = np.repeat(head.portrait[None], len(rows), 0)
        results["portrait"] = image_metrics(still, truth, mask)
        results["true_mouth"] = head.in_window("mouth")[rows]
        return results, images

    # All heads --------------------------------------------------------------------------------------------------------

    def _summary(self, heads: list[dict], codec: list[dict], truths: list[tuple[HeldOutHead, Measurements]]):
        columns = tuple(COLUMNS)
        table = {
            name: {column: spread([head[column].get(name) for head in heads]) for column in columns}
            for name in heads[0]["generated"]
        }
        every, window = slice(None, None, SHUFFLED_STRIDE), truths[0][0].window
        used = {"generated": slice(None), "truth_measured": window, "second": slice(None), "shuffled": every,
                "constant": slice(None)}  # fmt: skip
        table["mouth_r_pooled"] = {
            column: {"mean": metrics.pooled_pearson([(h["tracks"][track], h["tracks"]["truth"][part]) for h in heads])}
            for column, (track, part) in zip(columns, used.items())
        }
        table["head_motion"]["labels"] = spread([head["labels"]["head_motion"] for head in heads])
        table["blinks"]["labels"] = spread([head["labels"]["blinks"] for head in heads])
        return {
            "set": HELD_OUT_SET,
            "settings": stated(self._controls)
            | dataclasses.asdict(self._settings)
            | {
                "rendered_seconds": RENDERED_SECONDS,
                "shuffled_stride": SHUFFLED_STRIDE,
                "supersample": self._config.corpus.supersample,
                "speech": self._config.corpus.speech,
            },
            "controls": [*self._given, *self._asked],
            "face_probe": {
                "talking": probe_errors(self._reader, [(head.shown, reading) for head, reading in truths]),
                "training": self._reader.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in truths)),
            },
            "table": table,
            "different_people": different_people([reading for _, reading in truths]),
            "codec": _codec_table(codec),
            "heads": [
                {"name": truth.name, "text": truth.text} | {column: head[column] for column in columns}
                for (truth, _), head in zip(truths, heads)
            ],
        }

    def _sheet(self, workdir: Path, head: HeldOutHead, video: np.ndarray, results: dict) -> None:
        rows = np.linspace(0, len(head.frames) - 1, SHEET_COLUMNS).round().astype(int)
        generated = video[head.window][rows]
        images = sheets.grid([[head.portrait, *head.frames[rows]], [head.portrait, *generated]])
        tracks, r = results["tracks"], results["generated"]["mouth_r"]
        curves = sheets.curves(
            {"truth": tracks["truth"], f"generated, r = {r:.2f}": tracks["generated"]},
            title=f"{head.name}: mouth opening, {len(tracks['truth'])} frames. {head.text}",
            width=images.shape[1],
        )
        sheets.save(workdir / "sheets" / f"{head.name}.png", np.concatenate([images, curves]))


def _codec_table(heads: list[dict]) -> dict[str, dict[str, Any]]:
    """Returns {row: {metric: {mean, error}}} over heads of what `TalkingEvaluator._codec` measured."""
    table: dict[str, dict[str, Any]] = {}
    for row in CODEC_COLUMNS:
        table[row] = {name: spread([head[row][name] for head in heads]) for name in heads[0][row] if name != "mouth"}
        if row != "portrait":
            pairs = [(head[row]["mouth"], head["true_mouth"]) for head in heads]
            table[row]["mouth_r_pooled"] = {"mean": metrics.pooled_pearson(pairs)}
    return table


def talking_markdown(report: dict[str, Any]) -> str:
    """Writes the tables: the face probe's own errors first, then the generator, then the codec alone."""
    s, table = report["settings"], report["table"]
    r, error = table["mouth_r"]["generated"]["mean"], table["mouth_r"]["generated"]["error"]
    verdict = "reached" if r >= REQUIRED_MOUTH_R else "not reached"
    by_column = {column: {name: row.get(column) for name, row in table.items()} for column in COLUMNS}
    lines = [
        "# Evaluation on held-out heads, voices and sentences",
        "",
        f"{report['set']}: {s['heads']} heads, {s['seconds']:g} s each, {s['samples']} generated per clip, "
        f"{s['steps']} steps, audio guidance {setting(s['audio_guidance'])}, seed {s['seed']}, "
        f"controls given: {', '.join(report['controls']) or 'none'}.",
        "",
        *probe_lines(report["face_probe"], s["heads"]),
        "## Generated videos",
        "",
        f"Mouth opening: r = {r:.3f} +- {error:.3f}; {REQUIRED_MOUTH_R} is {verdict}.",
        "",
        *metrics_table(ROWS, COLUMNS, by_column),
        "",
        "Mean +- standard error over heads. Head motion is the mean absolute change of yaw, pitch and roll between "
        "frames, of poses smoothed over five frames, everywhere alike; by the exact labels it is "
        f"{cell(table['head_motion'].get('labels'), 3)}, and blinks per minute are "
        f"{cell(table['blinks'].get('labels'), 1)}. "
        f"Truth is measured over the middle {s['rendered_seconds']:g} s of each clip. Identity of two different "
        f"people: {cell(report['different_people'], 3)}. Opening is the distance of the inner lips over that of the "
        "eyes.",
        "",
        "## The codec alone: true frames drive the portrait",
        "",
        *metrics_table(CODEC_ROWS, CODEC_COLUMNS, report["codec"]),
        "",
        f"{s['codec_frames']} frames per head, against the exact truth. Across heads: frames of another head with the "
        "same motion. Portrait, unmoved: what is got by doing nothing.",
        "",
    ]
    return "\n".join(lines)
