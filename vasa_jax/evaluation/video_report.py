"""The report of `evaluate_videos`: tables for people, the same as data, plots, and a sheet for each video."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.conventions import head_angles
from vasa_jax.evaluation import sheets
from vasa_jax.evaluation.capp import SCALES, SHIFTS
from vasa_jax.evaluation.measured_video import Measured
from vasa_jax.evaluation.report import Rows, markdown_table, save_report
from vasa_jax.evaluation.video_metrics import PAIR_ROWS, ROWS
from vasa_jax.files import write_text
from vasa_jax.preparation.report import plain_text

COLUMNS = {"videos": "videos", "references": "references"}
FEW_CLIPS = 200  # below, a Fréchet distance says more about the number of clips than about the videos
PLOTTED = ("sync_confidence", "probe_sync_confidence", "capp", "loudness_r", "delta_p_smooth", "blinks",
           "mouth_deviation", "identity_hold", "sharpness_face", "background_change")  # fmt: skip
_QUANTILES = np.linspace(0.0, 1.0, 11)
_FRECHET = {
    "frd": "FRD, Fréchet distance of readings (own face probe; not FVD)",
    "efrd": "EFRD, the same of single frames' expressions (not E-FID)",
    "fpd": "FPD, Fréchet distance of pictures (own face probe's first layers; not FID)",
    "fvd": "FVD, I3D of Kinetics-400",
    "fid": "FID, Inception of 2015-12-05",
    "efid": "E-FID, expression coefficients of Deep3DFaceRecon",
}


def write_report(
    report: dict[str, Any], shown: Sequence[tuple[Measured, Measured | None]], workdir: Path, printed: bool = True
) -> None:
    """Writes clips.csv, report.md, report.json, plots.png, and sheets/ of each video beside its reference."""
    write_text(workdir / "clips.csv", clips_csv(report["clips"]))
    for video, reference in shown:
        if not video.fault:
            sheets.save(workdir / "sheets" / f"{video.file.key}.png", sheet(video, reference))
    sheets.save(workdir / "plots.png", plots(report))
    save_report(report, videos_markdown(report), workdir, printed)


def clips_csv(clips: Sequence[dict[str, Any]]) -> str:
    """Returns a table with a line for each video, metrics to six digits; what is not known is empty."""
    own = [name for name in ROWS if any(name in clip["metrics"] for clip in clips)]
    pair = [name for name in PAIR_ROWS if any(name in clip["pair"] for clip in clips)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = ["video", "reference", "frames", "width", "height", "square", *own, *(f"pair_{name}" for name in pair)]
    writer.writerow([*titles, "fault"])
    for clip in clips:
        about = [clip["about"].get(name, "") for name in ("frames", "width", "height", "square")]
        values = [_digits(clip["metrics"].get(name)) for name in own]
        values += [_digits(clip["pair"].get(name)) for name in pair]
        writer.writerow([clip["name"], clip["reference"] or "", *about, *values, clip["fault"]])
    return text.getvalue()


def sheet(video: Measured, reference: Measured | None) -> np.ndarray:
    """Draws frames of the reference above those of the video, and both mouths and head turns over time."""
    pair = {"video": video} | ({"reference": reference} if reference is not None and not reference.fault else {})
    rows = [pair[name].strip for name in ("reference", "video") if name in pair]
    width = rows[0].shape[1]
    mouths = {name: one.reading.mouth for name, one in pair.items()}
    turns = {name: _from_zero(head_angles(one.reading.pose)[:, 0]) for name, one in pair.items()}
    return np.concatenate([
        *rows,
        sheets.curves(mouths, f"{video.file.name}: mouth opening; a tick is a second", width),
        sheets.curves(turns, "yaw of the head, degrees above its least", width),
    ])  # fmt: skip


def plots(report: dict[str, Any]) -> np.ndarray:
    """Draws CAPP against shift and scale, and the quantiles of metrics over videos, side by side in pairs."""
    images = []
    curves = report["curves"]
    for kind, places in (("shift", SHIFTS), ("scale", SCALES)):
        names = [f"{kind}_{place:g}" for place in places]
        if all(name in curves for name in names):
            series = {
                column: [_mean(curves[name].get(column)) for name in names]
                for column in COLUMNS
                if curves[names[0]].get(column)
            }
            title = "CAPP against a shift in frames" if kind == "shift" else "CAPP against the size of head motion"
            images.append(sheets.chart([f"{place:g}" for place in places], series, title))
    labels = [f"{share:.0%}" for share in _QUANTILES]
    sets = {"videos": report["clips"], "references": report["reference_clips"]}
    for name in PLOTTED:
        rows = {which: [clip["metrics"] for clip in of] for which, of in sets.items()}
        values = {which: [row[name] for row in of if name in row] for which, of in rows.items()}
        series = {which: list(np.quantile(known, _QUANTILES)) for which, known in values.items() if known}
        if series:
            images.append(sheets.chart(labels, series, f"{ROWS[name][0]}: quantiles"))
    if not images:
        images.append(sheets.chart(["", ""], {"nothing measured": [0.0, 0.0]}, "no video could be measured"))
    if len(images) % 2:
        images.append(np.full_like(images[0], 255))
    return np.concatenate([np.concatenate(pair, axis=1) for pair in zip(images[::2], images[1::2])])


def videos_markdown(report: dict[str, Any]) -> str:
    """Writes what was measured by which protocol, the tables, and what could not be measured."""
    protocol = report["protocol"]
    networks = ", ".join(f"{name} `{digest[:12]}`" for name, digest in protocol["networks"].items())
    lines = [
        "# Videos of talking faces",
        "",
        f"{report['measured']} of {report['videos']} videos and {report['references']} references were measured, at "
        f"{protocol['video']['frames_per_second']} frames per second, in a fixed square of {protocol['video']['side']} "
        f"pixels around the head. protocol.json says how in full. Networks: {networks or 'none'}.",
        "",
        "## By themselves",
        "",
        *_table(ROWS, report["table"], COLUMNS),
        "",
        "Mean [95 % confidence interval of the mean over videos, Student's] (number of videos).",
        "",
    ]
    if report["pairs"]:
        lines += ["## Against what belongs to them", "", *_table(PAIR_ROWS, report["pairs"], {"videos": "videos"}), ""]
    if report["frechet"]:
        lines += ["## As sets", "", *_frechet_table(report["frechet"]), ""]
        lines += [
            "FRD and FVD of clips of 25 frames, EFRD of frames, FPD, FID and E-FID of every fifth frame. "
            "Half the references against the other half is what real videos have among themselves. "
            f"With fewer than {FEW_CLIPS} clips a side the distance is too large, the more so the fewer there are.",
            "",
        ]
    lines += _curves_table(report["curves"])
    lines += [
        "## How to read this",
        "",
        "Poses, mouths, lids and gaze are read by this project's face probe, which has learnt from rendered heads: "
        f"{_probe(report['probe'])}. On real faces its errors are larger and not known. Compare systems with each "
        "other and with references measured here, not with figures from papers. S_C and S_D need the published "
        "SyncNet, FVD the published I3D, FID the published Inception, AED, APD and E-FID Deep3DFaceRecon's network "
        "(config.videos_evaluation.networks). The sync probe's figures are of a scale "
        "of their own. CAPP is by our own weights: VASA-1's were "
        f"never published, and figures of the two cannot be compared. {_capp(report['capp'])}".strip(),
        "",
    ]
    if report["faults"]:
        lines += ["## Not measured", "", *(_line(name, fault) for name, fault in report["faults"].items()), ""]
    notes = [_line(clip["name"], note) for clip in report["clips"] for note in [*clip["notes"], *_notes(clip)]]
    if notes:
        lines += ["## Notes", "", *notes, ""]
    return "\n".join(lines)


def _table(rows: Rows, table: dict[str, Any], columns: dict[str, str]) -> list[str]:
    used = {name: title for name, title in columns.items() if any(row.get(name) for row in table.values())}
    body = [[rows[name][0], *(interval_cell(row.get(c), rows[name][1]) for c in used)] for name, row in table.items()]
    return markdown_table(["", *used.values()], body)


def _curves_table(curves: dict[str, Any]) -> list[str]:
    """CAPP against shift and scale, as VASA-1's Tables 3 and 4."""
    lines = []
    for kind, places, title in (("shift", SHIFTS, "frames of shift"), ("scale", SCALES, "size of head motion")):
        names = [f"{kind}_{place:g}" for place in places]
        used = [c for c in COLUMNS if all((curves.get(name) or {}).get(c) for name in names)]
        if used:
            body = [[COLUMNS[c], *(f"{curves[name][c]['mean']:.3f}" for name in names)] for c in used]
            lines += markdown_table([f"CAPP, {title}", *(f"{place:g}" for place in places)], body) + [""]
    return ["## Does CAPP feel a shift and a wrong size?", "", *lines] if lines else []


def _frechet_table(found: dict[str, Any]) -> list[str]:
    body = []
    for name, title in _FRECHET.items():
        if name in found:
            body.append([title, *(_distance_cell(found[name].get(which)) for which in ("videos", "halves"))])
    titles = ["distance (clips, or frames, of each side)", "videos, references", "references, half and half"]
    return markdown_table(titles, body)


def _distance_cell(found: dict[str, Any] | None) -> str:
    return f"{found['distance']:.4g} ({found['clips'][0]}, {found['clips'][1]})" if found else ""


def interval_cell(value: dict[str, float] | None, digits: int) -> str:
    """Writes a mean with its interval and its count, as `metrics.interval` gives them; empty for nothing known."""
    if not value:
        return ""
    text = f"{value['mean']:.{digits}f}"
    if "low" in value:
        text += f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return f"{text} ({value['count']})"


def _mean(value: dict[str, float] | None) -> float:
    return value["mean"] if value else math.nan


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _from_zero(track: np.ndarray) -> np.ndarray:
    return track - track.min()


def _line(name: str, text: str) -> str:
    """A line of a list; most texts name their file themselves."""
    return f"* {plain_text(text if name in text else f'{name}: {text}')}"


def _notes(clip: dict[str, Any]) -> list[str]:
    return clip["about"].get("notes", [])


def _capp(figures: dict[str, float]) -> str:
    """What the weights have learnt from: figures of real clips are there only if there were such."""
    if not figures or any(name.startswith("real_") for name in figures):
        return ""
    return "They have learnt from rendered heads and synthesised speech alone, and say nothing about real people."


def _probe(errors: dict[str, float]) -> str:
    names = {"rotation_error_degrees": "head rotation {:.1f} degrees off", "gaze_mae_degrees": "gaze {:.1f} degrees",
             "mouth_r": "mouth opening r {:.3f}"}  # fmt: skip
    known = [text.format(errors[name]) for name, text in names.items() if name in errors]
    return f"on held-out ones {', '.join(known)}" if known else "its errors on those are not known"
