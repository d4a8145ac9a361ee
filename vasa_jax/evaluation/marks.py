"""The `evaluate_marks` job: how often the mark is found after attacks, and how often where there is none.

Recall is counted on videos of 5 s that the model makes of portraits, and on clips of real people that are marked as if
they were generated, at each size. Each has a payload of its own, is written as the product writes it, attacked and
searched. False alarms are counted on windows that carry no mark.
"""

import dataclasses
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vasa_jax.config import MarksConfig, VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.mark_attacks import ATTACKS, scaled
from vasa_jax.evaluation.unmarked_windows import STRIDE, unmarked_windows
from vasa_jax.generation.detect import PICTURES, READABLE, SECONDS, detect_frames
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.mark_search import SURE, search, small_luma
from vasa_jax.generation.watermark import Payload, embed, pattern
from vasa_jax.preparation.prepare import SUFFIXES

LENGTH = int(SECONDS * FPS)
MOTIONS = 4  # that the portraits take turns with
SINGLE = "one frame"  # begins the names of attacks that leave a picture


@dataclasses.dataclass(frozen=True)
class Trial:
    """A marked video and what was found after each attack."""

    kind: str
    size: int
    psnr: float  # dB of the marked frames against the unmarked ones
    flicker: float  # mean absolute frame-to-frame difference that the mark adds, in levels
    found: dict[str, bool]
    read: dict[str, bool]  # whether the payload was read right, with certainty
    wrong: dict[str, bool]  # whether another payload was read with certainty


def evaluate_marks(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """The job: prints and writes report.md and report.json to the workdir; returns the report."""
    marks, workdir = config.marks, Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    clips = find_clips(config.videos)
    workers = marks.workers or os.cpu_count() or 1
    generated: list[np.ndarray] = []  # lumas of the unmarked frames, for the false alarms
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        trials = []
        for trial in pool.imap_unordered(_try_one, carriers(config, clips, generated)):
            trials.append(trial)
            logging.info("%d marked videos of %d pixels tried", len(trials), trial.size)
        rendered = rendered_lumas(config)
        windows = unmarked_windows(marks.windows, clips, generated, rendered, config.seed)
        alarms: dict[str, list[float]] = {}
        for number, (source, p_value) in enumerate(pool.imap_unordered(_search_one, windows, 16)):
            alarms.setdefault(source, []).append(p_value)
            if number % 1000 == 999:
                logging.info("%d unmarked windows searched", number + 1)
    report = {"recall": recall(trials), "alarms": false_alarms(alarms)}
    text = as_text(report)
    (workdir / "report.json").write_text(json.dumps(report, indent=1))
    (workdir / "report.md").write_text(text)
    print(text)
    return report


def find_clips(folders: str) -> list[Path]:
    """Returns the videos below folders, which commas part; InputError where one of them does not exist."""
    roots = [Path(name) for name in folders.split(",") if name]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"config.videos: {root} is no folder; give folders of unmarked clips, parted by commas")
    files = (path for root in roots for path in sorted(root.rglob("*")))
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def carriers(config: VASAConfig, clips: Sequence[Path], lumas: list[np.ndarray]) -> Iterator[tuple]:
    """Yields (kind, size, unmarked frames, seed) of every video to mark; puts the generated ones' lumas into `lumas`.

    Half of the videos are generated, half are real clips of at least 5 s, where there are any.
    """
    marks = config.marks
    real = real_windows(clips, marks.carriers // 2)
    made = generated_videos(config, marks.carriers - len(real))
    for seed, (kind, frames) in enumerate((*(("real", clip) for clip in real), *made)):
        if kind == "generated":
            lumas.append(_means(frames))
        for size in marks.sizes:
            yield kind, size, scaled(frames, size / frames.shape[1]), seed


def _means(frames: np.ndarray) -> np.ndarray:
    small = [small_luma(frame) for frame in frames]
    return np.stack([np.mean(small[i : i + STRIDE], 0) for i in range(0, len(small), STRIDE)]).astype(np.float16)


def real_windows(clips: Sequence[Path], count: int) -> list[np.ndarray]:
    """Returns up to `count` squares from the middle of clips, uint8 (125, n, n, 3), one 5 s after the other."""
    result: list[np.ndarray] = []
    for path in clips:
        held = []
        for frame in read_video(path, fps=FPS).frames:
            if len(result) >= count:
                return result
            side = min(frame.shape[:2]) // 2 * 2
            top, left = ((length - side) // 2 for length in frame.shape[:2])
            held.append(frame[top : top + side, left : left + side])
            if len(held) == LENGTH:
                stacked = np.stack(held)
                # Kept no larger than any product picture, so that memory is bounded.
                result.append(scaled(stacked, 512 / side) if side > 512 else stacked)
                held = []
    return result


def generated_videos(config: VASAConfig, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yields ("generated", unmarked frames uint8 (125, n, n, 3)): portraits that speak the shipped sentence."""
    from vasa_jax.generation.generator import VideoGenerator

    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    samples = read_audio(DEMO["audio"]).samples
    motions = [generator.motion(samples, seed=seed, pose_anchor="absolute")[:LENGTH] for seed in range(MOTIONS)]
    for number, portrait in enumerate(portraits(config.marks, generator, config.seed, count)):
        avatar = generator.prepare(portrait)
        yield "generated", np.concatenate(list(generator.render(avatar, motions[number % MOTIONS])))


def portraits(marks: MarksConfig, generator: Any, seed: int, count: int) -> Iterator[np.ndarray]:
    """Yields up to `count` portraits, uint8 (n, n, 3): of the folder's pictures with a face, or rendered heads."""
    if not marks.portraits:
        heads = HeldOutHeads(generator.image_size, seed)
        for index in range(count):
            yield heads.portrait(heads.identity(index))
        return
    paths = sorted(path for path in Path(marks.portraits).rglob("*") if path.suffix.lower() in PICTURES)
    # Every n-th, so that a few are of all sources.
    for path in paths[:: max(len(paths) // max(count, 1), 1)][:count]:
        try:
            yield generator.read_portrait(path)[0]
        except InputError as error:
            logging.info("left out: %s", error)


def rendered_lumas(config: VASAConfig, people: int = 24, stills: int = 6) -> list[np.ndarray]:
    """Returns lumas (stills, H, W) of rendered heads in random poses, which are nobody's video but pass for one."""
    from vasa_jax.evaluation.held_out_stills import motions_with_other_poses

    heads = HeldOutHeads(256, config.seed)
    result = []
    for index in range(people):
        motion = jax.device_get(motions_with_other_poses(jax.random.fold_in(heads.key, index), stills))
        frames = heads.render(heads.identity(index), motion)["rgb"]
        result.append(np.stack([small_luma(frame) for frame in frames]).astype(np.float16))
    return result


def _try_one(carrier: tuple) -> Trial:
    kind, size, frames, seed = carrier
    rng = np.random.default_rng(seed)
    payload = Payload(int(rng.integers(2**28)))
    marked = mark_frames(frames, payload)
    difference = marked.astype(np.float32) - frames
    psnr = 10 * np.log10(255**2 / np.mean(difference**2))
    flicker = np.abs(np.diff(difference, axis=0)).mean()
    with tempfile.TemporaryDirectory() as folder:
        written = np.stack(list(read_video(write_video(Path(folder) / "a.mp4", marked)).frames))
    found, read, wrong = {}, {}, {}
    for name, attack in ATTACKS.items():
        evidence, _, _ = detect_frames(attack(written, rng), FPS)
        certain = evidence.marked and evidence.certainty >= READABLE
        found[name] = evidence.marked
        read[name], wrong[name] = certain and evidence.payload == payload, certain and evidence.payload != payload
    return Trial(kind, size, float(psnr), float(flicker), found, read, wrong)


def mark_frames(frames: np.ndarray, payload: Payload) -> np.ndarray:
    """Returns frames, uint8 (T, n, n, 3), with the mark of a payload, as the animator rounds them."""
    waves = pattern(payload, frames.shape[1])
    parts = [np.asarray(_marked(frames[start : start + FPS], waves)) for start in range(0, len(frames), FPS)]
    return np.concatenate(parts)


@jax.jit
def _marked(frames: jax.Array, waves: jax.Array) -> jax.Array:
    marked = embed(frames.astype(jnp.float32), waves)
    return jnp.clip(marked + 0.5, 0.0, 255.0).astype(jnp.uint8)


def _search_one(window: tuple[str, np.ndarray]) -> tuple[str, float]:
    source, luma = window
    return source, search(luma).p_value


def recall(trials: Sequence[Trial]) -> dict[str, Any]:
    """Returns counts of videos found and read, by kind and size and attack, beside PSNR and flicker."""
    result = {}
    for key in sorted({(trial.kind, trial.size) for trial in trials}):
        group = [trial for trial in trials if (trial.kind, trial.size) == key]
        result[f"{key[0]}, {key[1]} x {key[1]}"] = {
            "videos": len(group),
            "psnr": [min(trial.psnr for trial in group), float(np.mean([trial.psnr for trial in group]))],
            "flicker": float(np.mean([trial.flicker for trial in group])),
            "found": {name: sum(trial.found[name] for trial in group) for name in ATTACKS},
            "read": {name: sum(trial.read[name] for trial in group) for name in ATTACKS},
            "wrong": {name: sum(trial.wrong[name] for trial in group) for name in ATTACKS},
        }
    return result


def false_alarms(p_values: dict[str, list[float]]) -> dict[str, Any]:
    """Returns, by source, the windows searched, the alarms among them, and the least p-value."""
    return {
        source: {"windows": len(values), "alarms": sum(p <= SURE for p in values), "least": min(values)}
        for source, values in sorted(p_values.items())
    }


def as_text(report: dict[str, Any]) -> str:
    """Returns the report as Markdown."""
    groups = report["recall"]
    lines = ["| marked videos of 5 s | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]

    def row(name, cells):
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    row("videos", [str(group["videos"]) for group in groups.values()])
    row("PSNR: least, mean", ["{:.1f}, {:.1f} dB".format(*group["psnr"]) for group in groups.values()])
    row("frame-to-frame difference added", [f"{group['flicker']:.2f} levels" for group in groups.values()])
    for name in ATTACKS:
        row(f"{name}: found; payload read", [
            f"{group['found'][name]}; {group['read'][name]}"
            + (f" ({group['wrong'][name]} wrong)" if group["wrong"][name] else "")
            for group in groups.values()
        ])  # fmt: skip
    lines += ["", f"| unmarked windows | searched | alarms (p <= {SURE:g}) | least p |", "|---|---|---|---|"]
    alarms = report["alarms"]
    lines += [f"| {name} | {row['windows']} | {row['alarms']} | {row['least']:.1g} |" for name, row in alarms.items()]
    total, wrong = (sum(row[name] for row in alarms.values()) for name in ("windows", "alarms"))
    lines.append(f"| all | {total} | {wrong} | {min((row['least'] for row in alarms.values()), default=1):.1g} |")
    return "\n".join(lines) + "\n"
