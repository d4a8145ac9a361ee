"""What a task is: no misspelt part is lost, every training job has a task, a batch that does not fit is refused."""

import dataclasses
import gc
import pkgutil
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.config import CorpusConfig, TrainConfig, VASAConfig
from vasa_jax.corpus.clip_set import FRAMES
from vasa_jax.errors import InputError
from vasa_jax.main import JOBS
from vasa_jax.training.jobs import TASKS, make_task
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.tasks.face_probe import FaceProbeTask
from vasa_jax.training.tasks.motion_data import MotionSet
from vasa_jax.training.tasks.motion_windows import MotionWindows
from vasa_jax.training.train_step import TrainStep


class Least(Task):
    """One number that goes to zero."""

    name = "least"

    def init(self, key):
        return {"x": jnp.ones((2, 2))}

    def data(self, sharding=None):
        return iter(())

    def loss(self, params, batch, key):
        return jnp.square(params["x"]).mean(), {}


@pytest.mark.parametrize("name", ["init_discriminatr", "weights", "frozen", "pictures", "init_opponent"])
def test_a_method_that_no_trainer_asks_for_is_refused(name):
    with pytest.raises(TypeError, match=rf"Wrong\.{name}: a Task has none"):
        type("Wrong", (Least,), {name: lambda self: None})
    type("Right", (Least,), {f"_{name}": lambda self: None})


def test_extra_methods_are_named():
    class WithMore(Least, extra=("held_out",)):
        def held_out(self):
            return 3

    assert WithMore().held_out() == 3


def test_defaults_leave_everything_out():
    task = Least()
    assert task.loss_weights(0) == task.frozen_params() == task.evaluate({}) == task.images({}) == {}
    assert task.init_discriminator(None) is None and task.notes() == [] and task.data_settings() == {}
    assert task.export({"x": 1}) == ({"x": 1}, {})
    assert TrainStep(task, TrainConfig(batch_size=2)).arguments(5) == {}


FILES = {"instrument": "face_probe", "judge": "loss_networks"}  # exported files that keep an earlier name


def test_every_registered_task_exists_and_is_made_from_a_configuration():
    assert TASKS.keys() == {job for job in JOBS if job.startswith("train_")}
    for job, where in TASKS.items():
        task = pkgutil.resolve_name(where)
        assert issubclass(task, Task) and "from_config" in vars(task), job
        file = "face" if job == "train_retargeting" else job.removeprefix("train_")  # which adds to a codec
        assert file == FILES.get(task.name, task.name)


@pytest.mark.parametrize("job", ["train_fase", "evaluate", "", "train_everything"])
def test_an_unknown_training_is_refused_in_one_line(job):
    with pytest.raises(InputError, match=r"^config\.job: .* trains nothing;.* known: train_face, ") as told:
        make_task(dataclasses.replace(VASAConfig(), job=job))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("batch", "fits"), [(4, False), (7, False), (8, True), (10, False), (12, True), (3, False)])
def test_a_face_probe_batch_is_whole_people_or_refused(batch, fits):
    config = dataclasses.replace(VASAConfig(), job="train_face_probe", train=TrainConfig(batch_size=batch))
    if fits:
        assert FaceProbeTask.from_config(config)._settings.identities * 4 == batch
        return
    with pytest.raises(InputError, match=r"^config\.train\.batch_size: .*; choose a multiple of 4 from 8 on$"):
        FaceProbeTask.from_config(config)


def motion_set(clips=2):
    zeros = jnp.zeros((clips, FRAMES, 3))
    labels = jnp.zeros((clips, 2)), jnp.ones(clips), jnp.zeros((clips, 8))
    return MotionSet(zeros, zeros[:, None], *labels, zeros[..., 0])


@pytest.mark.parametrize("unrolled", [False, True])
def test_windows_that_would_overlap_their_past_are_refused(unrolled):
    """Else dynamic_slice moves the window back into the frames before it."""
    longest = FRAMES - 10
    MotionWindows(motion_set(), 0.0, 1.0, longest, 10, 2, 0, unrolled=unrolled)
    for window in (longest + 1, FRAMES, FRAMES + 1):
        with pytest.raises(InputError, match=rf"config\.motion\.window: {window} frames .* up to {longest}$"):
            MotionWindows(motion_set(), 0.0, 1.0, window, 10, 2, 0, unrolled=unrolled)


def test_programs_do_not_keep_tasks_and_data_alive():
    """Compiled code belongs to its object: a notebook or a sweep makes many."""
    task, windows = Least(), MotionWindows(motion_set(), 0.0, 1.0, 4, 2, 2, 0)
    train_step = TrainStep(task, TrainConfig(batch_size=2))
    rates = {name: np.float32(0.1) for name in ("model", "discriminator", "frozen")}
    train_step.update(train_step.new_state(), {"x": jnp.zeros((2, 1))}, rates, {})
    next(windows)
    gone = [weakref.ref(task), weakref.ref(train_step), weakref.ref(windows)]
    del task, train_step, windows
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3


def test_data_settings_name_real_settings():
    config = VASAConfig()
    for job in ("train_face", "train_audio", "train_loss_networks", "train_emotion"):
        for name, value in make_task(dataclasses.replace(config, job=job)).data_settings().items():
            here = config
            for part in name.split("."):
                here = getattr(here, part)
            assert here == value, name
    assert CorpusConfig().clips == make_task(dataclasses.replace(config, job="train_audio")).data_settings()[
        "corpus.clips"
    ]
