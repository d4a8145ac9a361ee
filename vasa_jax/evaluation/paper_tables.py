"""Job `evaluate_tables`: VASA-1's Tables 1, 2 and 5 in shape, for real clips or held-out heads of the corpus.

    python -m vasa_jax.main --config configs/evaluate_tables.py --config.videos=DIR

Each clip gives a portrait, its best early frame, and a sound. The model drives the portrait by that sound. Beside it
stand two floors: the video of another clip under this sound, and the portrait, unmoved, under its own. With
`videos_evaluation.rows` the model drives it once more for each way of guidance. Then it is asked for the clip's own
main gaze, as the face probe reads it, and for the distance of the mean.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.guidance_table import guidance_way
from vasa_jax.evaluation.held_out import HeldOutSet
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
    "real": "the clips",
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
    "gaze_error": ("gaze error, degrees", 2),
    "distance_error": ("distance error", 3),
}
WIDEST_GAZE = 20.0  # degrees that are asked for, at most
CORPUS_SIZE = 256  # pixels of rendered heads
DISTANCES = {"fvd": "FVD_25 (lower)", "frd": "FRD, own probe (lower)"}


def evaluate_tables(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Makes the videos of `config.videos_evaluation.most` clips of `config.videos`, and reports on all sets."""
    from vasa_jax.generation.generator import VideoGenerator

    settings, workdir = config.videos_evaluation, Path(workdir)
    if config.videos:
        files = files_of(config.videos, "")
    else:
        files = corpus_clips(settings.most, settings.seconds, config.corpus.speech, config.seed, workdir / "corpus")
    rows = np.linspace(0, len(files) - 1, min(settings.most, len(files))).round().astype(int)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    tools = Instruments.open(settings)
    clips, evaluator = [files[row] for row in rows], Evaluator(config, tools)
    asked = {}
    if settings.rows:
        asked = asked_of(evaluator, clips, generator.trained_controls, workdir)
    sets, faults = make_sets(
        generator, clips, controls_of(config), settings.seconds, config.limits, workdir, settings.rows, asked
    )
    return measure_sets(evaluator, sets, faults, workdir)


def corpus_clips(
    count: int, seconds: float, speech: str, seed: int, folder: Path, size: int = CORPUS_SIZE
) -> list[File]:
    """Renders held-out heads of the corpus, which say held-out sentences, as videos of `size` pixels in `folder`."""
    heads, found = HeldOutSet(count, seconds, seconds, size, seed, speech=speech), []
    for number in range(count):
        head = heads[number]
        heard = head.samples[head.window.start * SAMPLES_PER_FRAME : head.window.stop * SAMPLES_PER_FRAME]
        path = folder / f"{head.name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, head.frames, Audio.from_samples(heard), FPS)
        found.append(File(path, path.name))
        logging.info("%s: %d of %d rendered", head.name, number + 1, count)
    return found


def asked_of(
    evaluator: Evaluator, clips: Sequence[File], trained: Sequence[str], workdir: Path
) -> dict[str, dict[str, Any]]:
    """Returns {name of a clip: gaze and distance that its rows ask for}, as far as the model is trained on them."""
    report = evaluator.run(
        [Entry(clip) for clip in clips], [], workdir / "real", workdir / "measured", printed=False
    )
    found = {}
    for clip in report["clips"]:
        if not clip["fault"]:
            gaze = [clip["metrics"][name] for name in ("gaze_yaw", "gaze_pitch")]
            wanted = {"gaze": tuple(np.clip(gaze, -WIDEST_GAZE, WIDEST_GAZE).tolist()), "distance": 1.0}
            found[clip["name"]] = {name: value for name, value in wanted.items() if name in trained}
    return found


def make_sets(
    generator: Any, clips: Sequence[File], controls: Controls, seconds: float, limits: InputLimits, workdir: Path,
    rows: Sequence[str] = (), asked: Mapping[str, dict[str, Any]] | None = None,
) -> tuple[dict[str, list[Entry]], dict[str, str]]:  # fmt: skip
    """Writes the videos of each of SETS and of `rows` to workdir/made; returns them and why other clips gave none.

    asked: what the rows ask for, by the name of the clip. InputError where fewer than two clips have a face and sound.
    """
    made, faults, ways = [], {}, dict(map(guidance_way, rows))
    for number, clip in enumerate(clips):
        try:
            portrait, sound = generator.read_portrait(clip.path, limits=limits).pixels, read_audio(clip.path, limits)
        except InputError as error:
            faults[clip.name] = str(error).replace(str(clip.path), clip.name)
            continue
        samples = sound.samples[: round(seconds * SAMPLE_RATE)]
        avatar = generator.prepare(portrait)
        seeded = dataclasses.replace(controls, seed=controls.seed + number)
        wanted = (asked or {}).get(clip.name, {})

        def driven(chosen: Controls, avatar=avatar, samples=samples) -> list[np.ndarray]:
            return list(np.concatenate(list(generator.render(avatar, generator.motion(samples, avatar, chosen)))))

        of_rows = {title: driven(dataclasses.replace(seeded, **way, **wanted)) for title, way in ways.items()}
        made.append((clip, portrait, samples, driven(seeded), of_rows, wanted))
        logging.info("%s: %d of %d", clip.name, number + 1, len(clips))
    if len(made) < 2:
        why = "; ".join(list(faults.values())[:3])
        raise InputError(
            f"config.videos: {len(made)} of {len(clips)} clips can be used, two are needed ({why}); give videos of "
            "talking people, with their sound"
        )
    sets: dict[str, list[Entry]] = {"real": [Entry(clip) for clip, *_ in made]}
    for number, (clip, portrait, samples, frames, of_rows, wanted) in enumerate(made):
        other = made[(number + 1) % len(made)][3]
        videos = {"model": frames, "shuffled": other, "still": [portrait] * len(frames)} | of_rows
        for name, shown in videos.items():
            count = min(len(shown), -(-len(samples) // SAMPLES_PER_FRAME))
            path = workdir / "made" / plain_name(name) / f"{clip.key}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, shown[:count], Audio.from_samples(samples[: count * SAMPLES_PER_FRAME]), FPS)
            given = wanted if name in ways else {}
            sets.setdefault(name, []).append(Entry(File(path, f"{plain_name(name)}/{clip.name}"), **given))
    return sets, faults


def measure_sets(
    evaluator: Evaluator, sets: dict[str, list[Entry]], faults: dict[str, str], workdir: Path
) -> dict[str, Any]:
    """Measures every set against the real clips, writes report.md and report.json, and returns the report."""
    found, truths = {}, [entry.video for entry in sets["real"]]
    for name, videos in sets.items():
        folder = workdir / plain_name(name)
        found[name] = evaluator.run(videos, truths, folder, workdir / "measured", printed=False)
    tables = {name: one["table"] | one["pairs"] for name, one in found.items()}
    report = {
        "clips": len(sets["real"]), "faults": faults, "protocol": found["real"]["protocol"],
        "sets": {
            name: {"table": {row: tables[name].get(row, {}).get("videos") for row in COLUMNS},
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
    for name in sets:
        cells = [interval_cell(sets[name]["table"][row], COLUMNS[row][1]) for row in rows]
        distances = [sets[name]["distances"][kind] for kind in kinds]
        cells += ["" if value is None else f"{value:.4g}" for value in distances]
        body.append([SETS.get(name, f"the model, {name}"), *cells])
    missing = [ROWS[name][0] for name in ("sync_confidence", "sync_distance") if name not in rows]
    missing += [DISTANCES[name] for name in ("fvd",) if name not in kinds]
    lines = ["# Clips, the model, and two floors", "", f"{report['clips']} clips.", ""]
    lines += markdown_table(["", *(COLUMNS[name][0] for name in rows), *(DISTANCES[kind] for kind in kinds)], body)
    lines += [
        "",
        "Mean [95 % confidence interval over clips] (number of clips). The distance of the clips is that of one "
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


def plain_name(name: str) -> str:
    """Returns the name of a set as that of a folder."""
    return "".join(char if char.isalnum() or char == "." else "_" for char in name)


def _distance(found: dict[str, Any], kind: str, name: str) -> float | None:
    which = "halves" if name == "real" else "videos"
    return found.get(kind, {}).get(which, {}).get("distance")
