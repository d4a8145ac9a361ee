"""The benchmark's rows: exact operation counts and rates that follow from the time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stub_face import use_stub
from tiny_face import draw_heads

from vasa_jax.benchmarks import generation, live, marking, update
from vasa_jax.benchmarks.random_model import random_like
from vasa_jax.config import BenchmarkConfig, VASAConfig


def test_a_row_counts_what_the_call_does():
    def five_products(x):
        return jax.lax.scan(lambda carry, _: (carry @ x, None), x, None, length=5)[0]

    row = generation.measure("five products", five_products, (jnp.eye(16),), frames=10, repeats=2)
    assert row.gflop == 5 * 2 * 16**3 / 1e9
    np.testing.assert_allclose(row.frames_per_second, 10 / (row.milliseconds / 1e3))
    assert row.parameters == 16 * 16
    assert row.peak_megabytes >= 2 * 16 * 16 * 4 / 1e6
    assert "| five products |" in generation.table([row])


def test_random_parameters_have_the_shapes_asked_for():
    shapes = {"a": jax.ShapeDtypeStruct((2, 3), jnp.float32), "b": {"c": jax.ShapeDtypeStruct((4,), jnp.float32)}}
    made = random_like(shapes)
    assert jax.tree.map(jnp.shape, made) == {"a": (2, 3), "b": {"c": (4,)}}
    assert jnp.abs(made["a"]).min() > 0


def test_sampler_rows_cover_batches_and_steps():
    settings = BenchmarkConfig(window_batches=(1, 2), window_steps=(2, 3), repeats=1)
    rows = generation.motion_rows("motion_tiny", VASAConfig(solver="dpmpp", benchmark=settings), jnp.float32)
    assert [row.stage.split(": ")[1] for row in rows] == [
        f"12 frames, {steps} dpmpp steps, 3 branches, batch {batch}" for batch in (1, 2) for steps in (2, 3)
    ]
    # twice the windows cost twice, and a step more costs a step
    np.testing.assert_allclose(rows[2].gflop / rows[0].gflop, 2.0, rtol=1e-3)
    once = rows[0].gflop - 2 * (rows[1].gflop - rows[0].gflop)  # what is done before the steps
    assert 0.05 < once / rows[0].gflop < 0.15
    np.testing.assert_allclose(rows[3].frames_per_second, 24 / (rows[3].milliseconds / 1e3))


@pytest.mark.slow
def test_an_update_is_timed_as_the_trainer_runs_it(monkeypatch):
    use_stub(monkeypatch)
    draw_heads(monkeypatch)
    settings = BenchmarkConfig(repeats=2)
    timed = [update.timed_update("face_least", batch, VASAConfig(benchmark=settings)) for batch in (4, 8)]
    for one, batch in zip(timed, (4, 8)):
        assert (one.batch, one.cost.devices) == (batch, 1) and 0 < one.seconds < one.compile_seconds
    assert 1.5 < timed[1].cost.flop / timed[0].cost.flop < 2.5
    lines = update.update_table(timed).splitlines()
    rate = float(lines[-1].split("|")[6])
    np.testing.assert_allclose(rate, timed[1].cost.flop / timed[1].seconds / 1e12, rtol=5e-3)


@pytest.mark.parametrize(("name", "steps"), [("audio_tiny", []), ("audio_stream_tiny", ["40 ms of a stream"])])
def test_a_streaming_encoder_is_also_timed_by_the_step(name, steps):
    rows = generation.audio_rows(name, BenchmarkConfig(repeats=2), jnp.float32)
    assert [row.stage for row in rows] == [f"{name}: {stage}" for stage in ("3 s of sound", *steps)]
    assert all(row.milliseconds > 0 and row.gflop > 0 for row in rows)


@pytest.mark.slow
def test_live_points_are_consistent():
    settings = BenchmarkConfig(
        variants=("face_tiny",), audio_variants=("audio_tiny",), motion_variants=("motion_tiny",),
        live_hops=(2,), live_steps=(2,), live_sessions=(3,), live_calls=4,
    )  # fmt: skip
    (point,) = live.live_points(VASAConfig(look_ahead=1, benchmark=settings), jnp.float32)
    assert (point.hop, point.look_ahead, point.steps, point.branches, point.sessions) == (2, 1, 2, 2, 3)
    assert point.sound == 125.0  # three frames and 5 ms
    assert 0 < point.median <= point.p95 <= point.p99
    np.testing.assert_allclose(point.latency, point.sound + point.p95)
    np.testing.assert_allclose(point.frames_per_second, 1e3 * 2 * 3 / point.median)
    assert point.stalls == 0.0 or point.p99 > 80.0
    assert "| 2 | 1 | 2 | 2 | 3 | 125 |" in live.live_table([point])


def test_the_marks_cost_is_that_of_pairs(monkeypatch):
    """A clock of our own: a marked call takes 3 ms, one without 2 ms, whoever goes first; the last step 0.5, 0.1."""
    now, asked = [0.0], []

    def decode(self, avatar, motion, batch):
        asked.append(avatar.pattern is not None)
        assert motion.shape == (2, 137) and (avatar.payload is None) == (avatar.pattern is None)
        now[0] += 0.003 if avatar.pattern is not None else 0.002
        return motion

    def finished(pictures, pattern):
        assert pictures.shape == (2, 64, 64, 3)
        now[0] += 0.0001 if pattern is None else 0.0005
        return pictures

    monkeypatch.setattr(marking, "finished", finished)
    monkeypatch.setattr(marking.time, "process_time", lambda: now[0])
    monkeypatch.setattr(marking.PortraitAnimator, "decode", decode)
    cost = marking.mark_cost("face_tiny", 2, 3, jnp.float32)
    np.testing.assert_allclose((cost.unmarked, cost.marked, cost.share, *cost.quartiles), (1, 1.5, 0.5, 0.5, 0.5))
    np.testing.assert_allclose(cost.alone, 0.2)
    assert asked == [True, False] + [False, True] + [True, False] + [False, True]
    assert (cost.pairs, cost.clock) == (3, "CPU")
    assert "| face_tiny, 2 | CPU | 1.000 | 1.500 | 50.0% of 3 | 50.0% to 50.0% | 0.200 |" in marking.mark_table([cost])
