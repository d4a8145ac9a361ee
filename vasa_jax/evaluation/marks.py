"""The `evaluate_marks` job: how often the mark is found after attacks, and how often where there is none.

Recall is counted at each size on videos of 5 s that the model makes of portraits and speech. Clips of real people count
too, marked as if they were generated, and whole photographs in which a face speaks. Each is written as the product
writes it, attacked and searched. False alarms are counted on windows that carry no mark. What is counted is kept: the
same command goes on where it ended.
"""

import os
from pathlib import Path
from typing import Any

from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation import false_alarms, mark_recall
from vasa_jax.evaluation.ledger import Ledger
from vasa_jax.evaluation.marked_videos import (
    Carriers,
    GeneratedVideos,
    WholePhotographs,
    files_below,
    real_windows,
    rendered_lumas,
)
from vasa_jax.evaluation.unmarked_windows import Pieces, UnmarkedWindows, means, sources
from vasa_jax.files import write_json, write_text
from vasa_jax.generation import mark_search, watermark
from vasa_jax.generation.detect import PICTURES
from vasa_jax.preparation.prepare import SUFFIXES

EVERY = 100  # windows after which the report is written


def evaluate_marks(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Runs the job: prints and writes report.md and report.json to the workdir; returns the report.

    InputError for folders that do not exist, and for a workdir of other settings.
    """
    workdir, marks = Path(workdir), config.marks
    clips, stills = files_below(config.videos, set(SUFFIXES)), files_below(marks.portraits, PICTURES)
    workers = marks.workers or os.cpu_count() or 1
    workers = workers if workers > 1 else 0
    workdir.mkdir(parents=True, exist_ok=True)
    key = {"clips": [path.name for path in clips], "stills": len(stills), "checkpoint": config.checkpoint}
    key |= {"seed": config.seed, "search": _constants(mark_search)}
    embedding = {"mark": _constants(watermark), "sounds": marks.sounds}
    squares = {name: getattr(marks, name) for name in ("sizes", "clips", "carriers", "payloads")}
    trials = Ledger(workdir / "trials.jsonl", key | embedding | {"squares": squares}, mark_recall.kept())
    pasted = Ledger(workdir / "pasted.jsonl", key | embedding | {"pasted": marks.pasted}, mark_recall.kept())
    counted = Ledger(workdir / "windows.jsonl", key | {"carriers": marks.carriers}, false_alarms.ROW)

    real = real_windows(clips, marks.clips)
    generated = GeneratedVideos(config, marks.carriers, workdir / "videos")
    whole = WholePhotographs(GeneratedVideos(config, marks.pasted, workdir / "videos"))
    for ledger, carriers in ((trials, Carriers(marks, real, generated)), (pasted, whole)):
        for done in ledger.count(mark_recall.try_carrier, carriers, workers):
            logging.info("%d of %d marked videos tried", done, len(carriers))
            # It takes long: what is counted is kept.
            _write(workdir, report_of((trials, pasted), counted, marks.windows))

    lumas = Pieces(len(generated), lambda number: means(generated[number]))
    stores = sources(clips, stills) | {"generated": lumas, "rendered": rendered_lumas(config.seed)}
    windows = UnmarkedWindows(marks.windows, stores, config.seed)
    for done in counted.count(false_alarms.search_window, windows, workers):
        if done % EVERY == 0:
            logging.info("%d of %d unmarked windows searched", done, len(windows))
            _write(workdir, report_of((trials, pasted), counted, marks.windows))
    report = report_of((trials, pasted), counted, marks.windows)
    _write(workdir, report)
    print(as_text(report))
    return report


def _constants(module: Any) -> dict[str, str]:
    """The numbers that a module's results follow from; not what judges the p-values that are kept."""
    return {name: str(value) for name, value in vars(module).items() if name.isupper() and name != "SURE"}


def report_of(trials: tuple[Ledger, ...], counted: Ledger, windows: int) -> dict[str, Any]:
    """Returns what ledgers say: recall by kind and size, and false alarms in up to `windows` windows."""
    recall = mark_recall.summary([row for ledger in trials for row in ledger.rows.values()])
    return {"recall": recall, "alarms": false_alarms.summary(counted.first(windows))}


def _write(workdir: Path, report: dict[str, Any]) -> None:
    write_json(workdir / "report.json", report)
    write_text(workdir / "report.md", as_text(report))


def as_text(report: dict[str, Any]) -> str:
    """Returns the report as Markdown."""
    lines = [*mark_recall.as_lines(report["recall"]), "", *false_alarms.as_lines(report["alarms"])]
    return "\n".join(lines) + "\n"
