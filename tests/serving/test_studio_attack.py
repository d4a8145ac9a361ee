"""Hostile clients of every kind against a studio of its own: one line for each, no crash, nothing left behind.

Run by hand: `pytest -n 0 -m slow -s tests/serving/test_studio_attack.py` sends STUDIO_ATTACK requests of each kind
(default 300; fewer of dear kinds), from the seed STUDIO_SEED, and prints what was answered.
"""

import os
import re
import time

import pytest
from studio_attack import KINDS, Attack
from studio_process import studio_process
from tiny_model import save_tiny_model

COUNT, SEED = int(os.environ.get("STUDIO_ATTACK", 300)), int(os.environ.get("STUDIO_SEED", 0))
DEAR = {"crowds": 20, "sockets": 5, "lives": 5, "races": 20}  # so many times fewer of these
LIMITS = ("--config.limits.hours=0.02", "--config.limits.megapixels=2", "--config.limits.memory=0.25")


def attacked(folder, model, count):
    """Attacks a new studio; returns the attack and what the studio printed."""
    settings = ("waiting=1000", "live_sessions=4", "head_seconds=2", "upload=4", "keep_hours=0.001")
    with studio_process(
        folder, f"--config.checkpoint={model}", *LIMITS, *(f"--config.studio.{word}" for word in settings)
    ) as (address, process):
        attack = Attack(address, SEED)
        for kind in KINDS:
            start = time.monotonic()
            attack.run(kind, max(count // DEAR.get(kind, 1), 1))
            told = ", ".join(f"{what} {number}" for what, number in sorted(attack.answers.get(kind, {}).items()))
            print(f"{kind}: {attack.sent[kind]} in {time.monotonic() - start:.0f} s: {told}", flush=True)
        time.sleep(3)
        text = attack.request("GET", "/metrics")[1].decode()
        memory = float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE).group(1)) / 2**20
        print(f"sent {sum(attack.sent.values())}; the studio holds {memory:.0f} MiB")
        assert process.poll() is None
    return attack, "".join(process.output)


def check(attack, output, folder):
    for fault in attack.faults:
        print("FAULT", fault)
    for block in re.findall(r"Traceback.*?\n(?=\S)[^\n]*", output, re.DOTALL)[:10]:
        print("PRINTED", block[-1500:])
    assert not attack.faults
    assert "Traceback" not in output
    left = [path.name for job in (folder / "files").iterdir() for path in job.glob("*.part*")]
    assert not left


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.slow
def test_many_hostile_clients(model, tmp_path):
    check(*attacked(tmp_path, model, COUNT), tmp_path)
