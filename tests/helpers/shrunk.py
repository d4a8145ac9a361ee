"""Shipped training recipes at a size for tests."""

from pathlib import Path

from vasa_jax.main import parse

CONFIGS = Path(__file__).parents[2] / "configs"


def shrunk(name, *options):
    """A shipped configuration, at a size that trains in seconds."""
    given = {"steps": 4, "batch_size": 4, "warmup_steps": 1, "log_every": 2, "evaluate_every": 0, "save_every": 0}
    common = [f"--config.train.{key}={value}" for key, value in given.items()]
    return parse(["main", f"--config={CONFIGS / name}.py", *common, *options])[0]
