"""The training jobs: which task each trains."""

import pkgutil
from pathlib import Path

import jax

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.settings import nearest_name
from vasa_jax.training.processes import is_primary
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.train_state import TrainState
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.training.workdir import check_workdir

_TASKS = "vasa_jax.training.tasks"
# Named, not imported: a job loads its own task's libraries only.
TASKS = {
    "train_face": f"{_TASKS}.face:FaceTask",
    "train_audio": f"{_TASKS}.audio:AudioTask",
    "train_motion": f"{_TASKS}.motion:MotionTask",
    "train_face_probe": f"{_TASKS}.face_probe:FaceProbeTask",
    "train_loss_networks": f"{_TASKS}.loss_networks:LossNetworksTask",
    "train_emotion": f"{_TASKS}.emotion:EmotionTask",
    "train_capp": f"{_TASKS}.capp:CAPPTask",
    "train_sync": f"{_TASKS}.sync:SyncTask",
    "train_lips": f"{_TASKS}.lips:LipsTask",
    "train_matte": f"{_TASKS}.matte:MatteTask",
    "train_retargeting": f"{_TASKS}.retargeting:RetargetingTask",
}
KEYPOINT_FACE = f"{_TASKS}.keypoint_face:KeypointFaceTask"  # train_face with a keypoint codec


def make_task(config: VASAConfig) -> Task:
    """Returns the task of a `train_*` job.

    Raises:
        InputError: no task belongs to `config.job`, or the settings do not fit it.
    """
    if config.job not in TASKS:
        raise InputError(
            f"config.job: '{config.job}' trains nothing;{nearest_name(config.job, TASKS)} known: {', '.join(TASKS)}"
        )
    task = TASKS[config.job]
    if config.job == "train_face" and FACE_VARIANTS[config.face.variant].get("codec") == "keypoint":
        task = KEYPOINT_FACE
    return pkgutil.resolve_name(task).from_config(config)


def train(config: VASAConfig, workdir: Path) -> TrainState:
    """Trains until the last step, resuming from what the workdir holds; returns the last state."""
    if is_primary():
        check_workdir(workdir)
        print(f"{config.job}: {jax.device_count()} x {jax.devices()[0].device_kind}, workdir {workdir}", flush=True)
    files = {"config.json": config.to_config_dict().to_json(indent=2) + "\n"}
    return VASATrainer(make_task(config), config.train, workdir, config.seed, files=files).fit()
