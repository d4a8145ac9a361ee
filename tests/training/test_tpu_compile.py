"""The stage-1 update compiles for real TPU slices, without a TPU: libtpu's ahead-of-time compiler.

pip install "jax[tpu]"
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m pytest -n 0 -m tpu -s tests/training/test_tpu_compile.py

Minutes and gigabytes per case on two cores.
"""

import functools
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig, VASAConfig
from vasa_jax.corpus.render_cache import draw_pairs, render_groups
from vasa_jax.main import parse
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.jobs import make_task
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.sharding import batch_sharding, make_mesh
from vasa_jax.training.train_step import TrainStep

CONFIGS = Path(__file__).parents[2] / "configs"
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def compile_update(config: VASAConfig, topology: str):
    """Compiles the update of a `train_face` run: one line of the table in launch/README.md."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    corpus, task, mesh = config.corpus, make_task(config), make_mesh(config.train, devices)
    size = FACE_VARIANTS[config.face.variant]["encoder"]["image_size"]
    shape = {"identities": corpus.identities, "motions": corpus.motions, "poses": corpus.poses}
    render = functools.partial(render_groups, groups=1, size=size, supersample=1, **shape)
    cache = jax.eval_shape(render, jax.random.key(0))
    pairs = functools.partial(
        draw_pairs, batch=config.train.batch_size, drivers=corpus.drivers, recipe=config.face.recipe, poses=corpus.poses
    )
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)),
        jax.eval_shape(pairs, cache, jax.random.key(0)),
    )
    train_step = TrainStep(task, config.train, mesh=mesh)
    # Memory, work and collectives are asked for, not the fastest program, which takes many times as long to find.
    jax.config.update("jax_exec_time_optimization_effort", -1.0)
    weights = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), task.loss_weights(0))
    arguments = {"weights": weights, "frozen": task.frozen_params()}
    program, cost = train_step.compile(train_step.abstract_state(), batch, Schedule(config.train).rates(0), arguments)
    text = program.as_text()
    counts = {name: len(re.findall(rf"^.* = .* {name}(?:-start)?\(", text, re.MULTILINE)) for name in COLLECTIVES}
    return cost, {name: count for name, count in counts.items() if count}


def variant(name: str, per_chip: int, chips: int, fsdp: int, remat: bool) -> VASAConfig:
    """A size of the codec with the plain recipe."""
    train = TrainConfig(batch_size=per_chip * chips, fsdp_axis=fsdp, precision="bfloat16", remat=remat)
    corpus = CorpusConfig(identities=2, motions=2, drivers=1)
    return VASAConfig(job="train_face", train=train, corpus=corpus, face=FaceConfig(variant=name))


def shipped(name: str) -> VASAConfig:
    """A shipped configuration as it is, in the precision of accelerators."""
    return parse(["main", f"--config={CONFIGS / name}.py", "--config.train.precision=bfloat16"])[0]


def check(config: VASAConfig, topology: str, gib: float):
    pytest.importorskip("libtpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    cost, collectives = compile_update(config, topology)
    print(f"\n| {config.face.variant} | {topology} | {config.train.batch_size} | {cost} | {collectives} |", flush=True)
    assert jnp.isfinite(cost.flop) and cost.flop > 0
    assert cost.arguments_gib + cost.temporary_gib < gib
    assert collectives.get("all-reduce", 0) + collectives.get("reduce-scatter", 0) > 0


@pytest.mark.tpu
@pytest.mark.parametrize(
    ("name", "topology", "per_chip", "fsdp", "remat", "gib"),
    [
        ("face_tiny", "v5p:2x2x1", 4, 1, False, 95.0),
        ("face_256", "v5p:2x2x1", 4, 1, False, 95.0),
        ("face_256", "v5e:4x4", 2, 4, False, 15.75),
        ("face_512", "v5p:2x2x1", 2, 1, False, 95.0),
        ("face_512", "v5e:4x4", 1, 4, True, 15.75),
    ],
)
def test_face_update_fits_a_slice(name, topology, per_chip, fsdp, remat, gib):
    check(variant(name, per_chip, {"v5p:2x2x1": 4, "v5e:4x4": 16}[topology], fsdp, remat), topology, gib)


@pytest.mark.tpu
@pytest.mark.parametrize("name", ["train_face", "train_face_256", "train_face_decoder", "train_face_gan"])
def test_shipped_configuration_fits_a_slice(name):
    check(shipped(name), "v5e:4x4", 15.75)
