"""The evaluation's figures as a table that a person reads (report.md) and as data (report.json)."""

import json
import math
import os
from pathlib import Path
from typing import Any

# What this project calls done: the mean over clips of Pearson's r between generated and true mouth opening.
REQUIRED_MOUTH_R = 0.6

COLUMNS = {
    "generated": "generated",
    "truth": "truth, measured",
    "second": "second true take",
    "shuffled": "shuffled audio",
    "constant": "constant motion",
}
ROWS = {
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
CODEC_ROWS = {
    "psnr": ("PSNR, whole picture, dB", 2),
    "psnr_head": ("PSNR, head and body, dB", 2),
    "ssim": ("SSIM, whole picture", 3),
    "ssim_head": ("SSIM, head and body", 3),
    "mouth_r_pooled": ("mouth opening, r over all frames", 3),
    "rotation_error": ("head rotation, error in degrees", 2),
    "identity": ("identity, cosine to the portrait", 3),
}
INSTRUMENT_ROWS = {
    "mouth_r": ("mouth opening, r", 3),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "lids_mae": ("lids, mean absolute error", 3),
    "gaze_mae_degrees": ("gaze, mean absolute error in degrees", 2),
    "rotation_error_degrees": ("head rotation, error in degrees", 2),
    "distance_error": ("head distance, mean absolute error", 3),
    "landmark_error_pixels": ("landmarks, error in pixels of 128", 2),
    "identity_auc": ("same person or not, area under the curve", 3),
    "identity_same": ("cosine, same person", 3),
    "identity_different": ("cosine, two people", 3),
}


def save_report(report: dict[str, Any], text: str, workdir: str | Path) -> None:
    """Writes report.md (`text`) and report.json and prints the former; each file appears whole or not at all."""
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    data = json.dumps(_plain(report), indent=1, allow_nan=False)
    for name, content in (("report.md", text), ("report.json", data)):
        beside = workdir / (name + ".part")
        beside.write_text(content, encoding="utf-8")
        os.replace(beside, workdir / name)
    print(text)


def report_markdown(report: dict[str, Any]) -> str:
    """The tables: the instrument's own errors first, then the generator, then the codec alone."""
    settings, table = report["settings"], report["table"]
    r, error = table["mouth_r"]["generated"]["mean"], table["mouth_r"]["generated"]["error"]
    verdict = "reached" if r >= REQUIRED_MOUTH_R else "not reached"
    different = report["different_people"]
    by_column = {column: {name: row.get(column) for name, row in table.items()} for column in COLUMNS}
    lines = [
        "# Evaluation on held-out heads, voices and sentences",
        "",
        f"{report['set']}: {settings['heads']} heads, {settings['seconds']:g} s each, "
        f"{settings['samples']} generated per clip, "
        f"{settings['steps']} steps, audio guidance {settings['audio_guidance']:g}, seed {settings['seed']}, "
        f"controls given: {', '.join(report['controls']) or 'none'}.",
        "",
        *instrument_lines(report["instrument"], settings["heads"]),
        "## Generated videos",
        "",
        f"Mouth opening: r = {r:.3f} +- {error:.3f}; {REQUIRED_MOUTH_R} is {verdict}.",
        "",
        *figure_table(ROWS, COLUMNS, by_column),
        "",
        "Mean +- standard error over heads. Head motion is the mean absolute change of yaw, pitch and roll between "
        "frames, of poses smoothed over five frames, everywhere alike; by the exact labels it is "
        f"{figure_cell(table['head_motion'].get('labels'), 3)}, and blinks per minute are "
        f"{figure_cell(table['blinks'].get('labels'), 1)}. "
        f"Truth is measured over the middle {settings['rendered_seconds']:g} s of each clip. Identity of two different "
        f"people: {figure_cell(different, 3)}. Opening is the distance of the inner lips over that of the eyes.",
        "",
        "## The codec alone: true frames drive the portrait",
        "",
        *figure_table(CODEC_ROWS, CODEC_COLUMNS, report["codec"]),
        "",
        f"{settings['codec_frames']} frames per head, against the exact truth. Across heads: frames of another head "
        "with the same motion. Portrait, unmoved: what is got by doing nothing.",
        "",
    ]
    return "\n".join(lines)


def instrument_lines(instrument: dict[str, Any], heads: int) -> list[str]:
    """Markdown lines of the instrument's own errors: `talking` and `training` by name, number of `frames`."""
    return [
        "## The instrument's own errors on true renders",
        "",
        *instrument_table(instrument["talking"], "these true videos", instrument["training"]),
        "",
        f"These true videos: {instrument['frames']} frames of {heads} heads. "
        "Broad stills: held-out heads in wide poses, when the instrument was trained.",
        "",
    ]


def instrument_table(here: dict[str, float], title: str, training: dict[str, float]) -> list[str]:
    """Markdown lines: the instrument's errors on this report's true pictures, and those when it was trained."""
    sharp = {name: value for name, value in training.items() if not name.startswith("soft_")}
    soft = {name.removeprefix("soft_"): value for name, value in training.items() if name.startswith("soft_")}
    columns = {"here": title, "training": "broad stills", "soft": "broad stills, degraded"}
    values = {
        column: {name: {"mean": value} for name, value in errors.items()}
        for column, errors in zip(columns, (here, sharp, soft))
    }
    return figure_table(INSTRUMENT_ROWS, columns, values)


def figure_table(rows: dict, columns: dict[str, str], values: dict[str, dict]) -> list[str]:
    """Markdown lines; values[column][row] is {mean, error} or missing."""
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "---|" * len(columns)]
    for name, (title, digits) in rows.items():
        cells = [figure_cell(values.get(column, {}).get(name), digits) for column in columns]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def figure_cell(value: dict[str, float] | None, digits: int) -> str:
    if value is None or not math.isfinite(value["mean"]):
        return ""
    text = f"{value['mean']:.{digits}f}"
    return f"{text} +- {value['error']:.{digits}f}" if "error" in value else text


def _plain(value: Any) -> Any:
    """Arrays and numpy numbers as lists and numbers, rounded to what they mean; what is not a number as null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
