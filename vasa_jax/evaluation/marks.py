"""The `evaluate_marks` job: how often the mark is found after attacks, and how often where there is none.

Recall is counted at each size on videos of 5 s that the model makes of portraits. It is also counted on clips of real
people that are marked as if they were generated. Each has a payload of its own, is written as the product writes it,
attacked and searched. False alarms are counted on windows that carry no mark.
"""

import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vasa_jax.config import MarksConfig, VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.mark_attacks import ATTACKS, scaled
from vasa_jax.evaluation.unmarked_windows import STRIDE, UnmarkedWindows
from vasa_jax.files import run_in_processes, write_json, write_text
from vasa_jax.generation.detect import PICTURES, READABLE, SECONDS, detect_frames
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.mark_search import SURE, search, small_luma
from vasa_jax.generation.watermark import Payload, embed, pattern
from vasa_jax.preparation.prepare import SUFFIXES

LENGTH = int(SECONDS * FPS)
MOTIONS = 4  # that the portraits take turns with
RENDERED = 256  # pixels per side of rendered heads


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
    """Runs the job: prints and writes report.md and report.json to the workdir; returns the report."""
    workdir, clips = Path(workdir), find_clips(config.videos)
    workers = config.marks.workers or os.cpu_count() or 1
    workers = workers if workers > 1 else 0
    carriers = Carriers(config, clips)
    report: dict[str, Any] = {"cost": {size: marking_time(size) for size in config.marks.sizes}}
    report |= {"recall": {}, "alarms": {}}
    trials = []
    for _, trial in run_in_processes(_try_one, carriers, workers):
        trials.append(trial)
        report["recall"] = recall(trials)
        write_report(workdir, report)  # it takes long: what is counted is kept
        logging.info("%d of %d marked videos tried", len(trials), len(carriers))
    windows = UnmarkedWindows(config.marks.windows, clips, carriers.lumas, rendered_lumas(config), config.seed)
    alarms: dict[str, list[float]] = {}
    for _, (source, p_value) in run_in_processes(_search_one, windows, workers):
        alarms.setdefault(source, []).append(p_value)
        if (searched := sum(map(len, alarms.values()))) % 1000 == 0:
            logging.info("%d of %d unmarked windows searched", searched, len(windows))
            write_report(workdir, report | {"alarms": false_alarms(alarms)})
    report["alarms"] = false_alarms(alarms)
    write_report(workdir, report)
    print(as_text(report))
    return report


def marking_time(size: int, frames: int = 8, repeats: int = 20) -> float:
    """Returns the least wall time, milliseconds per frame, in which this machine marks a batch of frames."""
    rng = np.random.default_rng(0)
    pictures = jnp.asarray(rng.uniform(0, 255, (frames, size, size, 3)), jnp.float32)
    waves = jnp.asarray(pattern(Payload(0), size))
    mark = jax.jit(embed)
    seconds = []
    for _ in range(repeats + 1):  # the first one compiles
        start = time.perf_counter()
        mark(pictures, waves).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 1e3 * min(seconds) / frames


def write_report(workdir: Path, report: dict[str, Any]) -> None:
    """Writes report.md and report.json."""
    write_json(workdir / "report.json", report)
    write_text(workdir / "report.md", as_text(report))


def find_clips(folders: str) -> list[Path]:
    """Returns the videos below folders, which commas part; InputError where one of them does not exist."""
    roots = [Path(name) for name in folders.split(",") if name]
    for root in roots:
        if not root.is_dir():
            raise InputError(f"config.videos: {root} is no folder; give folders of unmarked clips, parted by commas")
    files = (path for root in roots for path in sorted(root.rglob("*")))
    return [path for path in files if path.suffix.lower() in SUFFIXES]


class Carriers(Sequence):
    """Videos to mark, each (kind, size, unmarked frames, seed): every one at all sizes, made when it is asked for.

    Half are real clips of at least 5 s, as far as there are any; the others are generated.

    Attributes:
      lumas: of the generated videos that were asked for.
    """

    def __init__(self, config: VASAConfig, clips: Sequence[Path]):
        self._sizes, self._last = config.marks.sizes, (-1, "", np.zeros(0))
        self._real = real_windows(clips, config.marks.carriers // 2)
        self._generated = GeneratedVideos(config, config.marks.carriers - len(self._real))
        self.lumas: list[np.ndarray] = []

    def __len__(self) -> int:
        return (len(self._real) + len(self._generated)) * len(self._sizes)

    def __getitem__(self, index: int) -> tuple[str, int, np.ndarray, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number, which = divmod(index, len(self._sizes))
        if number != self._last[0]:
            self._last = (number, *self._make(number))
        _, kind, frames = self._last
        size = self._sizes[which]
        return kind, size, scaled(frames, size / frames.shape[1]), number

    def _make(self, number: int) -> tuple[str, np.ndarray]:
        if number < len(self._real):
            return "real", self._real[number]
        frames = self._generated[number - len(self._real)]
        self.lumas.append(_means(frames))
        return "generated", frames


def _means(frames: np.ndarray) -> np.ndarray:
    small = [small_luma(frame) for frame in frames]
    return np.stack([np.mean(small[i : i + STRIDE], 0) for i in range(0, len(small), STRIDE)]).astype(np.float16)


def real_windows(clips: Sequence[Path], count: int) -> list[np.ndarray]:
    """Returns the squares in the middle of the first 5 s of up to `count` clips, uint8 (125, n, n, 3), n <= 512."""
    result: list[np.ndarray] = []
    for path in clips:
        if len(result) == count:
            break
        frames = [frame for frame, _ in zip(read_video(path, fps=FPS).frames, range(LENGTH))]
        if len(frames) < LENGTH:
            continue
        side = min(frames[0].shape[:2]) // 2 * 2
        top, left = ((length - side) // 2 for length in frames[0].shape[:2])
        square = np.stack(frames)[:, top : top + side, left : left + side]
        result.append(scaled(square, 512 / side) if side > 512 else square)
    return result


class GeneratedVideos(Sequence):
    """Unmarked frames, uint8 (125, n, n, 3), of up to `count` portraits that speak the shipped sentence."""

    def __init__(self, config: VASAConfig, count: int):
        from vasa_jax.generation.generator import VideoGenerator

        self._generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
        self._portraits = list(portraits(config.marks, self._generator, config.seed, count))
        samples = read_audio(DEMO["audio"]).samples
        motion = functools.partial(self._generator.motion, samples, pose_anchor="absolute")
        self._motions = [motion(seed=seed)[:LENGTH] for seed in range(min(MOTIONS, len(self._portraits)))]

    def __len__(self) -> int:
        return len(self._portraits)

    def __getitem__(self, index: int) -> np.ndarray:
        avatar = self._generator.prepare(self._portraits[index])
        return np.concatenate(list(self._generator.render(avatar, self._motions[index % MOTIONS])))


def portraits(marks: MarksConfig, generator: Any, seed: int, count: int) -> Iterator[np.ndarray]:
    """Yields up to `count` portraits, uint8 (n, n, 3): of the folder's images with a face, or rendered heads."""
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
    heads = HeldOutHeads(RENDERED, config.seed)
    result = []
    for index in range(people):
        keys = jax.random.split(jax.random.fold_in(heads.key, index), stills)
        frames = heads.render(heads.identity(index), jax.device_get(jax.vmap(sample_motion)(keys)))["rgb"]
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
    costs = ", ".join(f"{ms:.2f} ms at {size} x {size}" for size, ms in report["cost"].items())
    lines = [f"Marking a frame takes {costs} here.", ""]
    lines += ["| marked videos of 5 s | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]

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
