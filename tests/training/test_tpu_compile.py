"""The stage-1 update compiles for real TPU slices, without a TPU: libtpu's ahead-of-time compiler.

pip install "jax[tpu]"
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m pytest -n 0 -m tpu -s tests/test_tpu_compile.py

Minutes and gigabytes per case on two cores.
"""

import functools
import os
import re

import jax
import jax.numpy as jnp
import pytest

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig
from vasa_jax.corpus.render_cache import draw_pairs, render_groups
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.sharding import batch_sharding, make_mesh
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.train_step import TrainStep

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


def compile_update(variant: str, topology: str, per_chip: int, fsdp: int, remat: bool):
    """One line of the table in launch/README.md."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    batch_size = per_chip * len(devices)
    settings = TrainConfig(batch_size=batch_size, fsdp_axis=fsdp, precision="bfloat16", remat=remat)
    task = FaceTask(FaceConfig(variant=variant), CorpusConfig(), batch_size, "bfloat16", 0)
    mesh = make_mesh(settings, devices)
    size = FACE_VARIANTS[variant]["encoder"]["image_size"]
    render = functools.partial(render_groups, groups=1, identities=2, motions=2, size=size, supersample=1)
    bank = jax.eval_shape(render, jax.random.key(0))
    pairs = functools.partial(draw_pairs, batch=batch_size, drivers=1, recipe="counterfactual")
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(mesh)),
        jax.eval_shape(pairs, bank, jax.random.key(0)),
    )
    train_step = TrainStep(task, settings, mesh=mesh)
    # Memory, work and collectives are asked for, not the fastest program, which takes many times as long to find.
    jax.config.update("jax_exec_time_optimization_effort", -1.0)
    program, cost = train_step.compile(train_step.abstract_state(), batch, Schedule(settings).rates(0), {})
    text = program.as_text()
    counts = {name: len(re.findall(rf"^.* = .* {name}(?:-start)?\(", text, re.MULTILINE)) for name in COLLECTIVES}
    return cost, {name: count for name, count in counts.items() if count}


@pytest.mark.tpu
@pytest.mark.parametrize(
    ("variant", "topology", "per_chip", "fsdp", "remat", "gib"),
    [
        ("face_tiny", "v5p:2x2x1", 4, 1, False, 95.0),
        ("face_256", "v5p:2x2x1", 4, 1, False, 95.0),
        ("face_256", "v5e:4x4", 2, 4, False, 15.75),
        ("face_512", "v5p:2x2x1", 2, 1, False, 95.0),
        ("face_512", "v5e:4x4", 1, 4, True, 15.75),
    ],
)
def test_face_update_fits_a_slice(variant, topology, per_chip, fsdp, remat, gib):
    pytest.importorskip("libtpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    cost, collectives = compile_update(variant, topology, per_chip, fsdp, remat)
    print(f"\n| {variant} | {topology} | {per_chip} | {fsdp} | {remat} | {cost} | {collectives} |", flush=True)
    assert jnp.isfinite(cost.flop) and cost.flop > 0
    assert cost.arguments_gib + cost.temporary_gib < gib
    assert collectives.get("all-reduce", 0) + collectives.get("reduce-scatter", 0) > 0
