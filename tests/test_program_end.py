"""A signal at a bad moment: the process ends with the exit code of what happened, and does not crash or hang."""

import os
import subprocess
import sys

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

def run(config, workdir):
    what = sys.argv[1]
    number = getattr(signal, what.split()[0])
    listening = Preemption() if "training" in what else None
    if what.endswith("in a collection"):
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
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = {what: subprocess.Popen([sys.executable, "-c", CODE, what], **pipes) for what in codes}
    try:
        for what, process in processes.items():
            out, err = process.communicate(timeout=60)
            assert process.returncode == codes[what], f"{what}: {err}"
            assert out == "compiling" and "Traceback" not in err  # what was printed is not lost
    finally:
        for process in processes.values():
            process.kill()
