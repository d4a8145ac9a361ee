"""What test_several_devices.py runs in processes of its own: `python several_devices.py JOB DIRECTORY`.

JOB `agree` trains on all devices of one process; `traffic` compiles the codec's update for them; `fit` runs the trainer
as one of several processes; `extract` writes a motion set as one of several processes, over all of its devices.
"""

import functools
import json
import math
import os
import re
import signal
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tiny_extraction import extraction_config, fake_make, fake_motion
from tiny_face import SIZE, add_variant, smooth_groups

from vasa_jax.config import CAPPConfig, CorpusConfig, FaceConfig, TrainConfig
from vasa_jax.corpus import render_cache
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.render_cache import RenderCache
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.processes import ProcessPart, on_host, start_processes
from vasa_jax.training.sharding import batch_sharding, make_mesh, place_batch
from vasa_jax.training.tasks import motion_data
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.tasks.capp import CAPPTask
from vasa_jax.training.tasks.capp_data import PoseSpeech, WindowPairs
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.tasks.motion_data import MotionExtractor
from vasa_jax.training.tasks.stored_motion import extract_motion
from vasa_jax.training.train_step import TrainStep
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.weights.safetensors_io import save_params

BATCH = 16
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


class Network(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.relu(nn.GroupNorm(num_groups=4)(nn.Conv(16, (3, 3), name="conv")(image)))
        x = nn.relu(nn.Dense(256, name="wide")(x.reshape(x.shape[0], -1)))  # 256 x 256: large enough to be split
        return nn.Dense(4, name="out")(x)


class Stream:
    """This process's part of a global batch that depends on the step alone."""

    def __init__(self, stop_at: int = -1):
        self.step, self.stop_at = 0, stop_at

    def __next__(self):
        if self.step == self.stop_at and jax.process_index() == jax.process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if 0 <= self.stop_at <= self.step:
            time.sleep(0.5)  # so that the notice is there before the run is over
        rng = np.random.default_rng(self.step)
        self.step += 1
        image = rng.normal(size=(BATCH, 4, 4, 3)).astype(np.float32)
        batch = {"image": image, "label": image.mean((1, 2)) @ np.ones((3, 4), np.float32)}
        part, count = jax.process_index(), jax.process_count()
        return {name: value[part * BATCH // count : (part + 1) * BATCH // count] for name, value in batch.items()}

    def state(self):
        return {"step": self.step}

    def restore(self, state):
        self.step = state["step"]


class Convolution(Task):
    """With weights and frozen parameters as arguments of its loss, and a discriminator that guesses the mean error."""

    name = "convolution"

    def __init__(self, stop_at: int = -1):
        self._stop_at = stop_at

    def init(self, key):
        return Network().init(key, jnp.zeros((1, 4, 4, 3)))["params"]

    def init_discriminator(self, key):
        return {"guess": jax.random.normal(key, (4,))}

    def data(self, sharding=None):
        return Stream(self._stop_at)

    def loss_weights(self, step):
        return {"error": np.float32(1.0 + step % 2)}

    def frozen_params(self):
        return {"offset": np.arange(4, dtype=np.float32)}

    def loss(self, params, batch, key, *, discriminator, weights=None, frozen=None):
        weights, frozen = weights or self.loss_weights(0), frozen or self.frozen_params()
        error = Network().apply({"params": params}, batch["image"]) - batch["label"] - frozen["offset"]
        noise = jax.random.normal(key, ())
        guess = jnp.square(discriminator["guess"] - jax.lax.stop_gradient(error)).mean()
        own = weights["error"] * jnp.square(error).mean() + 1e-3 * noise * params["out"]["bias"].sum()
        return own + guess, {"guess": guess}

    def evaluate(self, params):
        return {"bias": float(params["out"]["bias"].sum())}


def numbered_groups(key, groups, identities, motions, size, supersample, poses=1):
    """In place of the renderer: every frame is its head's random number."""
    head = jax.random.uniform(key, (groups, identities, 1, 1, 1, 1), maxval=1e6)
    rgb = jnp.broadcast_to(head, (groups, identities, motions, size, size, 3))
    return {
        "rgb": rgb,
        "segmentation": rgb[..., 0],
        "background": rgb[:, :, 0],
        "pose": jnp.broadcast_to(head[..., 0, 0], (groups, identities, motions, 9)),
    }


def agree(directory: Path) -> None:
    """Parameters after 3 updates for several layouts, and the heads that each device saw."""
    layouts = {"replicated": {}, "accumulated": {"fsdp_axis": 2, "accumulate": 2}}
    if jax.device_count() > 1:
        layouts["split"] = {"fsdp_axis": 2}
        rules = ("wide/kernel=-,fsdp", "conv/kernel=-,-,-,data")
        layouts["ruled"] = {"fsdp_axis": 4, "sharding_rules": rules, "remat": True}
    for name, changes in layouts.items():
        if jax.device_count() == 1:
            changes = {"accumulate": changes.get("accumulate", 1)}
        settings = TrainConfig(steps=3, batch_size=BATCH, learning_rate=1e-2, warmup_steps=1, **changes)
        train_step, stream = TrainStep(Convolution(), settings), Stream()
        state, schedule = train_step.new_state(), Schedule(settings)
        expected = {"split": (256, 128), "ruled": (256, 64)}.get(name)
        for step in range(3):
            if expected:
                assert state.params["wide"]["kernel"].addressable_shards[0].data.shape == expected
                moment = state.optimizer[1][0].mu["decays"]["wide/kernel"]
                assert moment.addressable_shards[0].data.shape == expected
            batch = place_batch(next(stream), train_step.batch_sharding)
            state, _ = train_step.update(state, batch, schedule.rates(step), {})
        both = on_host({"model": state.params, "discriminator": state.discriminator.params})
        save_params(directory / f"{name}.safetensors", both, {}, jnp.float32)
    contrast(directory)
    save_heads(directory)


def contrast(directory: Path) -> None:
    """Parameters of CAPP after 3 updates: every pair is a negative of all others, wherever they are."""
    rng, lengths = np.random.default_rng(0), range(90, 98)
    clips = [([rng.normal(size=(n, 128))], [rng.normal(scale=5.0, size=(n, 3))]) for n in lengths]
    settings = TrainConfig(steps=3, batch_size=BATCH, learning_rate=1e-3, warmup_steps=1)
    capp = CAPPConfig(variant="capp_tiny")
    train_step = TrainStep(CAPPTask(capp, CorpusConfig(), BATCH, 0), settings)
    pairs, state = WindowPairs(PoseSpeech.of_clips(clips), capp, BATCH, 0), train_step.new_state()
    for step in range(3):
        batch = place_batch(jax.device_get(next(pairs)), train_step.batch_sharding)
        assert len(batch["angles"].sharding.device_set) == jax.device_count()
        state, _ = train_step.update(state, batch, Schedule(settings).rates(step), {})
    save_params(directory / "capp.safetensors", on_host(state.params), {}, jnp.float32)


def save_heads(directory: Path) -> None:
    """Which heads and clips this process's devices drew in two steps."""
    render_cache.render_groups = numbered_groups
    settings = TrainConfig(batch_size=BATCH)
    corpus = CorpusConfig(groups=3, identities=2, motions=2, drivers=1, chunk=1, style=0.0)
    frames = RenderCache(corpus, 2, BATCH, "counterfactual", 0, "test", batch_sharding(make_mesh(settings)))
    batches = [next(frames) for _ in range(2)]
    again = RenderCache(corpus, 2, BATCH, "counterfactual", 0, "test", batch_sharding(make_mesh(settings)))
    again.restore({"step": 1})
    repeated = next(again)
    for name, value in batches[1].items():
        for a, b in zip(value.addressable_shards, repeated[name].addressable_shards, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    shards = [np.concatenate([np.asarray(batch["source"].addressable_shards[i].data)[:, 0, 0, 0] for batch in batches])
              for i in range(jax.local_device_count())]  # fmt: skip
    part = ProcessPart(BATCH, 100)
    clips = part.draw_clips(part.key(jax.random.key(0)))
    np.savez(directory / f"heads-{jax.process_index()}.npz", heads=np.stack(shards), clips=np.asarray(clips))


def traffic(directory: Path) -> None:
    """Bytes by kind of what the update of stage 1 sends between devices, beside those of the parameters."""
    add_variant()
    settings = TrainConfig(batch_size=32)
    face = FaceConfig(variant="face_least", recipe="self", pairwise_transfer=1.0)
    task = FaceTask(face, CorpusConfig(), settings.batch_size, "float32", 0)
    train_step = TrainStep(task, settings)
    state, sharding = train_step.abstract_state(), train_step.batch_sharding
    groups = functools.partial(smooth_groups, groups=1, identities=2, motions=6, size=SIZE, supersample=1)
    pairs = functools.partial(render_cache.draw_pairs, batch=settings.batch_size, drivers=4, recipe="self")
    batch = jax.eval_shape(pairs, jax.eval_shape(groups, jax.random.key(0)), jax.random.key(0))
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for name, x in batch.items()}
    program, _ = train_step.compile(state, batch, Schedule(settings).rates(0), {})
    sent = dict.fromkeys(COLLECTIVES, 0)
    for result, kind in re.findall(rf"^.* = (.*) ({'|'.join(COLLECTIVES)})\(", program.as_text(), re.MULTILINE):
        for size in re.findall(r"\w+\[([\d,]*)\]", result):
            sent[kind] += 4 * math.prod(int(n) for n in size.split(",") if n)
    sent["parameters"] = 4 * sum(x.size for x in jax.tree.leaves(state.params))
    (directory / "traffic.json").write_text(json.dumps(sent))


def fit(directory: Path, stop_at: int = -1) -> None:
    start_processes()
    settings = TrainConfig(
        steps=8, batch_size=BATCH, learning_rate=1e-2, warmup_steps=1, log_every=2, evaluate_every=4, save_every=4,
        fsdp_axis=2, best_metric="bias",
    )  # fmt: skip
    if stop_at < 0:
        save_heads(directory)
    state = VASATrainer(Convolution(stop_at), settings, directory / "run").fit()
    parts = {"params": state.params, "moments": state.optimizer[1][0].mu, "discriminator": state.discriminator.params}
    whole = on_host(parts)
    if jax.process_index() == 0:
        save_params(directory / "state.safetensors", whole, {"step": int(state.step)}, jnp.float32)


def extract(directory: Path) -> None:
    start_processes()
    ClipSet.make, MotionExtractor._motion, motion_data.HELD_OUT_CLIPS = fake_make, fake_motion, 2
    extract_motion(extraction_config(directory / f"parts-{jax.process_index()}"), directory / "set")


if __name__ == "__main__":
    job, where = sys.argv[1], Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    if job == "agree":
        agree(where)
    elif job == "traffic":
        traffic(where)
    elif job == "extract":
        extract(where)
    else:
        fit(where, int(sys.argv[3]) if len(sys.argv) > 3 else -1)
