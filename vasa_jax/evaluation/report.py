"""What reports share: Markdown tables that a person reads (report.md), and the same as data (report.json)."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.files import write_text

Rows = Mapping[str, tuple[str, int]]  # metric -> (title, digits)

PROBE_ROWS: Rows = {
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


def save_report(report: dict[str, Any], text: str, workdir: str | Path, printed: bool = True) -> None:
    """Writes report.md (`text`) and report.json, and prints the text; each file appears whole or not at all.

    The JSON is strict: what is not a finite number is null. InputError where a folder stands in a file's place.
    """
    data = json.dumps(_plain(report), indent=1, allow_nan=False)
    for path, content in ((Path(workdir) / "report.md", text), (Path(workdir) / "report.json", data)):
        try:
            write_text(path, content)
        except IsADirectoryError:
            raise InputError(f"{path}: cannot be written (a folder); move it away, or choose another path") from None
    if printed:
        print(text)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the Markdown lines of a table; `columns` are its headings, the first one that of the rows' titles."""
    lines = ["|" + "".join(f" {title} |" if title else " |" for title in columns), "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def metrics_table(rows: Rows, columns: Mapping[str, str], values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns Markdown lines, a row per metric; values[column][metric] is {mean, error}, or missing.

    A metric that no column has gets no row.
    """
    table = []
    for name, (title, digits) in rows.items():
        cells = [cell(values.get(column, {}).get(name), digits) for column in columns]
        if any(cells):
            table.append([title, *cells])
    return markdown_table(["", *columns.values()], table)


def cell(value: Mapping[str, float] | None, digits: int) -> str:
    """Writes {mean, error} or {mean}; empty for nothing known."""
    if value is None or not math.isfinite(value["mean"]):
        return ""
    text = f"{value['mean']:.{digits}f}"
    return f"{text} +- {value['error']:.{digits}f}" if "error" in value else text


def number_cell(value: float | None, digits: int) -> str:
    """Writes a number; empty for nothing known."""
    return "" if value is None else cell({"mean": value}, digits)


def setting(value: Any) -> str:
    """Writes a constant control, or what a track of it goes through."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and value and isinstance(value[0], str):
        return " then ".join(dict.fromkeys(value))
    low, high = float(np.min(value)), float(np.max(value))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def probe_lines(face_probe: dict[str, Any], heads: int) -> list[str]:
    """Returns Markdown lines of the face probe's own errors: `talking` and `training` by name, number of `frames`."""
    return [
        "## The face probe's own errors on true renders",
        "",
        *probe_table(face_probe["talking"], "these true videos", face_probe["training"]),
        "",
        f"These true videos: {face_probe['frames']} frames of {heads} heads. "
        "Broad stills: held-out heads in wide poses, when the face probe was trained.",
        "",
    ]


def probe_table(here: dict[str, float], title: str, training: dict[str, float]) -> list[str]:
    """Returns Markdown lines: the face probe's errors on this report's true images, and those when it was trained."""
    sharp = {name: value for name, value in training.items() if not name.startswith("soft_")}
    soft = {name.removeprefix("soft_"): value for name, value in training.items() if name.startswith("soft_")}
    columns = {"here": title, "training": "broad stills", "soft": "broad stills, degraded"}
    values = {
        column: {name: {"mean": value} for name, value in errors.items()}
        for column, errors in zip(columns, (here, sharp, soft))
    }
    return metrics_table(PROBE_ROWS, columns, values)


def _plain(value: Any) -> Any:
    """Returns arrays and numpy numbers as lists and numbers, rounded to what they mean; non-finite numbers as null."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
