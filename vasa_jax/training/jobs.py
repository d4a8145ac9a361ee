"""Builds the task a job names and hands it to the trainer."""

import dataclasses
from pathlib import Path

import jax

from vasa_jax.config import VASAConfig
from vasa_jax.dtypes import compute_dtype
from vasa_jax.training.processes import is_primary
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.trainer import TrainState, VASATrainer


def make_task(config: VASAConfig) -> Task:
    """The task of a `train_*` job."""
    train = config.train
    if config.job == "train_face":
        return FaceTask(config.face, config.corpus, train.batch_size, train.precision, config.seed)
    if config.job == "train_audio":
        from vasa_jax.training.tasks.audio import AudioTask

        return AudioTask(config.speech, config.corpus, train.batch_size, train.precision, config.seed)
    if config.job == "train_motion":
        from vasa_jax.training.tasks.motion import MotionTask

        return MotionTask(config.motion, config.corpus, train.batch_size, train.precision, config.seed)
    if config.job == "train_judge":
        from vasa_jax.training.tasks.loss_networks import JudgeTask

        return JudgeTask(config.judge, train.batch_size, config.seed, compute_dtype(train.precision))
    if config.job == "train_emotion":
        from vasa_jax.training.tasks.emotion import EmotionSettings, EmotionTask

        settings = EmotionSettings(supersample=config.corpus.supersample)
        return EmotionTask(settings, config.corpus, train.batch_size, config.seed, compute_dtype(train.precision))
    from vasa_jax.training.tasks.face_probe import InstrumentSettings, InstrumentTask

    settings = InstrumentSettings(supersample=config.corpus.supersample)
    settings = dataclasses.replace(settings, identities=max(train.batch_size // settings.motions, 2))
    return InstrumentTask(settings, config.seed, compute_dtype(train.precision))


def train(config: VASAConfig, workdir: Path) -> TrainState:
    """Trains until the last step, resuming from what the workdir holds."""
    if is_primary():
        print(f"{config.job}: {jax.device_count()} x {jax.devices()[0].device_kind}, workdir {workdir}", flush=True)
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(config.to_config_dict().to_json(indent=2) + "\n")
    task = make_task(config)
    if is_primary() and hasattr(task, "notes"):
        for note in task.notes():
            print(note, flush=True)
    return VASATrainer(task, config.train, workdir, config.seed).fit()
