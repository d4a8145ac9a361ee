"""The benchmark of reading: rates follow from counts and seconds, the need from the operations of the codec."""

import itertools
import json

import pytest

from vasa_jax import main
from vasa_jax.benchmarks import reading as benchmark
from vasa_jax.config import ReadingBenchmarkConfig, VASAConfig
from vasa_jax.data.records import decode_jpeg
from vasa_jax.data.shards import ShardReader, read_manifest
from vasa_jax.errors import InputError

SETTINGS = ReadingBenchmarkConfig(
    sizes=(32, 48), workers=(0,), clips=4, frames=6, batch_size=2, seconds=0.05, repeats=2, variants=("face_tiny",)
)


def test_the_table_has_a_row_per_view_size_and_workers(tmp_path, capsys):
    rows = main.run(VASAConfig(job="benchmark_reading", reading_benchmark=SETTINGS), tmp_path)
    assert [(r.view, r.size, r.workers) for r in rows] == [
        (view, size, 0) for size in (32, 48) for view in ("clips", "pairs")
    ]
    for row in rows:
        assert row.clips_per_second > 0
        assert row.frames_per_second == pytest.approx(row.clips_per_second * {"clips": 6, "pairs": 2}[row.view])
        assert row.megabytes_per_second == pytest.approx(row.frames_per_second * row.size**2 * 3 / 1e6)
    content = json.loads((tmp_path / "reading.json").read_text())
    assert len(content["reading"]) == 4 and content["need"][0]["variant"] == "face_tiny"
    assert capsys.readouterr().out.strip() == (tmp_path / "reading.md").read_text().strip()


def test_rates_are_counts_over_seconds(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: float(next(ticks)))
    # Two batches to start, then one per look at the clock (a second each) until five seconds are over.
    settings = ReadingBenchmarkConfig(batch_size=8, seconds=5.0)
    taken = itertools.count()
    speed = benchmark._clips_per_second(taken, settings)
    count = next(taken) - 2
    assert count == 4 and speed == count * 8 / 6.0


def test_need_is_the_devices_rate_over_the_operations():
    one, two = (benchmark.model_need("face_tiny", tflops) for tflops in (1.0, 2.0))
    assert one.size == 64 and one.pairs_per_second == pytest.approx(1e3 / one.gflop_per_pair)
    assert two.pairs_per_second == 2 * one.pairs_per_second
    row = benchmark.ReadingSpeed("pairs", 64, 2, one.pairs_per_second, 1.0, 1.0, 1.0)
    other = benchmark.ReadingSpeed("pairs", 32, 1, 1.0, 1.0, 1.0, 1.0)
    text = benchmark.markdown([row, other], [one], ReadingBenchmarkConfig())
    assert text.splitlines()[-1].endswith("| 2.0 |")  # two processes give what is needed
    assert "not measured" in benchmark.markdown([other], [one], ReadingBenchmarkConfig())
    with pytest.raises(InputError, match="face_none"):
        benchmark.model_need("face_none", 1.0)


def test_made_clips_are_the_portrait_and_all_different(tmp_path):
    benchmark.write_clips(tmp_path, 48, 2, 5)
    manifest = read_manifest(tmp_path)
    reader = ShardReader(manifest, manifest.shards[0], "array_record")
    records = [reader[0], reader[1]]
    assert decode_jpeg(records[0].frames[0]).shape == (48, 48, 3)
    assert len({frame for record in records for frame in record.frames}) > 8


@pytest.mark.parametrize("changes", [{"sizes": (4,)}, {"workers": (-1,)}, {"clips": 4}, {"device_tflops": 0.0}])
def test_bad_settings_are_refused(changes):
    with pytest.raises(InputError, match="reading_benchmark"):
        VASAConfig(reading_benchmark=ReadingBenchmarkConfig(**changes)).validate()
