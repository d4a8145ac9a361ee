"""Job `evaluate_drift`: does a long video change as it goes on, and what does the head do while nobody speaks?

    python -m vasa_jax.main --config configs/evaluate_drift.py --config.checkpoint=runs/model

Minutes of held-out speech with pauses drive one held-out head, as a live stream (config.hop) or in whole windows. Every
frame is measured and forgotten. Metrics are taken per section of SECTION seconds, and a straight line through each of
them says whether it drifts. Beside it stands the true video of the same speech, measured by the same probe.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging
from PIL import Image, ImageDraw

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.corpus.talk import Talk, sample_talk
from vasa_jax.evaluation import metrics, sheets
from vasa_jax.evaluation.face_readings import FaceReader, Measurements
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.image_metrics import laplacian_sharpness
from vasa_jax.evaluation.metrics import fit_trend
from vasa_jax.evaluation.report import Rows, markdown_table, number_cell, save_report
from vasa_jax.evaluation.stage import Generator
from vasa_jax.generation.control_track import controls_of
from vasa_jax.generation.controls import Controls

SECTION = 10.0  # seconds
BATCH = 32  # frames that are held at once
FEED = 8_000  # samples that a stream is given at once
CLEAR = 0.3  # correlation at the best offset below which a section has no offset
SHEET_COLUMNS = 10

# Metrics per section: title, digits.
SERIES: Rows = {
    "sharpness": ("sharpness of the face", 4),
    "identity": ("identity, cosine to the portrait", 4),
    "red": ("mean red of the face, of 255", 2),
    "green": ("mean green of the face, of 255", 2),
    "blue": ("mean blue of the face, of 255", 2),
    "mouth_r": ("mouth opening against the true one, r", 3),
    "offset": ("best offset of the mouth, frames (+ is late)", 2),
    "head_motion": ("head motion, degrees per frame", 3),
    "pause_mouth": ("mouth opening in the pauses", 4),
    "pause_motion": ("head motion in the pauses, degrees per frame", 3),
}
PAUSES: Rows = {
    "mouth": ("mouth opening in the pauses", 4),
    "mouth_most": ("95 % of it are below", 4),
    "mouth_speaking": ("mouth opening elsewhere", 4),
    "motion": ("head motion in the pauses, degrees per frame", 3),
    "motion_speaking": ("head motion elsewhere", 3),
    "blinks": ("blinks per minute, pauses or not", 1),
}
GENERATED, TRUE = (214, 70, 40), (150, 150, 150)
PANEL = (440, 150)  # pixels
PANEL_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class FrameTracks:
    """Holds what is kept of T frames."""

    mouth: np.ndarray  # (T,) inner-lip distance over inter-ocular distance
    lids: np.ndarray  # (T, 2)
    pose: np.ndarray  # (T, 9)
    identity: np.ndarray  # (T,) cosine to the portrait
    sharpness: np.ndarray  # (T,) `laplacian_sharpness` of the face
    colour: np.ndarray  # (T, 3) mean red, green and blue of the face, 0 to 255


def read_frames(frames: Iterable[np.ndarray], reader: FaceReader, portrait: Measurements) -> FrameTracks:
    """Measures frames uint8 (n, n, 3) as they come, and forgets them.

    portrait: the reading of the image that they were made from.
    """
    parts = []
    for batch in _batches(frames):
        reading = reader.measure(batch)
        faces = [_face(frame, points) for frame, points in zip(batch, reading.landmarks)]
        parts.append(
            {
                "mouth": reading.mouth,
                "lids": reading.lids,
                "pose": reading.pose,
                "identity": metrics.cosine(reading.embedding, portrait.embedding),
                "sharpness": np.array([laplacian_sharpness(face) for face in faces]),
                "colour": np.stack([face.reshape(-1, 3).mean(0) for face in faces]),
            }
        )
    return FrameTracks(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _face(frame: np.ndarray, landmarks_L2: np.ndarray) -> np.ndarray:
    """Cuts out what the landmarks span, at least two pixels wide and high."""
    size = len(frame)
    pixels = (np.stack([landmarks_L2.min(0), landmarks_L2.max(0)]) + 1.0) * size / 2.0
    low, high = np.floor(pixels[0]).astype(int), np.ceil(pixels[1]).astype(int)
    low = np.clip(low, 0, size - 2)
    high = np.clip(high, low + 2, size)
    return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]])


def _batches(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    held = []
    for frame in frames:
        held.append(frame)
        if len(held) == BATCH:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


class LiveGenerator(Generator, Protocol):
    """A generator that also streams: `vasa_jax.generation.generator.VideoGenerator`, or anything that acts like it."""

    def stream(self, portrait: Any, controls: Controls) -> Any:
        """Opens a live stream of an avatar, whose `feed(samples)` and `finish()` give frames."""
        ...


def evaluate_drift(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the model in `config.checkpoint`, measured by the face probe beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    reader = FaceReader.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    return measure_long_video(generator, reader, config, workdir)


def measure_long_video(
    generator: LiveGenerator, reader: FaceReader, config: VASAConfig, workdir: str | Path
) -> dict[str, Any]:
    """Writes report.md, report.json, drift.png and sections.png to the workdir and returns the report."""
    controls, s = controls_of(config), config.drift
    supersample, speech = config.corpus.supersample, config.corpus.speech
    talk = sample_talk(controls.seed, 60.0 * s.minutes, speech)
    heads = HeldOutHeads(generator.image_size, controls.seed, supersample)
    identity = heads.identity(0)
    image = heads.portrait(identity)
    portrait, avatar = reader.measure(image[None]), generator.prepare(image)
    shown: list[np.ndarray] = []
    frames = _watched(generated_frames(generator, avatar, talk.samples, controls), shown)
    generated = read_frames(frames, reader, portrait)
    truth = heads.label(identity, talk.motion)
    sparse = np.arange(0, len(talk.quiet), s.truth_stride)
    measured = read_frames(_true_frames(heads, identity, talk, sparse), reader, portrait)
    report = summary(generated, measured, sparse, truth, talk)
    report |= {
        "settings": dataclasses.asdict(s) | {"supersample": supersample, "speech": speech},
        "controls": dataclasses.asdict(controls),
        "voice": talk.voice,
    }
    report["face_probe"]["training"] = reader.training_errors
    workdir = Path(workdir)
    sheets.save(workdir / "drift.png", drift_plot(report["sections"]))
    rows = [shown[i : i + SHEET_COLUMNS] for i in range(0, len(shown), SHEET_COLUMNS)]
    sheets.save(workdir / "sections.png", sheets.grid(rows))
    save_report(report, long_video_markdown(report), workdir)
    return report


def generated_frames(
    generator: LiveGenerator, avatar: Any, samples: np.ndarray, controls: Controls
) -> Iterator[np.ndarray]:
    """Yields frames uint8 (n, n, 3); with a hop, of a live stream that hears FEED samples at a time."""
    if not controls.hop:
        for batch in generator.render(avatar, generator.motion(samples, avatar, controls=controls)):
            yield from batch
        return
    stream = generator.stream(avatar, controls)
    for start in range(0, len(samples), FEED):
        yield from stream.feed(samples[start : start + FEED])
    yield from stream.finish()


def _watched(frames: Iterator[np.ndarray], shown: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Passes frames on; the middle one of each section is added to `shown`."""
    section = round(SECTION * FPS)
    for number, frame in enumerate(frames):
        if number % section == section // 2:
            shown.append(frame)
        if number and number % (60 * FPS) == 0:
            logging.info("%d minutes of video measured", number // (60 * FPS))
        yield frame


def _true_frames(heads: HeldOutHeads, identity: dict, talk: Talk, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Renders the frames of the true video with these numbers."""
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
    """Returns the report's numbers.

    generated: tracks of all T frames; measured: of the true video's frames `sparse`; truth: exact labels of T frames.
    """
    opening, frames = truth["mouth"], len(talk.quiet)
    ours = section_metrics(generated, np.arange(frames), opening, talk.quiet)
    true = section_metrics(measured, sparse, opening, talk.quiet)
    sections = frames // round(SECTION * FPS)
    time = (np.arange(sections) + 0.5) * SECTION / 60.0
    trends = {}
    for column, values in (("generated", ours), ("truth", true)):
        fits = {name: fit_trend(time, series) for name, series in values.items()}
        trends[column] = {
            name: dataclasses.asdict(fit) | {"drifts": fit.drifts} for name, fit in fits.items() if fit is not None
        }
    offsets = ours["offset"][np.isfinite(ours["offset"])]
    errors = np.abs(measured.mouth - opening[sparse])
    return {
        "minutes": frames / FPS / 60.0,
        "face_probe": {
            "frames": len(sparse),
            "mouth_r": metrics.pearson(measured.mouth, opening[sparse]),
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
            "generated": pause_metrics(generated.mouth, generated.pose, talk.quiet) | _blinks(generated.lids),
            "truth": pause_metrics(measured.mouth, None, talk.quiet[sparse]),
            "labels": pause_metrics(opening, truth["pose"], talk.quiet, talk.starts) | _blinks(truth["lids"]),
        },
    }


def section_metrics(
    tracks: FrameTracks, numbers: np.ndarray, opening_T: np.ndarray, quiet_T: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns (S,) means over whole sections of SECTION seconds, per name of SERIES; nan where a section has none.

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
        offset, r = metrics.best_offset(mouth, true) if every else (np.nan, 0.0)
        colour = tracks.colour[part].mean(0)
        rows.append(
            {
                "sharpness": tracks.sharpness[part].mean(),
                "identity": tracks.identity[part].mean(),
                "red": colour[0],
                "green": colour[1],
                "blue": colour[2],
                "mouth_r": metrics.pearson(mouth, true),
                "offset": float(offset) if r >= CLEAR else np.nan,
                "head_motion": _mean(turning[part]),
                "pause_mouth": _mean(tracks.mouth[quiet]),
                "pause_motion": _mean(turning[quiet]),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in SERIES}


def pause_metrics(
    mouth_T: np.ndarray, pose_T9: np.ndarray | None, quiet_T: np.ndarray, starts: tuple[int, ...] = ()
) -> dict[str, float]:
    """Returns mouth opening and head motion inside the pauses and outside.

    starts: frames at which the pose may jump.
    """
    turning = np.full(len(quiet_T), np.nan) if pose_T9 is None else _turning(pose_T9, starts)
    return {
        "mouth": _mean(mouth_T[quiet_T]),
        "mouth_most": float(np.percentile(mouth_T[quiet_T], 95)) if quiet_T.any() else float("nan"),
        "mouth_speaking": _mean(mouth_T[~quiet_T]),
        "motion": _mean(turning[quiet_T]),
        "motion_speaking": _mean(turning[~quiet_T]),
    }


def _blinks(lids_T2: np.ndarray) -> dict[str, float]:
    return {"blinks": metrics.blinks_per_minute(lids_T2)}


def _turning(pose_T9: np.ndarray, starts: tuple[int, ...] = ()) -> np.ndarray:
    """Returns (T,) degrees per frame of the smoothed pose; nan in the first and around a jump at any of `starts`."""
    turning = np.concatenate([[np.nan], metrics.turning(metrics.smooth(pose_T9))])
    for start in starts:
        turning[max(start - 2, 0) : start + 3] = np.nan  # as far as `smooth` spreads it
    return turning


def _mean(values: np.ndarray) -> float:
    """Returns the mean of what is finite; nan for nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def long_video_markdown(report: dict[str, Any]) -> str:
    """Writes the tables; the face probe's own error on the true video first."""
    probe, controls, offsets = report["face_probe"], report["controls"], report["offsets"]
    ours = report["trends"]["generated"]
    drifting = [SERIES[name][0] for name in SERIES if name in ours and ours[name]["drifts"]]
    how = f"live, {controls['hop']} frames at once, {controls['look_ahead']} ahead" if controls["hop"] else "in windows"
    pauses = report["pauses"]
    lines = [
        f"# Drift over {report['minutes']:g} minutes",
        "",
        f"Held-out head, voice ({report['voice']}) and sentences; {how}, {controls['steps']} steps of "
        f"{controls['solver']}, seed {controls['seed']}.",
        "",
        f"The face probe on {probe['frames']} true frames: mouth opening r {probe['mouth_r']:.3f}, mean absolute "
        f"error {probe['mouth_mae']:.4f}.",
        "",
        f"## Change per minute, over {offsets['sections']} sections",
        "",
        *_trend_table(report),
        "",
        f"Intervals that leave 0 out: {'; '.join(drifting) or 'none'}. Of 20 such intervals one does by chance.",
        "",
        f"Offset of the mouth: clear in {offsets['clear']} of {offsets['sections']} sections, 0 in {offsets['zero']} "
        f"of them" + (f", at most {offsets['largest']:g} frames." if math.isfinite(offsets["largest"]) else "."),
        "",
        f"## In the pauses ({pauses['share']:.0%} of the frames)",
        "",
        *_pause_table(report["pauses"]),
        "",
        "drift.png shows every metric over time, sections.png a frame of each section.",
        "",
    ]
    return "\n".join(lines)


def _trend_table(report: dict[str, Any]) -> list[str]:
    ours, true = report["trends"]["generated"], report["trends"]["truth"]
    rows = []
    for name, (title, digits) in SERIES.items():
        if name not in ours:
            continue
        fit, known = ours[name], true.get(name)
        beside = "" if known is None else f"{_signed(known['slope'], digits)} ({_interval(known, digits)})"
        rows.append(
            [
                title,
                number_cell(fit["mean"], digits),
                _signed(fit["slope"], digits),
                _interval(fit, digits),
                _signed(fit["slope"] * report["minutes"], digits),
                "yes" if fit["drifts"] else "no",
                beside,
            ]
        )
    columns = ["", "mean", "per minute", "95 % interval", "over the whole", "drifts", "truth, measured: per minute"]
    return markdown_table(columns, rows)


def _pause_table(pauses: dict[str, Any]) -> list[str]:
    columns = {"generated": "generated", "truth": "truth, measured", "labels": "truth"}
    rows = [
        [title, *(number_cell(pauses[column].get(name), digits) for column in columns)]
        for name, (title, digits) in PAUSES.items()
    ]
    return markdown_table(["", *columns.values()], rows)


def drift_plot(sections: dict[str, Any]) -> np.ndarray:
    """Draws one panel per metric, uint8 (H, W, 3): values per section over the minutes and the line through them.

    The true video's are grey.
    """
    panels = [
        panel(sections["minutes"], sections["generated"][name], sections["truth"][name], title, digits)
        for name, (title, digits) in SERIES.items()
    ]
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % PANEL_COLUMNS)
    rows = [np.concatenate(panels[i : i + PANEL_COLUMNS], axis=1) for i in range(0, len(panels), PANEL_COLUMNS)]
    return np.concatenate(rows)


def panel(time_S: np.ndarray, value_S: np.ndarray, true_S: np.ndarray, title: str, digits: int) -> np.ndarray:
    """Draws both series as points about their own means, which the title has, on one axis; uint8 PANEL."""
    image = Image.new("RGB", PANEL, "white")
    draw = ImageDraw.Draw(image)
    series = {}
    for name, colour, values in (("true", TRUE, true_S), ("", GENERATED, value_S)):
        known = np.isfinite(values)
        if known.any():
            mean = float(values[known].mean())
            series[name] = (colour, time_S[known], values[known] - mean, mean)
    means = [f"{name} mean {mean:.{digits}f}".strip() for name, (_, _, _, mean) in reversed(series.items())]
    draw.text((8, 4), f"{title}: {', '.join(means) or 'none'}", fill=(60, 60, 60))
    if not series:
        return np.asarray(image)
    reach = 1.1 * max(float(np.abs(values).max()) for _, _, values, _ in series.values()) or 10.0**-digits
    left, right, top, bottom = 64, PANEL[0] - 12, 24, PANEL[1] - 22
    end = float(time_S[0] + time_S[-1])

    def place(time: float, value: float) -> tuple[float, float]:
        share = np.clip(value / reach, -1.0, 1.0)
        return left + (right - left) * time / end, (top + bottom) / 2 - (bottom - top) / 2 * share

    draw.rectangle([left, top, right, bottom], outline=(220, 220, 220))
    draw.line([place(0, 0), place(end, 0)], fill=(220, 220, 220))
    for value in (-reach, 0.0, reach):
        draw.text((6, place(0, value)[1] - 6), f"{value:+.{digits}f}", fill=(120, 120, 120))
    for time, anchor in ((0.0, "la"), (end, "ra")):
        draw.text((place(time, 0)[0], bottom + 4), f"{time:g} min", fill=(120, 120, 120), anchor=anchor)
    for colour, times, values, _ in series.values():
        for time, value in zip(times, values):
            x, y = place(time, value)
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        fit = fit_trend(times, values)
        if fit is not None:
            draw.line([place(t, fit.mean + fit.slope * (t - times.mean())) for t in (times[0], times[-1])], fill=colour)
    return np.asarray(image)


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits + 1}f}"


def _interval(fit: dict[str, float], digits: int) -> str:
    return f"{_signed(fit['low'], digits)} to {_signed(fit['high'], digits)}"
