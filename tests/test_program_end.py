"""A signal at a bad moment: the process ends with the exit code of what happened, and does not crash or hang."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Python's usual end frees what the compiler's own threads use: exit codes -11, -6, or no end at all.
CODE = """
import gc, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without
import jax
from vasa_jax import main as command
from vasa_jax.stopping import ended_by_sigterm
from vasa_jax.training.preemption import Preempted, Preemption

def slow(x):
    for i in range(2000):
        x = (x @ x) + i
    return x

def compile():
    print("compiling", end="")
    jax.jit(slow).lower(jax.numpy.ones((8, 8))).compile()

def collect(number):
    def kill(*_):
        gc.callbacks.remove(kill)
        os.kill(os.getpid(), number)
    print("compiling", end="")
    gc.callbacks.append(kill)
    gc.collect()
    time.sleep(100)

def slow_start(timer, start=threading.Timer.start):
    threading.Timer.start = start
    start(timer)
    time.sleep(5)

def run(config, workdir):
    what = sys.argv[1]
    number = getattr(signal, what.split()[0])
    listening = Preemption() if "training" in what else None
    if "in a collection" in what:
        if what.endswith("busy"):
            threading.Timer.start = slow_start
        if listening:
            listening.interruptible(lambda: collect(number))
            raise Preempted()
        with ended_by_sigterm():
            collect(number)
    threading.Timer(0.3, os.kill, [os.getpid(), number]).start()
    if listening:
        listening.interruptible(compile)
        raise Preempted()
    with ended_by_sigterm():
        compile()

command.run = run
command.parse = lambda arguments, parse=command.parse: (parse(["main", "--config=configs/generate.py"])[0], "")
command.program()
"""


def test_a_signal_ends_the_process_with_its_code():
    codes = {"SIGTERM": 143, "SIGINT": 130, "SIGTERM in a training": 75}
    codes |= {"SIGTERM in a training, in a collection": 75, "SIGINT in a collection": 130}
    codes |= {"SIGINT in a collection, busy": 130, "SIGTERM in a training, in a collection, busy": 75}
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = {what: subprocess.Popen([sys.executable, "-c", CODE, what], **pipes) for what in codes}
    try:
        for what, process in processes.items():
            out, err = process.communicate(timeout=180)
            assert process.returncode == codes[what], f"{what}: {err}"
            assert out == "compiling" and "Traceback" not in err  # what was printed is not lost
    finally:
        for process in processes.values():
            process.kill()


# Sends this process a signal when it begins to import a module.
AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["MODULE"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["NUMBER"]))

sys.meta_path.insert(0, Finder())
if int(os.environ["NUMBER"]) == signal.SIGINT:
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.mark.parametrize("module", ["absl", "vasa_jax.settings", "jax"])
def test_a_signal_during_the_imports_ends_the_program_with_its_code(module, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    root = Path(__file__).parents[1]
    cases = (
        ("vasa_jax.main", "train_audio", signal.SIGTERM, 75),
        ("vasa_jax.main", "generate", signal.SIGTERM, 143),
        ("vasa_jax", "generate", signal.SIGTERM, 143),
        ("vasa_jax.main", "generate", signal.SIGINT, 130),
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    for program, config, number, code in cases:
        paths = os.pathsep.join([str(tmp_path), str(root)])
        environment = {**os.environ, "PYTHONPATH": paths, "MODULE": module, "NUMBER": str(int(number))}
        done = subprocess.run(
            [sys.executable, "-m", program, "--config", str(root / "configs" / f"{config}.py")],
            env=environment, timeout=120, **pipes,
        )  # fmt: skip
        said = "interrupted\n" if number == signal.SIGINT else ""
        assert (done.returncode, done.stdout, done.stderr) == (code, "", said), (program, config, number)
    assert [path.name for path in tmp_path.iterdir()] == ["sitecustomize.py"]


LATE = """
from vasa_jax.stopping import run_program

class Late:
    def __init__(self, text):
        self.text = text

    def __del__(self):
        raise RuntimeError(self.text)

def main():
    Late("Event loop is closed")
    Late("another fault")
    return 0

run_program(main)
"""


def test_threads_that_report_to_orbax_after_a_full_disk_are_not_heard():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0 and "another fault" in done.stderr and "Event loop" not in done.stderr
