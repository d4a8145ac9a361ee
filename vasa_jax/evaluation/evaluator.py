"""The report on a generator: held-out heads speak, the instrument reads the result, and references stand beside each
figure.

References, in the columns of the table:
  truth      the true video, measured by the same instrument: what no generator can beat (the ceiling)
  second     another true performance of the same sound, from labels: how much of a measure the sound leaves open
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
from vasa_jax.evaluation import measures, sheets
from vasa_jax.evaluation.figures import different_people, instrument_figures, label_figures, mean_figures
from vasa_jax.evaluation.held_out import HELD_OUT_SET, HeldOutHead, HeldOutSet
from vasa_jax.evaluation.instrument import Instrument, Measurements
from vasa_jax.evaluation.measures import spread
from vasa_jax.evaluation.picture_figures import picture_figures
from vasa_jax.evaluation.report import report_markdown, save_report
from vasa_jax.evaluation.stage import Generator, Stage

SHEET_COLUMNS = 8
GENERATOR_SETTINGS = ("steps", "solver", "hop", "look_ahead", "audio_guidance", "gaze_guidance", "blink_rate")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What is measured; the report is a function of these and of the weights."""

    heads: int = 20
    seconds: float = 5.0  # of each clip
    rendered_seconds: float = (
        2.0  # of each clip's truth, for the truth column, the instrument's errors and the pictures
    )
    samples: int = 1  # generated takes per clip, averaged
    codec_frames: int = 6  # true frames per head for the codec's rows
    shuffled_stride: int = 3  # every n-th frame of the video from another clip's sound is decoded
    supersample: int = 2  # rays per pixel side of true pictures
    seed: int = 0
    speech: str = "espeak"  # of config_checks.SPEECH_SOURCES; shipped: the package's few held-out sentences
    steps: int = 25  # of the solver
    solver: str = "dpmpp"
    hop: int = 0  # frames made at once, as a live stream makes them; 0 = whole windows
    look_ahead: int = 0
    audio_guidance: float = 0.5
    gaze_guidance: float = 1.0
    blink_rate: float | None = 15.0  # a minute, as far as the weights know of blinks
    give_controls: bool = True  # the clip's own main gaze and distance are given, as far as the weights know them


def evaluate(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """The `evaluate` job: the report on the model in `config.checkpoint`, by the instrument beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    settings = EvaluationSettings(
        heads=config.evaluation.heads,
        seconds=config.evaluation.seconds,
        samples=config.evaluation.samples,
        codec_frames=config.evaluation.codec_frames,
        supersample=config.corpus.supersample,
        seed=config.seed,
        speech=config.corpus.speech,
        steps=config.steps,
        solver=config.solver,
        hop=config.hop,
        look_ahead=config.look_ahead,
        audio_guidance=config.audio_guidance,
        gaze_guidance=config.gaze_guidance,
        blink_rate=config.blink_rate,
    )
    instrument = Instrument.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    return Evaluator(generator, settings, instrument).run(workdir)


class Evaluator:
    """Measures a generator on the held-out set."""

    def __init__(self, generator: Generator, settings: EvaluationSettings, instrument: Instrument):
        self._generator = generator
        known = generator.trained_controls if settings.give_controls else ()
        self._controls = tuple(name for name in ("gaze", "distance") if name in known)
        self._settings = settings
        blinks = settings.blink_rate is not None and "blinks" in generator.trained_controls
        self._asked = [f"{settings.blink_rate:g} blinks a minute"] if blinks else []
        self._instrument = instrument

    def run(self, workdir: str | Path) -> dict[str, Any]:
        """Writes report.md, report.json and sheets/ to the workdir, prints the table and returns the report."""
        s, workdir = self._settings, Path(workdir)
        size = self._generator.image_size
        held_out = HeldOutSet(s.heads, s.seconds, s.rendered_seconds, size, s.seed, s.supersample, speech=s.speech)
        figures, codec, truths, faces = [], [], [], []
        following = first = held_out[0]
        for index in range(len(held_out)):
            head = following
            following = held_out[index + 1] if index + 1 < len(held_out) else first
            stage = Stage(self._generator, self._instrument, head)
            results, measured, video = self._head(stage, following, index)
            figures.append(results)
            truths.append((head, measured))
            pairs, pictures = self._codec(stage, following.identity, held_out)
            codec.append(pairs)
            faces.append([head.portrait, *pictures])
            self._sheet(workdir, head, video, results)
            logging.info("%s: mouth r %.3f (%d of %d)", head.name, results["generated"]["mouth_r"], index + 1, s.heads)
        sheets.save(workdir / "sheets" / "codec.png", sheets.grid(faces))
        report = self._summary(figures, codec, truths)
        save_report(report, report_markdown(report), workdir)
        return report

    # One head ---------------------------------------------------------------------------------------------------------

    def _head(self, stage: Stage, other: HeldOutHead, index: int):
        """({column: {figure: value}}, the instrument's reading of the true frames, the generated video)."""
        s, head, points = self._settings, stage.head, self._instrument.points
        given = {name: getattr(head, name) for name in self._controls}
        given |= {name: getattr(s, name) for name in GENERATOR_SETTINGS}
        first = 1_000 * s.seed + s.samples * index
        takes = [stage.take(seed=first + sample, **given) for sample in range(s.samples)]
        shuffled = stage.take(other.samples, slice(None, None, s.shuffled_stride), seed=first, **given)
        still, truth = stage.still(), stage.truth()
        columns = {
            "generated": mean_figures([take.figures for take in takes]),
            "truth": truth.figures,
            "second": label_figures(head.second, head, points),
            "shuffled": shuffled.figures,
            "constant": still.figures,
            "labels": label_figures(head.truth, head, points),
            "tracks": {"truth": head.truth["mouth"], "generated": takes[0].reading.mouth,
                       "shuffled": shuffled.reading.mouth, "constant": still.reading.mouth,
                       "second": head.second["mouth"], "truth_measured": truth.reading.mouth},
        }  # fmt: skip
        return columns, truth.reading, takes[0].frames

    # The codec alone --------------------------------------------------------------------------------------------------

    def _codec(self, stage: Stage, other: dict, held_out: HeldOutSet):
        """({row: figures of the head}, [truth, same-head, cross-head pictures]): true frames drive the portrait.

        `other` is the identity whose pictures with this head's motion are the cross-head drivers.
        """
        head = stage.head
        rows = np.linspace(0, len(head.frames) - 1, self._settings.codec_frames).round().astype(int)
        truth, mask = head.frames[rows], head.masks[rows]
        moved = {name: track[head.window][rows] for name, track in head.motion.items()}
        drivers = {"same": truth, "cross": held_out.render(other, moved)["rgb"]}
        results, pictures = {}, [truth[len(rows) // 2]]
        for name, driver in drivers.items():
            video = stage.video(self._generator.encode_motion(driver))
            reading = self._instrument.measure(video)
            pictures.append(video[len(rows) // 2])
            results[name] = picture_figures(video, truth, mask) | {
                "identity": float(measures.cosine(reading.embedding, stage.portrait.embedding).mean()),
                "rotation_error": float(
                    measures.rotation_error_degrees(reading.pose, head.in_window("pose")[rows]).mean()
                ),
                "mouth": reading.mouth,
            }
        still = np.repeat(head.portrait[None], len(rows), 0)
        results["portrait"] = picture_figures(still, truth, mask)
        results["true_mouth"] = head.in_window("mouth")[rows]
        return results, pictures

    # All heads --------------------------------------------------------------------------------------------------------

    def _summary(self, heads: list[dict], codec: list[dict], truths: list[tuple[HeldOutHead, Measurements]]):
        s = self._settings
        columns = ("generated", "truth", "second", "shuffled", "constant")
        names = list(heads[0]["generated"])
        table = {
            name: {column: spread([head[column].get(name) for head in heads]) for column in columns} for name in names
        }
        every, window = slice(None, None, s.shuffled_stride), truths[0][0].window
        used = {"generated": slice(None), "truth_measured": window, "second": slice(None), "shuffled": every,
                "constant": slice(None)}  # fmt: skip
        table["mouth_r_pooled"] = {
            column: {"mean": measures.pooled_pearson([(h["tracks"][track], h["tracks"]["truth"][part]) for h in heads])}
            for column, (track, part) in zip(columns, used.items())
        }
        table["head_motion"]["labels"] = spread([head["labels"]["head_motion"] for head in heads])
        table["blinks"]["labels"] = spread([head["labels"]["blinks"] for head in heads])
        codec_table = {}
        for row in ("same", "cross", "portrait"):
            codec_table[row] = {
                name: spread([head[row][name] for head in codec]) for name in codec[0][row] if name != "mouth"
            }
            if row != "portrait":
                pairs = [(head[row]["mouth"], head["true_mouth"]) for head in codec]
                codec_table[row]["mouth_r_pooled"] = {"mean": measures.pooled_pearson(pairs)}
        return {
            "set": HELD_OUT_SET,
            "settings": dataclasses.asdict(s),
            "controls": [*self._controls, *self._asked],
            "instrument": {
                "talking": instrument_figures(self._instrument, [(head.shown, reading) for head, reading in truths]),
                "training": self._instrument.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in truths)),
            },
            "table": table,
            "different_people": different_people([reading for _, reading in truths]),
            "codec": codec_table,
            "heads": [
                {"name": truth.name, "text": truth.text}
                | {column: head[column] for column in columns}
                for (truth, _), head in zip(truths, heads)
            ],
        }  # fmt: skip

    def _sheet(self, workdir: Path, head: HeldOutHead, video: np.ndarray, results: dict) -> None:
        rows = np.linspace(0, len(head.frames) - 1, SHEET_COLUMNS).round().astype(int)
        generated = video[head.window][rows]
        pictures = sheets.grid([[head.portrait, *head.frames[rows]], [head.portrait, *generated]])
        tracks, figures = results["tracks"], results["generated"]
        curves = sheets.curves(
            {"truth": tracks["truth"], f"generated, r = {figures['mouth_r']:.2f}": tracks["generated"]},
            title=f"{head.name}: mouth opening, {len(tracks['truth'])} frames. {head.text}",
            width=pictures.shape[1],
        )
        sheets.save(workdir / "sheets" / f"{head.name}.png", np.concatenate([pictures, curves]))
