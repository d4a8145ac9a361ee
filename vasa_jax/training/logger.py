"""Where metrics, images and videos of a run go: console, JSON lines, TensorBoard events, Weights & Biases."""

import json
import math
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vasa_jax.conventions import FPS
from vasa_jax.errors import InputError
from vasa_jax.files import open_regular, replacing, write_text
from vasa_jax.training.events import EventFile

METRICS = "metrics.jsonl"


class TrainingLogger:
    """Writes scalars, images and videos of one run into its workdir.

    metrics.jsonl has one JSON object per line, and each step's training line and evaluation line once: what an earlier
    run in the same workdir wrote after `first_step`, from where this run goes on, is cut off. `wandb` is "", "offline"
    or "online". Of several processes only the primary one is `active`; the others' calls do nothing.
    """

    def __init__(
        self,
        workdir: Path,
        total_steps: int,
        wandb: str = "",
        settings: dict[str, Any] | None = None,
        active: bool = True,
        first_step: int = 0,
    ):
        self._active = active
        if not active:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir = workdir
        self._total = total_steps
        cut_lines(workdir / METRICS, first_step)
        self._lines = open(workdir / METRICS, "a", encoding="utf-8")  # noqa: SIM115 (lives with the run)
        self._events = EventFile(workdir / "events", first_step + 1)
        self._wandb = _start_wandb(workdir, wandb, settings or {}) if wandb else None
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, unit="step", dynamic_ncols=True)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes one line; a progress bar takes the console's place on a terminal. What is not finite becomes null."""
        if not self._active:
            return
        finite = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": step, "time": time.time(), **finite}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        self._lines.flush()
        self._events.scalars(step, values)
        if self._wandb is not None:
            self._wandb.log({**values, "step": step})
        # Weights of a loss's terms change seldom: they are for the files.
        shown = {name: value for name, value in values.items() if not name.startswith("weight/")}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(text[:120])
        else:
            print(f"step {step}/{self._total}  {text}", flush=True)

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Writes uint8 grids (H, W, 3) to pictures/*.png and the events, uint8 videos (T, H, W, 3) to videos/*.mp4."""
        if not self._active:
            return
        for name, image in images.items():
            folder = self._workdir / ("videos" if image.ndim == 4 else "pictures")
            folder.mkdir(exist_ok=True)
            if image.ndim == 4:
                from vasa_jax.data.video_files import write_video

                write_video(folder / f"{name}-{step:07d}.mp4", image, fps=FPS)
                continue
            with replacing(folder / f"{name}-{step:07d}.png") as part:
                Image.fromarray(image).save(part, "PNG")
            self._events.image(step, name, image)
            if self._wandb is not None:
                import wandb

                self._wandb.log({name: wandb.Image(image), "step": step})

    def note(self, text: str) -> None:
        """Prints a line for the console only."""
        if self._active:
            print(text, flush=True)

    def text(self, name: str, content: str) -> None:
        """Writes a text file into the workdir."""
        if self._active:
            write_text(self._workdir / name, content)

    def close(self) -> None:
        """Finishes all files."""
        if not self._active:
            return
        self._lines.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()
        if self._bar is not None:
            self._bar.close()


def cut_lines(path: Path, last_step: int) -> None:
    """Removes lines of steps after `last_step` from a file of JSON lines, and a last line that was torn."""
    if not os.path.lexists(path):
        return
    with open_regular(path, "move it away, or choose another --workdir") as file:
        text = file.read().decode("utf-8", "replace")
    kept = "".join(line for line in text.splitlines(keepends=True) if _step_of(line) <= last_step)
    if kept != text:
        write_text(path, kept)


def _step_of(line: str) -> float:
    """The step of a whole line, infinity of a torn one."""
    try:
        return json.loads(line)["step"] if line.endswith("\n") else math.inf
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf


def _start_wandb(workdir: Path, mode: str, settings: dict[str, Any]) -> Any:
    """Starts a Weights & Biases run, which a later call in the same workdir continues."""
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "config.train.wandb: the package wandb is missing; pip install wandb, or leave it empty"
        ) from error
    identity = workdir / "wandb_id"
    if not identity.exists():
        identity.write_text(secrets.token_hex(4))
    run = wandb.init(
        project="vasa_jax",
        name=workdir.absolute().name,
        id=identity.read_text(),
        resume="allow",
        dir=str(workdir),
        mode=mode,
        config=settings,
        settings=wandb.Settings(console="off"),
    )
    run.define_metric("*", step_metric="step")
    return run
