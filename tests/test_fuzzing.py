"""Seeded mutants of good files through every reader: it returns, or says in one line what is wrong.

Each reader runs in a process of its own, with limits on memory and time. The short run is the same every time; the
long one takes its seed from FUZZ_SEED.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzzing
import pytest

# About five seconds of processor time each.
COUNTS = {
    "pictures": 800, "sounds": 200, "videos": 150, "weights": 4000, "controls": 4000, "records": 2500,
    "manifests": 2500, "shards": 2500, "array_records": 500, "outcomes": 2000, "pickles": 2000,
    "credentials": 150, "certificates": 150, "job_lists": 120, "arrays": 400,
}  # fmt: skip
ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits need Linux")


def run(reader: str, seed: int, count: int, folder: Path, seconds: float) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    environment = {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, fuzzing.__file__, reader, str(seed), str(count)],
        cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=seconds,
    )  # fmt: skip
    at = (folder / "at").read_text() if (folder / "at").exists() else "none"
    assert done.returncode == 0, f"input {at} of seed {seed} ended the process: {done.returncode} {done.stderr[-500:]}"
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines[:-1] == [], f"seed {seed}: {lines[:5]}"
    assert int(at) + 1 >= count


@pytest.mark.parametrize("reader", fuzzing.READERS)
def test_mutants_end_in_one_line(reader, tmp_path):
    run(reader, 0, COUNTS[reader], tmp_path, 600)


@pytest.mark.slow
@pytest.mark.parametrize("reader", fuzzing.READERS)
def test_many_mutants_end_in_one_line(reader, tmp_path):
    run(reader, int(os.environ.get("FUZZ_SEED", "1")), 10_000, tmp_path, 7200)
