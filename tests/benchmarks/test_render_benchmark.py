"""The renderer's benchmark: operations are counted right, the table has a row per size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_portrait import drawn_head, drawn_mesh
from jax import lax

from vasa_jax.benchmarks import renderer as benchmark
from vasa_jax.config import RendererBenchmarkConfig, VASAConfig
from vasa_jax.corpus.photos.store import write_heads
from vasa_jax.errors import InputError
from vasa_jax.training.flops import flop_count

X = jnp.ones((3, 4))


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: x + 1.0, 12),
        (lambda x: jnp.sin(x) * x, 24),
        (lambda x: jnp.sum(x), 12),
        (lambda x: x @ jnp.ones((4, 5)), 2 * 3 * 4 * 5),
        (lambda x: jnp.broadcast_to(x[:, :, None], (3, 4, 9)), 0),
        (lambda x: lax.fori_loop(0, 10, lambda i, y: y * 2.0, x), 10 * (12 + 1)),  # and the counter
        (lambda x: lax.cond(x[0, 0] > 0, lambda y: y * y * y, lambda y: y, x), 1 + 24),
        (lambda x: jax.vmap(jax.jit(lambda row: row - 1.0))(x), 12),
        (
            lambda x: lax.conv(x.reshape(1, 1, 3, 4), jnp.ones((2, 1, 2, 2)), (1, 1), "VALID"),
            2 * (2 * 2 * 3) * 4,
        ),
    ],
)
def test_operations_are_counted(function, count):
    assert flop_count(function, X) - count in (0, 1)  # a loop or a cond may convert its index


def test_operations_agree_with_the_compilers_count_where_there_is_no_loop():
    def function(x):
        return jnp.maximum(x * 2.0 + 1.0, x / 3.0) @ x.T

    assert flop_count(function, X) == jax.jit(function).lower(X).cost_analysis()["flops"]


def test_the_table_has_a_row_per_size(tmp_path, monkeypatch, capsys):
    def flat(identity, motion, size, supersample):
        picture = jnp.zeros((len(motion["yaw"]), size, size, 3)) + motion["yaw"][:, None, None, None]
        return {"rgb": picture, "background": picture, "segmentation": picture[..., 0].astype(jnp.uint8)}

    monkeypatch.setattr(benchmark, "render", flat)
    monkeypatch.setattr(benchmark, "sample_identity", lambda key: {"seed": jax.random.uniform(key)})
    monkeypatch.setattr(benchmark, "sample_motion", lambda key: {"yaw": jax.random.uniform(key)})
    settings = RendererBenchmarkConfig(sizes=(16, 32), batch_sizes=(2, 3), repeats=2)
    rows = benchmark.benchmark_renderer(settings, tmp_path)
    assert [(row.size, row.batch) for row in rows] == [(16, 2), (32, 3)]
    for row in rows:
        assert row.frames_per_second >= row.slowest > 0 and row.compile_seconds > 0
        assert np.isclose(row.gflops, row.gflop_per_frame * row.frames_per_second)
    assert rows[1].gflop_per_frame == pytest.approx(4 * rows[0].gflop_per_frame, rel=0.01)
    assert json.loads((tmp_path / "renderer.json").read_text())[1]["size"] == 32
    assert capsys.readouterr().out.strip() == (tmp_path / "renderer.md").read_text().strip()
    assert benchmark.render_benchmark((64,), repeats=1)[0].batch == benchmark.BATCHES["cpu"][64]


@pytest.mark.long
def test_photo_heads_have_a_row_of_their_own(tmp_path, monkeypatch):
    write_heads(tmp_path / "heads", 0, [drawn_head()], ["a.jpg"])
    monkeypatch.setattr(benchmark, "face_mesh", lambda models: drawn_mesh())
    monkeypatch.setattr(benchmark, "render_benchmark", lambda *_: [])
    monkeypatch.setattr(benchmark, "MOTIONS", 2)
    settings = RendererBenchmarkConfig(sizes=(32,), repeats=1, supersample=1)
    (row,) = benchmark.benchmark_renderer(settings, tmp_path, str(tmp_path / "heads"), "face_models")
    assert (row.heads, row.size, row.batch) == ("photo heads", 32, 2) and row.frames_per_second > 0
    assert "| photo heads | 32 |" in (tmp_path / "renderer.md").read_text()
    with pytest.raises(InputError, match="holds no photo heads"):
        benchmark.benchmark_renderer(settings, tmp_path, str(tmp_path))


@pytest.mark.parametrize(
    "settings", [{"sizes": (100,), "supersample": 1}, {"batch_sizes": (1,)}, {"repeats": 0}, {"sizes": (4096,)}]
)
def test_bad_settings_are_refused(settings):
    with pytest.raises(InputError, match="renderer_benchmark"):
        VASAConfig(renderer_benchmark=RendererBenchmarkConfig(**settings)).validate()
