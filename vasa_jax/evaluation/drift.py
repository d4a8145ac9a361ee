"""Job `evaluate_drift`: does a long video change as it goes on, and what does the head do while nobody speaks?

    python -m vasa_jax.main --config configs/evaluate_drift.py --config.checkpoint=runs/model

Minutes of held-out speech with pauses drive one held-out head, as a live stream (config.hop) or in whole windows. Every
frame is measured and forgotten; figures are taken per section of SECTION seconds, and a straight line through each of
them says whether it drifts. Beside it stands the true video of the same speech, measured by the same instrument.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.corpus.talk import Talk, sample_talk
from vasa_jax.evaluation import measures, sheets
from vasa_jax.evaluation.drift_report import SERIES, drift_markdown, drift_plot
from vasa_jax.evaluation.frame_tracks import FrameTracks, read_frames
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.instrument import Instrument
from vasa_jax.evaluation.report import save_report
from vasa_jax.evaluation.stage import Generator
from vasa_jax.evaluation.trend import fit_trend
from vasa_jax.generation.controls import Controls

SECTION = 10.0  # seconds
FEED = 8_000  # samples that a stream is given at once
CLEAR = 0.3  # correlation at the best offset below which a section has no offset
SHEET_COLUMNS = 10


@dataclasses.dataclass(frozen=True)
class DriftSettings:
    """What is measured; the report is a function of these, the controls and the weights."""

    minutes: float = 10.0
    truth_stride: int = 25  # every n-th frame of the true video is rendered and measured
    supersample: int = 2  # rays per pixel side of true pictures
    speech: str = "espeak"  # of config_checks.SPEECH_SOURCES


class LiveGenerator(Generator, Protocol):
    """A generator that also streams: `vasa_jax.generation.generator.VideoGenerator`, or anything that acts like it."""

    def stream(self, portrait: Any, controls: Controls) -> Any:
        """An avatar to a live stream, whose `feed(samples)` and `finish()` give frames."""
        ...


def evaluate_drift(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """The job: the report on the model in `config.checkpoint`, by the instrument beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    settings = DriftSettings(
        minutes=config.drift.minutes,
        truth_stride=config.drift.truth_stride,
        supersample=config.corpus.supersample,
        speech=config.corpus.speech,
    )
    controls = Controls.from_config(config)
    instrument = Instrument.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    return measure_drift(generator, instrument, controls, settings, workdir)


def measure_drift(
    generator: LiveGenerator, instrument: Instrument, controls: Controls, settings: DriftSettings, workdir: str | Path
) -> dict[str, Any]:
    """Writes report.md, report.json, drift.png and sections.png to the workdir and returns the report."""
    talk = sample_talk(controls.seed, 60.0 * settings.minutes, settings.speech)
    heads = HeldOutHeads(generator.image_size, controls.seed, settings.supersample)
    identity = heads.identity(0)
    picture = heads.portrait(identity)
    portrait, avatar = instrument.measure(picture[None]), generator.prepare(picture)
    pictures: list[np.ndarray] = []
    frames = _watched(generated_frames(generator, avatar, talk.samples, controls), pictures)
    generated = read_frames(frames, instrument, portrait)
    truth = heads.label(identity, talk.motion)
    sparse = np.arange(0, len(talk.quiet), settings.truth_stride)
    measured = read_frames(_true_frames(heads, identity, talk, sparse), instrument, portrait)
    report = summary(generated, measured, sparse, truth, talk)
    report |= {
        "settings": dataclasses.asdict(settings),
        "controls": {name: getattr(controls, name) for name in ("seed", "steps", "solver", "hop", "look_ahead")},
        "voice": talk.voice,
    }
    report["instrument"]["training"] = instrument.training_errors
    workdir = Path(workdir)
    sheets.save(workdir / "drift.png", drift_plot(report["sections"]))
    rows = [pictures[i : i + SHEET_COLUMNS] for i in range(0, len(pictures), SHEET_COLUMNS)]
    sheets.save(workdir / "sections.png", sheets.grid(rows))
    save_report(report, drift_markdown(report), workdir)
    return report


def generated_frames(
    generator: LiveGenerator, avatar: Any, samples: np.ndarray, controls: Controls
) -> Iterator[np.ndarray]:
    """Frames uint8 (n, n, 3), one by one: with a hop from a live stream that hears FEED samples at a time."""
    if not controls.hop:
        for batch in generator.render(avatar, generator.motion(samples, avatar, controls=controls)):
            yield from batch
        return
    stream = generator.stream(avatar, controls)
    for start in range(0, len(samples), FEED):
        yield from stream.feed(samples[start : start + FEED])
    yield from stream.finish()


def _watched(frames: Iterator[np.ndarray], pictures: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames themselves; the middle one of each section is kept."""
    section = round(SECTION * FPS)
    for number, frame in enumerate(frames):
        if number % section == section // 2:
            pictures.append(frame)
        if number and number % (60 * FPS) == 0:
            logging.info("%d minutes of video measured", number // (60 * FPS))
        yield frame


def _true_frames(heads: HeldOutHeads, identity: dict, talk: Talk, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The frames of the true video with these numbers."""
    for start in range(0, len(numbers), 32):
        rows = numbers[start : start + 32]
        yield from heads.render(identity, {name: track[rows] for name, track in talk.motion.items()})["rgb"]


def summary(
    generated: FrameTracks,
    measured: FrameTracks,
    sparse: np.ndarray,
    truth: dict[str, np.ndarray],
    talk: Talk,
) -> dict[str, Any]:
    """The report's numbers.

    generated: tracks of all T frames; measured: of the true video's frames `sparse`; truth: exact labels of T frames.
    """
    opening, frames = truth["mouth"], len(talk.quiet)
    ours = section_figures(generated, np.arange(frames), opening, talk.quiet)
    true = section_figures(measured, sparse, opening, talk.quiet)
    sections = frames // round(SECTION * FPS)
    time = (np.arange(sections) + 0.5) * SECTION / 60.0
    trends = {}
    for column, figures in (("generated", ours), ("truth", true)):
        fits = {name: fit_trend(time, values) for name, values in figures.items()}
        trends[column] = {
            name: dataclasses.asdict(fit) | {"drifts": fit.drifts} for name, fit in fits.items() if fit is not None
        }
    offsets = ours["offset"][np.isfinite(ours["offset"])]
    errors = np.abs(measured.mouth - opening[sparse])
    return {
        "minutes": frames / FPS / 60.0,
        "instrument": {
            "frames": len(sparse),
            "mouth_r": measures.pearson(measured.mouth, opening[sparse]),
            "mouth_mae": float(errors.mean()),
        },
        "sections": {"minutes": time, "generated": ours, "truth": true},
        "trends": trends,
        "offsets": {
            "sections": sections,
            "clear": len(offsets),
            "zero": int((offsets == 0).sum()),
            "largest": float(np.abs(offsets).max()) if len(offsets) else float("nan"),
        },
        "pauses": {
            "share": float(talk.quiet.mean()),
            "generated": pause_figures(generated.mouth, generated.pose, talk.quiet) | _blinks(generated.lids),
            "truth": pause_figures(measured.mouth, None, talk.quiet[sparse]),
            "labels": pause_figures(opening, truth["pose"], talk.quiet, talk.starts) | _blinks(truth["lids"]),
        },
    }


def section_figures(
    tracks: FrameTracks, numbers: np.ndarray, opening_T: np.ndarray, quiet_T: np.ndarray
) -> dict[str, np.ndarray]:
    """(S,) per name of SERIES, nan where a section has none: means over whole sections of SECTION seconds.

    tracks: of the frames `numbers`; offset and head motion need all of them. opening: the true mouth opening.
    """
    section = round(SECTION * FPS)
    every = len(numbers) == len(quiet_T)
    turning = _turning(tracks.pose) if every else np.full(len(numbers), np.nan)
    rows = []
    for number in range(len(quiet_T) // section):
        part = numbers // section == number
        quiet = part & quiet_T[numbers]
        mouth, true = tracks.mouth[part], opening_T[numbers[part]]
        offset, r = measures.best_offset(mouth, true) if every else (np.nan, 0.0)
        colour = tracks.colour[part].mean(0)
        rows.append({
            "sharpness": tracks.sharpness[part].mean(),
            "identity": tracks.identity[part].mean(),
            "red": colour[0],
            "green": colour[1],
            "blue": colour[2],
            "mouth_r": measures.pearson(mouth, true),
            "offset": float(offset) if r >= CLEAR else np.nan,
            "head_motion": _mean(turning[part]),
            "pause_mouth": _mean(tracks.mouth[quiet]),
            "pause_motion": _mean(turning[quiet]),
        })
    return {name: np.array([row[name] for row in rows]) for name in SERIES}


def pause_figures(
    mouth_T: np.ndarray, pose_T9: np.ndarray | None, quiet_T: np.ndarray, starts: tuple[int, ...] = ()
) -> dict[str, float]:
    """Mouth opening and head motion inside the pauses and outside. starts: frames at which the pose may jump."""
    turning = np.full(len(quiet_T), np.nan) if pose_T9 is None else _turning(pose_T9, starts)
    return {
        "mouth": _mean(mouth_T[quiet_T]),
        "mouth_most": float(np.percentile(mouth_T[quiet_T], 95)) if quiet_T.any() else float("nan"),
        "mouth_speaking": _mean(mouth_T[~quiet_T]),
        "motion": _mean(turning[quiet_T]),
        "motion_speaking": _mean(turning[~quiet_T]),
    }


def _blinks(lids_T2: np.ndarray) -> dict[str, float]:
    return {"blinks": measures.blinks_per_minute(lids_T2)}


def _turning(pose_T9: np.ndarray, starts: tuple[int, ...] = ()) -> np.ndarray:
    """(T,) degrees per frame of the smoothed pose, nan in the first frame and around a jump at any of `starts`."""
    turning = np.concatenate([[np.nan], measures.turning(measures.smooth(pose_T9))])
    for start in starts:
        turning[max(start - 2, 0) : start + 3] = np.nan  # as far as `smooth` spreads it
    return turning


def _mean(values: np.ndarray) -> float:
    """Of what is finite; nan for nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
