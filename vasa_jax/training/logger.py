"""Where figures, pictures and videos of a run go: console, JSON lines, TensorBoard events, Weights & Biases."""

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vasa_jax.errors import InputError


class TrainingLogger:
    """Writes scalars, images and videos of one run into its workdir.

    `wandb` is "", "offline" or "online". Of several processes only the primary one is `active`; the others' calls do
    nothing.
    """

    def __init__(
        self,
        workdir: Path,
        total_steps: int,
        wandb: str = "",
        settings: dict[str, Any] | None = None,
        active: bool = True,
    ):
        self._active = active
        if not active:
            return
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir = workdir
        self._total = total_steps
        self._lines = open(workdir / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (lives with the run)
        from tensorboardX import SummaryWriter

        self._events = SummaryWriter(str(workdir / "events"))
        self._wandb = _start_wandb(workdir, wandb, settings or {}) if wandb else None
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, unit="step", dynamic_ncols=True)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One line per call; a progress bar takes the console's place on a terminal."""
        if not self._active:
            return
        self._lines.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
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

    def pictures(self, step: int, pictures: dict[str, np.ndarray]) -> None:
        """uint8 grids (H, W, 3) as PNG files under pictures/ and as events; uint8 (T, H, W, 3) as videos/*.mp4."""
        if not self._active:
            return
        for name, picture in pictures.items():
            folder = self._workdir / ("videos" if picture.ndim == 4 else "pictures")
            folder.mkdir(exist_ok=True)
            if picture.ndim == 4:
                from vasa_jax.data.video_files import write_video

                write_video(folder / f"{name}-{step:07d}.mp4", picture, fps=25)
                continue
            Image.fromarray(picture).save(folder / f"{name}-{step:07d}.png")
            self._events.add_image(name, picture, step, dataformats="HWC")
            if self._wandb is not None:
                import wandb

                self._wandb.log({name: wandb.Image(picture), "step": step})

    def note(self, text: str) -> None:
        """A line for the console only."""
        if self._active:
            print(text, flush=True)

    def close(self) -> None:
        if not self._active:
            return
        self._lines.close()
        self._events.close()
        if self._wandb is not None:
            self._wandb.finish()
        if self._bar is not None:
            self._bar.close()


def _start_wandb(workdir: Path, mode: str, settings: dict[str, Any]) -> Any:
    """A Weights & Biases run that a later call in the same workdir continues."""
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
