"""Job `evaluate_tables`: VASA-1's Tables 1 and 2 in shape, for real clips, the model, another sound and a still.

    python -m vasa_jax.main --config configs/evaluate_tables.py --config.videos=DIR

Each real clip gives a portrait, its best early frame, and a sound. The model drives the portrait by that sound. Beside
it stand two floors: the video of another clip under this sound, and the portrait, unmoved, under its own.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.report import Rows, markdown_table, save_report
from vasa_jax.evaluation.video_list import Entry, File, files_of
from vasa_jax.evaluation.video_metrics import ROWS
from vasa_jax.evaluation.video_report import interval_cell
from vasa_jax.evaluation.videos import Evaluator
from vasa_jax.generation.control_track import controls_of
from vasa_jax.generation.controls import Controls
from vasa_jax.limits import InputLimits
from vasa_jax.preparation.report import plain_text

SETS = {
    "real": "real clips",
    "model": "the model, by the same sound",
    "shuffled": "the model's video of another clip, with this sound",
    "still": "the portrait, unmoved, with this sound",
}
# VASA-1's columns first, then ours.
COLUMNS: Rows = {
    "sync_confidence": ("S_C (higher)", 2),
    "sync_distance": ("S_D (lower)", 2),
    "capp": ("CAPP, own weights (higher)", 3),
    "capp_other": ("CAPP with the others' sound", 3),
    "delta_p": ("delta P", 2),
    "probe_sync_confidence": ("sync probe, confidence (higher)", 3),
    "probe_sync_distance": ("sync probe, distance (lower)", 3),
    "loudness_r": ("loudness r (higher)", 2),
    "blinks": ("blinks a minute", 1),
    "identity_hold": ("identity to its first second", 3),
}
DISTANCES = {"fvd": "FVD_25 (lower)", "frd": "FRD, own probe (lower)"}


def evaluate_tables(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Makes the videos of `config.videos_evaluation.most` clips of `config.videos`, and reports on all sets."""
    from vasa_jax.generation.generator import VideoGenerator

    settings = config.videos_evaluation
    files = files_of(config.videos, "")
    rows = np.linspace(0, len(files) - 1, min(settings.most, len(files))).round().astype(int)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    tools = Instruments.open(settings)
    clips = [files[row] for row in rows]
    sets, faults = make_sets(generator, clips, controls_of(config), settings.seconds, config.limits, Path(workdir))
    return measure_sets(Evaluator(config, tools), sets, faults, Path(workdir))


def make_sets(
    generator: Any, clips: Sequence[File], controls: Controls, seconds: float, limits: InputLimits, workdir: Path
) -> tuple[dict[str, list[File]], dict[str, str]]:
    """Writes the videos of each of SETS to workdir/made, and returns them and why other clips gave none.

    InputError where fewer than two clips have a face and sound.
    """
    made, faults = [], {}
    for number, clip in enumerate(clips):
        try:
            portrait, sound = generator.read_portrait(clip.path, limits=limits).pixels, read_audio(clip.path, limits)
        except InputError as error:
            faults[clip.name] = str(error).replace(str(clip.path), clip.name)
            continue
        samples = sound.samples[: round(seconds * SAMPLE_RATE)]
        avatar = generator.prepare(portrait)
        seeded = dataclasses.replace(controls, seed=controls.seed + number)
        frames = list(np.concatenate(list(generator.render(avatar, generator.motion(samples, avatar, seeded)))))
        made.append((clip, portrait, samples, frames))
        logging.info("%s: %d of %d", clip.name, number + 1, len(clips))
    if len(made) < 2:
        why = "; ".join(list(faults.values())[:3])
        raise InputError(
            f"config.videos: {len(made)} of {len(clips)} clips can be used, two are needed ({why}); give videos of "
            "talking people, with their sound"
        )
    sets: dict[str, list[File]] = {"real": [clip for clip, *_ in made]}
    for number, (clip, portrait, samples, frames) in enumerate(made):
        other = made[(number + 1) % len(made)][3]
        for name, shown in {"model": frames, "shuffled": other, "still": [portrait] * len(frames)}.items():
            count = min(len(shown), -(-len(samples) // SAMPLES_PER_FRAME))
            path = workdir / "made" / name / f"{clip.key}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, shown[:count], Audio.from_samples(samples[: count * SAMPLES_PER_FRAME]), FPS)
            sets.setdefault(name, []).append(File(path, f"{name}/{clip.name}"))
    return sets, faults


def measure_sets(
    evaluator: Evaluator, sets: dict[str, list[File]], faults: dict[str, str], workdir: Path
) -> dict[str, Any]:
    """Measures every set against the real clips, writes report.md and report.json, and returns the report."""
    found = {}
    for name, files in sets.items():
        videos = [Entry(video) for video in files]
        found[name] = evaluator.run(videos, sets["real"], workdir / name, workdir / "measured", printed=False)
    report = {
        "clips": len(sets["real"]), "faults": faults, "protocol": found["real"]["protocol"],
        "sets": {
            name: {"table": {row: one["table"].get(row, {}).get("videos") for row in COLUMNS},
                   "distances": {kind: _distance(one["frechet"], kind, name) for kind in DISTANCES}}
            for name, one in found.items()
        },
    }  # fmt: skip
    save_report(report, tables_markdown(report), workdir)
    return report


def tables_markdown(report: dict[str, Any]) -> str:
    """Writes a row for each set and a column for each figure that is known."""
    sets = report["sets"]
    rows = [name for name in COLUMNS if any(one["table"][name] for one in sets.values())]
    kinds = [name for name in DISTANCES if any(one["distances"][name] is not None for one in sets.values())]
    body = []
    for name, title in SETS.items():
        cells = [interval_cell(sets[name]["table"][row], COLUMNS[row][1]) for row in rows]
        distances = [sets[name]["distances"][kind] for kind in kinds]
        body.append([title, *cells, *("" if value is None else f"{value:.4g}" for value in distances)])
    missing = [ROWS[name][0] for name in ("sync_confidence", "sync_distance") if name not in rows]
    missing += [DISTANCES[name] for name in ("fvd",) if name not in kinds]
    lines = ["# Real clips, the model, and two floors", "", f"{report['clips']} clips.", ""]
    lines += markdown_table(["", *(COLUMNS[name][0] for name in rows), *(DISTANCES[kind] for kind in kinds)], body)
    lines += [
        "",
        "Mean [95 % confidence interval over clips] (number of clips). The distance of the real clips is that of one "
        "half from the other. S_C, S_D and FVD are the published networks' and compare with papers that measure the "
        "same clips in the same way. Everything else is by networks of this project, which have learnt from rendered "
        f"heads, most of them from nothing else: {_COMPARE}",
    ]
    if missing:
        lines += ["", f"Not measured: {'; '.join(missing)} (config.videos_evaluation.networks)."]
    if report["faults"]:
        lines += ["", "## Not used", "", *(f"* {plain_text(text)}" for text in report["faults"].values())]
    return "\n".join([*lines, ""])


_COMPARE = (
    "compare the rows of this table with each other. No figure of theirs, CAPP among them, can be set beside VASA-1's."
)


def _distance(found: dict[str, Any], kind: str, name: str) -> float | None:
    which = "halves" if name == "real" else "videos"
    return found.get(kind, {}).get(which, {}).get("distance")
