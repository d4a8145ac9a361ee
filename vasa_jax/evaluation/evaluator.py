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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation import measures, sheets
from vasa_jax.evaluation.held_out import HELD_OUT_SET, HeldOutHead, HeldOutSet, landmark_indices
from vasa_jax.evaluation.instrument import Instrument, Measurements, instrument_errors
from vasa_jax.evaluation.report import report_markdown, write_report

SHEET_COLUMNS = 8


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
    solver: str = "ddim"
    hop: int = 0  # frames made at once, as a live stream makes them; 0 = whole windows
    look_ahead: int = 0
    audio_guidance: float = 0.5
    gaze_guidance: float = 1.0
    give_controls: bool = True  # the clip's own main gaze and distance are given, as far as the weights know them


class Generator(Protocol):
    """What is evaluated: `vasa_jax.generation.generator.VideoGenerator`, or anything that acts like it."""

    trained_controls: tuple[str, ...]  # which of gaze, distance, emotion its weights know

    @property
    def image_size(self) -> int: ...

    def prepare(self, portrait: np.ndarray) -> Any:
        """uint8 (n, n, 3) to an avatar."""
        ...

    def encode_motion(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (N, n, n, 3) to pose and dynamics, float32 (N, 137)."""
        ...

    def motion(self, samples: np.ndarray, avatar: Any = None, **settings: Any) -> np.ndarray:
        """16 kHz speech (640 T,) to (T, 137)."""
        ...

    def render(self, avatar: Any, motion: np.ndarray) -> Iterator[np.ndarray]:
        """(T, 137) to batches of uint8 frames (b, n, n, 3)."""
        ...


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
    )
    instrument = Instrument.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch)
    return Evaluator(generator, settings, instrument).run(workdir)


class Evaluator:
    """Measures a generator on the held-out set."""

    def __init__(self, generator: Generator, settings: EvaluationSettings, instrument: Instrument):
        self._generator = generator
        known = generator.trained_controls if settings.give_controls else ()
        self._controls = tuple(name for name in ("gaze", "distance") if name in known)
        self._settings = settings
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
            avatar = self._generator.prepare(head.portrait)
            portrait = self._instrument.measure(head.portrait[None])
            results, measured, video = self._head(head, following, avatar, portrait, index)
            figures.append(results)
            truths.append((head, measured))
            pairs, pictures = self._codec(head, following.identity, avatar, portrait, held_out)
            codec.append(pairs)
            faces.append([head.portrait, *pictures])
            self._sheet(workdir, head, video, results)
            logging.info("%s: mouth r %.3f (%d of %d)", head.name, results["generated"]["mouth_r"], index + 1, s.heads)
        sheets.save(workdir / "sheets" / "codec.png", sheets.grid(faces))
        report = self._summary(figures, codec, truths)
        write_report(report, report_markdown(report), workdir)
        return report

    # One head ---------------------------------------------------------------------------------------------------------

    def _head(self, head: HeldOutHead, other: HeldOutHead, avatar: Any, portrait: Measurements, index: int):
        """({column: {figure: value}}, the instrument's reading of the true frames, the generated video)."""
        s = self._settings
        takes, video = [], None
        for sample in range(s.samples):
            frames = self._video(avatar, self._motion(head, avatar, head.samples, s.samples * index + sample))
            reading = self._instrument.measure(frames)
            takes.append((self._figures(reading, head, portrait, slice(None)), reading.mouth))
            video = frames if video is None else video
        every = slice(None, None, s.shuffled_stride)
        unrelated = self._motion(head, avatar, other.samples, s.samples * index)[every]
        shuffled = self._instrument.measure(self._video(avatar, unrelated))
        still = self._video(avatar, self._generator.encode_motion(head.portrait[None]))
        still = self._instrument.measure(still)[np.zeros(len(head.truth["mouth"]), int)]
        truth = self._instrument.measure(head.frames)
        columns = {
            "generated": _mean_figures([figures for figures, _ in takes]),
            "truth": self._figures(truth, head, portrait, head.window),
            "second": _label_figures(head.second, head),
            "shuffled": self._figures(shuffled, head, portrait, every),
            "constant": self._figures(still, head, portrait, slice(None)),
            "labels": _label_figures(head.truth, head),
            "tracks": {"truth": head.truth["mouth"], "generated": takes[0][1], "shuffled": shuffled.mouth,
                       "constant": still.mouth, "second": head.second["mouth"], "truth_measured": truth.mouth},
        }  # fmt: skip
        return columns, truth, video

    def _motion(self, head: HeldOutHead, avatar: Any, samples: np.ndarray, seed: int) -> np.ndarray:
        s = self._settings
        controls = {name: getattr(head, name) for name in self._controls}
        seed += 1_000 * s.seed
        return self._generator.motion(
            samples, avatar, seed=seed, steps=s.steps, solver=s.solver, hop=s.hop, look_ahead=s.look_ahead,
            audio_guidance=s.audio_guidance, gaze_guidance=s.gaze_guidance, **controls,
        )  # fmt: skip

    def _video(self, avatar: Any, motion: np.ndarray) -> np.ndarray:
        return np.concatenate(list(self._generator.render(avatar, motion)))

    def _figures(self, reading: Measurements, head: HeldOutHead, portrait: Measurements, frames: slice):
        """Figures of a measured video against the truth of `frames`."""
        step = frames.step or 1
        figures = _mouth_figures(reading.mouth, head.truth["mouth"][frames], offsets=step == 1)
        figures |= {
            "gaze_error": _gaze_error(reading.gaze, reading.lids, head.gaze),
            "distance_error": float(abs(np.exp(-reading.pose[:, 6]).mean() - head.distance)),
            "identity": float(measures.cosine(reading.embedding, portrait.embedding).mean()),
        }
        if step == 1:
            motion = measures.head_motion(measures.smooth(reading.pose))
            true = measures.head_motion(measures.smooth(head.truth["pose"][frames]))
            figures |= {
                "head_motion": motion,
                "head_motion_ratio": motion / max(true, 1e-6),
                "head_r": measures.head_correlation(reading.pose, head.truth["pose"][frames]),
                "blinks": measures.blinks_per_minute(reading.lids),
            }
        return figures

    # The codec alone --------------------------------------------------------------------------------------------------

    def _codec(self, head: HeldOutHead, other: dict, avatar: Any, portrait: Measurements, held_out: HeldOutSet):
        """({row: figures of the head}, [truth, same-head, cross-head pictures]): true frames drive the portrait.

        `other` is the identity whose pictures with this head's motion are the cross-head drivers.
        """
        rows = np.linspace(0, len(head.frames) - 1, self._settings.codec_frames).round().astype(int)
        truth, mask = head.frames[rows], head.masks[rows]
        moved = {name: track[head.window][rows] for name, track in head.motion.items()}
        drivers = {"same": truth, "cross": held_out.render(other, moved)["rgb"]}
        results, pictures = {}, [truth[len(rows) // 2]]
        for name, driver in drivers.items():
            video = self._video(avatar, self._generator.encode_motion(driver))
            reading = self._instrument.measure(video)
            pictures.append(video[len(rows) // 2])
            results[name] = _picture_figures(video, truth, mask) | {
                "identity": float(measures.cosine(reading.embedding, portrait.embedding).mean()),
                "rotation_error": float(
                    measures.rotation_error_degrees(reading.pose, head.in_window("pose")[rows]).mean()
                ),
                "mouth": reading.mouth,
            }
        still = np.repeat(head.portrait[None], len(rows), 0)
        results["portrait"] = _picture_figures(still, truth, mask)
        results["true_mouth"] = head.in_window("mouth")[rows]
        return results, pictures

    # All heads --------------------------------------------------------------------------------------------------------

    def _summary(self, heads: list[dict], codec: list[dict], truths: list[tuple[HeldOutHead, Measurements]]):
        s = self._settings
        columns = ("generated", "truth", "second", "shuffled", "constant")
        names = list(heads[0]["generated"])
        table = {
            name: {column: _spread([head[column].get(name) for head in heads]) for column in columns} for name in names
        }
        every, window = slice(None, None, s.shuffled_stride), truths[0][0].window
        used = {"generated": slice(None), "truth_measured": window, "second": slice(None), "shuffled": every,
                "constant": slice(None)}  # fmt: skip
        table["mouth_r_pooled"] = {
            column: {"mean": measures.pooled_pearson([(h["tracks"][track], h["tracks"]["truth"][part]) for h in heads])}
            for column, (track, part) in zip(columns, used.items())
        }
        table["head_motion"]["labels"] = _spread([head["labels"]["head_motion"] for head in heads])
        table["blinks"]["labels"] = _spread([head["labels"]["blinks"] for head in heads])
        embedding = np.stack([reading.embedding.mean(0) for _, reading in truths])
        different = measures.cosine(embedding[:, None], embedding[None])[~np.eye(len(truths), dtype=bool)]
        codec_table = {}
        for row in ("same", "cross", "portrait"):
            codec_table[row] = {
                name: _spread([head[row][name] for head in codec]) for name in codec[0][row] if name != "mouth"
            }
            if row != "portrait":
                pairs = [(head[row]["mouth"], head["true_mouth"]) for head in codec]
                codec_table[row]["mouth_r_pooled"] = {"mean": measures.pooled_pearson(pairs)}
        return {
            "set": HELD_OUT_SET,
            "settings": dataclasses.asdict(s),
            "controls": list(self._controls),
            "instrument": {
                "talking": self._instrument_errors(truths),
                "training": self._instrument.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in truths)),
            },
            "table": table,
            "different_people": _spread(list(different)),
            "codec": codec_table,
            "heads": [
                {"name": truth.name, "text": truth.text}
                | {column: head[column] for column in columns}
                for (truth, _), head in zip(truths, heads)
            ],
        }  # fmt: skip

    def _instrument_errors(self, truths: list[tuple[HeldOutHead, Measurements]]) -> dict[str, float]:
        points = landmark_indices(self._instrument.points)
        labels = {
            name: np.concatenate([head.in_window(name) for head, _ in truths])
            for name in ("mouth", "lids", "gaze", "pose")
        }
        labels["landmarks"] = np.concatenate([head.landmarks[:, points] for head, _ in truths])
        labels["person"] = np.concatenate([np.full(len(head.frames), i) for i, (head, _) in enumerate(truths)])
        fields = [field.name for field in dataclasses.fields(Measurements)]
        joined = {name: np.concatenate([getattr(reading, name) for _, reading in truths]) for name in fields}
        return instrument_errors(Measurements(**joined), labels)

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


def _mouth_figures(mouth: np.ndarray, truth: np.ndarray, offsets: bool = True) -> dict[str, float]:
    """Figures of a mouth track; no offset is searched in a track with frames left out."""
    closed, open_ = measures.closure(mouth, truth)
    figures = {
        "mouth_r": measures.pearson(mouth, truth),
        "mouth_mae": float(np.abs(mouth - truth).mean()),
        "mouth_closed": closed,
        "mouth_open": open_,
    }
    if offsets:
        offset, r = measures.best_offset(mouth, truth)
        figures |= {"mouth_offset": float(offset), "mouth_offset_size": float(abs(offset)), "mouth_r_at_offset": r}
    return figures


def _label_figures(track: dict[str, np.ndarray], head: HeldOutHead) -> dict[str, float]:
    """The figures that labels have, without the instrument."""
    motion = measures.head_motion(measures.smooth(track["pose"]))
    true = measures.head_motion(measures.smooth(head.truth["pose"]))
    return _mouth_figures(track["mouth"], head.truth["mouth"]) | {
        "head_motion": motion,
        "head_motion_ratio": motion / max(true, 1e-6),
        "head_r": measures.head_correlation(track["pose"], head.truth["pose"]),
        "blinks": measures.blinks_per_minute(track["lids"]),
    }


def _gaze_error(gaze_T2: np.ndarray, lids_T2: np.ndarray, wanted: tuple[float, float]) -> float:
    """Degrees between the main direction of the eyes (median over frames with open lids) and the wanted one."""
    seen = lids_T2.mean(-1) > 0.4
    main = np.median(gaze_T2[seen] if seen.any() else gaze_T2, axis=0)
    return float(np.linalg.norm(main - np.asarray(wanted)))


def _picture_figures(video: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    video, truth = video / 255.0, truth / 255.0
    return {
        "psnr": float(np.mean([measures.psnr(a, b) for a, b in zip(video, truth)])),
        "psnr_head": float(np.mean([measures.psnr(a, b, m) for a, b, m in zip(video, truth, mask)])),
    }


def _mean_figures(takes: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([take[name] for take in takes])) for name in takes[0]}


def _spread(values: list[float | None]) -> dict[str, float] | None:
    """Mean and standard error over heads; None where no head has the figure."""
    known = np.array([value for value in values if value is not None and np.isfinite(value)], np.float64)
    if not known.size:
        return None
    error = float(known.std(ddof=1) / np.sqrt(known.size)) if known.size > 1 else 0.0
    return {"mean": float(known.mean()), "error": error}
