"""The report on controls, guidance and steps as tables that a person reads."""

from typing import Any

from vasa_jax.evaluation.control_trials import FREE, TRUTH
from vasa_jax.evaluation.report import figure_cell, figure_table, instrument_lines

COSTS = {
    "mouth_r": ("mouth opening, r per clip", 3),
    "head_motion_ratio": ("head motion over the clip's true one", 2),
    "identity": ("identity, cosine to the portrait", 3),
}
CONTROL_ROWS = {
    "gaze": {"gaze_error": ("main gaze, error in degrees", 2)} | COSTS,
    "distance": {"distance_error": ("head distance, error", 4)} | COSTS,
    "emotion": {
        "emotion_accuracy": ("share of videos whose emotion is named right", 2),
        "emotion_share": ("share of the wanted emotion in a frame", 2),
    }
    | COSTS,
}
SAMPLING_ROWS = {
    "mouth_r": ("mouth opening, r per clip", 3),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "lip_shape_r": ("width and height of the lips, r per clip", 3),
    "lip_shape_mae": ("width and height of the lips, mean absolute error", 4),
    "offset": ("offset with the largest mean r, frames (+ is late)", 0),
    "in_sync": ("share of takes that are best at offset 0", 2),
    "head_motion_ratio": ("head motion over the clip's true one", 2),
    "pose_audio_r": ("speed of the head against loudness, r", 3),
    "head_diversity": ("difference of head motion between takes, degrees", 2),
    "lips_agreement": ("mouth opening, r between takes", 3),
    "identity": ("identity, cosine to the portrait", 3),
}
REFERENCES = {
    "truth": "truth, measured",
    "second": "second true take, measured",
    "shuffled": "shuffled audio",
    "constant": "constant motion",
}
READER_ROWS = {
    "clip_accuracy": ("clips with at least half of an emotion, named right", 3),
    "frame_accuracy": ("their frames, named right", 3),
    "share_mae": ("share of each emotion, mean absolute error", 3),
}


def controls_markdown(report: dict[str, Any]) -> str:
    """The instruments' own errors first, then controls, then guidance by the sound, then steps."""
    s = report["settings"]
    lines = [
        "# Controls, guidance and steps on held-out heads, voices and sentences",
        "",
        f"{report['set']}: {s['heads']} heads, {s['seconds']:g} s each, seed {s['seed']}. Where nothing else is said: "
        f"{report['usual']}. Truth is measured over the middle {s['rendered_seconds']:g} s of each clip. "
        "Mean +- standard error over heads.",
        "",
        *instrument_lines(report["instrument"], s["heads"]),
        *_reader_lines(report["emotion_reader"]),
        "## Controls",
        "",
        "Each control alone, by the scale of its guidance (0: the condition is given, not guided). Gaze and distance "
        "are asked to be the clip's own; uncontrolled: nothing is given, and the distance is then the portrait's.",
        "",
    ]
    for name, rows in CONTROL_ROWS.items():
        lines += [f"### {name.capitalize()}", ""]
        if name in report["skipped"]:
            lines += [f"Not measured: {report['skipped'][name]}.", ""]
        else:
            lines += [*_by_column(rows, _titles(report["control_columns"]), report["controls"][name]), ""]
            lines += _emotion_lines(report) if name == "emotion" else []
    if s["samples"] < 2:
        lines += ["One take per setting: differences between takes are not measured.", ""]
    given = ", ".join(report["given"]) or "none"
    lines += [
        "## Guidance by the sound",
        "",
        f"{s['samples']} takes per head. Controls given: {given}. Shuffled audio and constant motion: as usual.",
        "",
        *figure_table(SAMPLING_ROWS, _ways(report["by_guidance"]) | REFERENCES, report["sampling"]),
        "",
        "Differences between takes: of head rotation without each take's mean, root mean square over sqrt(2); for the "
        "truth between its two takes. Speed of the head against loudness is no learned score (the paper's CAPP has no "
        f"public weights); unrelated sound does not give 0. Identity of two different people: "
        f"{figure_cell(report['different_people'], 3)}.",
        "",
        _sync_line(report),
        "",
        "## Solver and steps",
        "",
        *figure_table(SAMPLING_ROWS, _ways(report["by_steps"]) | {"truth": REFERENCES["truth"]}, report["sampling"]),
        "",
    ]
    return "\n".join(lines)


def _titles(columns: list[str]) -> dict[str, str]:
    names = {FREE: FREE, TRUTH: "truth, measured"}
    return {column: names.get(column, f"guidance {column}") for column in columns}


def _by_column(rows: dict, columns: dict[str, str], table: dict[str, dict]) -> list[str]:
    """Table lines of {row: {column: value}}."""
    return figure_table(rows, columns, {c: {name: row.get(c) for name, row in table.items()} for c in columns})


def _reader_lines(reader: dict[str, Any] | None) -> list[str]:
    if reader is None:
        return []
    training = reader["training"]
    values = {
        "sharp": {name: {"mean": training[name]} for name in READER_ROWS if name in training},
        "soft": {name: {"mean": training[f"soft_{name}"]} for name in READER_ROWS if f"soft_{name}" in training},
    }
    return [
        "## The reader of emotions on true renders",
        "",
        *figure_table(READER_ROWS, {"sharp": "true renders", "soft": "degraded"}, values),
        "",
        f"Held-out heads, voices and sentences, when it was trained ({reader['source']}). Its accuracy on the very "
        "performances that are asked for below stands there in the column of the truth.",
        "",
    ]


def _emotion_lines(report: dict[str, Any]) -> list[str]:
    s, named = report["settings"], report["controls"]["named"]
    rows = {emotion: (emotion, 2) for emotion in named}
    return [
        f"{s['emotions']} emotions of each head, in turn, at strength {s['emotion_strength']:g}; guessing names one "
        f"in seven. Truth: {s['emotion_frames']} frames of another true performance of the sentence with that emotion. "
        "Named right, by the emotion asked for:",
        "",
        *_by_column(rows, _titles(report["control_columns"]), named),
        "",
    ]


def _ways(ways: dict[str, str]) -> dict[str, str]:
    return {way: title for title, way in ways.items()}


def _sync_line(report: dict[str, Any]) -> str:
    offset = report["sampling"][report["usual"]]["offset"]["mean"] if report["usual"] in report["sampling"] else None
    if offset is None:
        return "The usual way of sampling is none of those measured."
    return f"Sound and lips, {report['usual']}: best at an offset of {offset:+.0f} frames; 0 is in time."
