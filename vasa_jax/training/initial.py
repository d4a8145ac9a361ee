"""Parameters that a run starts from: an export, or a checkpoint of another run."""

from pathlib import Path
from typing import Any

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.training.checkpoint import CheckpointManager
from vasa_jax.weights.safetensors_io import load_params


def load_initial(settings: TrainConfig, name: str) -> dict[str, Any]:
    """The parameters that `settings.initial` points at, as numpy.

    A .safetensors file; a directory with <name>.safetensors; or a directory of checkpoints, of which
    `settings.initial_step` is taken. InputError when there is nothing of the kind.
    """
    path = Path(settings.initial)
    if path.is_dir() and not (path / f"{name}.safetensors").exists():
        if not any(child.name.isdigit() for child in path.iterdir()):
            raise InputError(
                f"{path}: holds neither {name}.safetensors nor checkpoints; point config.train.initial at an export "
                "directory, a .safetensors file or a checkpoints directory"
            )
        manager = CheckpointManager(path, 1, settings.best_metric, settings.best_is_lowest)
        try:
            return manager.restore_average(settings.initial_step)
        finally:
            manager.close()
    return load_params(path / f"{name}.safetensors" if path.is_dir() else path)[0]
