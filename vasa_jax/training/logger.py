"""Where figures and pictures of a run go: the console, JSON lines and TensorBoard events."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image


class TrainingLogger:
    """Writes scalars and images of one run into its workdir."""

    def __init__(self, workdir: Path, total_steps: int):
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir = workdir
        self._total = total_steps
        self._lines = open(workdir / "metrics.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (lives with the run)
        from tensorboardX import SummaryWriter

        self._events = SummaryWriter(str(workdir / "events"))
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, unit="step", dynamic_ncols=True)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One line per call; a progress bar takes the console's place on a terminal."""
        self._lines.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix_str(text[:120])
        else:
            print(f"step {step}/{self._total}  {text}", flush=True)

    def images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """uint8 (H, W, 3) grids, as PNG files under pictures/ and as events."""
        folder = self._workdir / "pictures"
        folder.mkdir(exist_ok=True)
        for name, image in images.items():
            Image.fromarray(image).save(folder / f"{name}-{step:07d}.png")
            self._events.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._lines.close()
        self._events.close()
        if self._bar is not None:
            self._bar.close()
