"""What data preparation kept and discarded: report.md, contact_sheet.png and histograms.png."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.conventions import head_angles
from vasa_jax.data.records import Record, decode_jpeg, decode_matte
from vasa_jax.files import replacing, write_text
from vasa_jax.preparation.work import read_clip

SHEET_CLIPS = 120  # shown at most, spread evenly over the set
TILE, CAPTION, COLUMNS = 160, 26, 8  # pixels
BINS = 20
HISTOGRAMS = {
    "seconds": "", "yaw": "degrees", "pitch": "degrees", "roll": "degrees", "gaze yaw": "degrees",
    "gaze pitch": "degrees", "distance": "not yet over the mean", "face pixels": "", "sharpness": "", "loudness dB": "",
    "speech share": "", "voice Hz": "median pitch", "voice semitones": "deviation of the pitch", "voiced share": "",
    "sync confidence": "of the sync model", "mouth": "of the eye distance", "eyes closed": "share of frames",
}  # fmt: skip
BAR_COLOUR, DISCARD_COLOUR = (70, 110, 180), (190, 90, 70)
# Drawn on the contact sheet: jaw, brows, eyes, nose, lips and irises of the set mediapipe_478.
DRAWN = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 33, 133,
    159, 145, 362, 263, 386, 374, 168, 6, 197, 195, 4, 61, 291, 0, 17, 13, 14, 82, 87, 312, 317, 468, 473,
)  # fmt: skip
GAZE_LINE = 0.35  # length in image coordinates of a gaze straight to the side


def write_report(output: Path, outcomes: list[dict[str, Any]], statistics: dict[str, Any]) -> Path:
    """Writes the three files and returns the path of report.md."""
    kept = [(outcome["key"], index) for outcome in outcomes for index in range(len(outcome["clips"]))]
    if kept:
        _save(_contact_sheet(output / "work", kept), output / "contact_sheet.png")
    clips = [clip for outcome in outcomes for clip in outcome["clips"]]
    if clips or statistics["discarded"]:
        _save(_histograms(clips, statistics["discarded"]), output / "histograms.png")
    path = output / "report.md"
    write_text(path, "\n".join(_text(outcomes, statistics)) + "\n")
    return path


def _save(sheet, path: Path) -> None:
    with replacing(path) as part:
        sheet.save(part, "PNG")


def _text(outcomes, statistics):
    hours = sum(outcome["seconds"] for outcome in outcomes) / 3600
    yield "# Prepared videos\n"
    yield (
        f"{statistics['videos']} videos ({hours:.2f} h) gave {statistics['clips']} clips "
        f"({statistics['seconds'] / 3600:.2f} h) of {statistics['persons']} persons.\n"
    )
    if statistics["clips"]:
        yield "![clips](contact_sheet.png)\n"
    if statistics["clips"] or statistics["discarded"]:
        yield "![figures](histograms.png)\n"
    yield "## Splits\n"
    yield table(
        ("split", "videos", "persons", "clips", "seconds"),
        (
            (split, count["videos"], count["persons"], count["clips"], f"{count['seconds']:.1f}")
            for split, count in statistics["splits"].items()
        ),
    )
    yield "\n## Discarded\n"
    yield table(
        ("reason", "ranges", "videos", "seconds"),
        (
            (reason, count["ranges"], count["videos"], f"{count['seconds']:.1f}")
            for reason, count in statistics["discarded"].items()
        ),
    )
    if statistics["figures"]:
        yield "\n## Figures per clip\n"
        yield table(
            ("figure", "mean", "deviation", "5 %", "95 %"),
            (
                (name, *(f"{metric[column]:.3g}" for column in ("mean", "deviation", "p5", "p95")))
                for name, metric in statistics["figures"].items()
            ),
        )
    yield "\n## Videos\n\nAn offset with a question mark is not certain, and was not corrected. The sync score"
    yield "is the correlation of mouth and voice, or the confidence of the sync model.\n"
    yield table(("video", "s", "clips", "s kept", "sound late by", "sync score", "notes"), map(_video_row, outcomes))
    yield "\n## Every discarded range\n"
    yield table(
        ("video", "from s", "to s", "reason", "detail"),
        (
            (outcome["video"], f"{d['start']:.2f}", f"{d['stop']:.2f}", d["reason"], d["detail"])
            for outcome in outcomes
            for d in outcome["discards"]
        ),
    )


def _video_row(outcome: dict[str, Any]) -> tuple[Any, ...]:
    kept = sum(clip["seconds"] for clip in outcome["clips"])
    measure = outcome["sync"]
    offset = f"{1000 * measure['offset']:.0f} ms{'' if measure['certain'] else ' ?'}" if measure else ""
    score = f"{measure['score']:.2f}" if measure else ""
    seconds, notes = f"{outcome['seconds']:.1f}", "; ".join(outcome["notes"])
    return outcome["video"], seconds, len(outcome["clips"]), f"{kept:.1f}", offset, score, notes


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table; whatever the cells hold is shown as it is, not taken for Markdown or HTML."""
    lines = [header, *rows]
    cells = [[plain_text(str(cell)) for cell in line] for line in lines]
    text = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([text[0], "|" + "---|" * len(header), *text[1:]])


def plain_text(text: str) -> str:
    """Returns a text that Markdown shows as one line of plain text: names of files may hold markup and scripts."""
    line = " ".join(text.split())
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", html.escape(plain, quote=False))


def _contact_sheet(work: Path, kept: list[tuple[str, int]]):
    """The middle frame of each clip, its points and gaze, the matte darkening the background."""
    from PIL import Image, ImageDraw

    places = np.linspace(0, len(kept) - 1, min(SHEET_CLIPS, len(kept))).round().astype(int)
    chosen = [kept[i] for i in np.unique(places)]
    rows = math.ceil(len(chosen) / COLUMNS)
    sheet = Image.new("RGB", (min(COLUMNS, len(chosen)) * TILE, rows * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (key, index) in enumerate(chosen):
        record = read_clip(work, key, index)
        x, y = place % COLUMNS * TILE, place // COLUMNS * (TILE + CAPTION)
        sheet.paste(Image.fromarray(_image(record)), (x, y))
        draw.text((x + 2, y + TILE), record.clip_id[:14] + ".." + record.clip_id[-4:], fill="black")
        draw.text((x + 2, y + TILE + 12), _caption(record), fill="black")
    return sheet


def _image(record: Record) -> np.ndarray:
    """uint8 (TILE, TILE, 3)."""
    import cv2

    middle = len(record.frames) // 2
    image = decode_jpeg(record.frames[middle])
    if record.matte is not None:
        share = decode_matte(record.matte[middle])[..., None] / 255.0
        image = (image * (0.4 + 0.6 * share)).astype(np.uint8)
    image = np.ascontiguousarray(cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA))
    if record.landmarks is None:
        return image

    def pixel(point):
        return tuple(round((v + 1) * TILE / 2) for v in point[:2])

    points = record.landmarks[middle]
    for i in DRAWN if record.landmark_set == "mediapipe_478" else range(len(points)):
        cv2.circle(image, pixel(points[i]), 0, (0, 255, 0), -1)
    if record.gaze is not None:
        yaw, pitch = np.radians(record.gaze[middle])
        way = GAZE_LINE * np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
        for eye in ((33, 133), (362, 263)):
            centre = points[list(eye), :2].mean(0)
            cv2.line(image, pixel(centre), pixel(centre + way), (255, 60, 60), 1, cv2.LINE_AA)
    return image


def _caption(record: Record) -> str:
    text = f"{len(record.frames) / record.fps:.1f}s"
    if record.pose is not None:
        yaw, pitch, roll = head_angles(record.pose[len(record.frames) // 2][None])[0]
        text += f" {yaw:+.0f} {pitch:+.0f} {roll:+.0f} d{float(record.distance):.2f}"
    return text


def _histograms(clips: list[dict[str, Any]], discarded: dict[str, dict[str, Any]]):
    """Bars of each figure over the clips, and of the seconds that each reason took."""
    from PIL import Image, ImageDraw

    names = [name for name in HISTOGRAMS if any(name in clip for clip in clips)]
    width, height, columns = 320, 150, 3
    below = math.ceil(len(names) / columns) * height
    sheet = Image.new("RGB", (columns * width, below + (40 + 20 * len(discarded) if discarded else 0)), "white")
    draw = ImageDraw.Draw(sheet)
    longest = max((count["seconds"] for count in discarded.values()), default=0.0)
    for row, (reason, count) in enumerate(discarded.items()):
        y = below + 30 + 20 * row
        draw.text((10, y), f"{reason}  {count['seconds']:.1f} s", fill="black")
        length = round((columns - 1) * width * count["seconds"] / longest) if longest else 0
        draw.rectangle((width - 20, y, width - 20 + length, y + 12), fill=DISCARD_COLOUR)
    if discarded:
        draw.text((10, below + 8), "discarded, seconds by reason", fill="black")
    for place, name in enumerate(names):
        x, y = place % columns * width, place // columns * height
        counts, edges = np.histogram([clip[name] for clip in clips if name in clip], bins=BINS)
        draw.text((x + 10, y + 4), f"{name}, {HISTOGRAMS[name]}".rstrip(", "), fill="black")
        bar, base = (width - 20) / BINS, y + height - 24
        for i, count in enumerate(counts):
            top = base - round(count / max(counts.max(), 1) * (height - 50))
            draw.rectangle((x + 10 + i * bar, top, x + 8 + (i + 1) * bar, base), fill=BAR_COLOUR)
        draw.text((x + 10, base + 4), f"{edges[0]:.3g}", fill="black")
        draw.text((x + width - 60, base + 4), f"{edges[-1]:.3g}", fill="black")
        draw.text((x + width // 2 - 30, base + 4), f"most {counts.max()}", fill="black")
    return sheet
