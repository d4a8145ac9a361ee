"""How a signal ends a program: unfinished files are removed, no signal is lost, and the exit code tells.

XLA compiles in threads of its own, and a signal's exception leaves it compiling. Python's usual end then frees what
those threads use: the process crashes or hangs. So a stopped program leaves without that end.
"""

import contextlib
import logging
import multiprocessing.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

PREEMPTED, INTERRUPTED, TERMINATED = 75, 128 + signal.SIGINT, 128 + signal.SIGTERM  # exit codes
_AGAIN = 0.01  # seconds until a signal whose exception was ignored comes again


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs `main` as all that this process does, and ends the process with the exit code that it returns or raises."""
    sys.unraisablehook = _deliver_again
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code
    if code in (PREEMPTED, INTERRUPTED, TERMINATED):
        _leave(code)
    sys.exit(code)


class Interruption(BaseException):
    """Leaves a function because SIGTERM came; `undo` lets the handler raise it once more, where it was ignored."""

    def __init__(self, undo: Callable[[], None]):
        super().__init__()
        self.undo = undo


@contextlib.contextmanager
def ended_by_sigterm(code: int = TERMINATED) -> Iterator[None]:
    """Makes SIGTERM end this process as an exception does, so that unfinished files are removed."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return

    def end(number, frame):
        raise SystemExit(code)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(code: int) -> None:
    """Ends this process and its children at once; does nothing in one of several processes of a training."""
    jax = sys.modules.get("jax")
    if hasattr(jax, "distributed") and jax.distributed.is_initialized():  # the processes part in JAX's own end
        return
    for child in multiprocessing.active_children():
        child.kill()
    with contextlib.suppress(Exception):
        multiprocessing.util._exit_function()  # gives semaphores back, of which a helper process would tell
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full; closed; there is none
            stream.flush()
    os._exit(code)


def _deliver_again(ignored: Any) -> None:
    """Sends a signal again whose exception Python ignored: JAX lets it in where a collection of garbage calls back."""
    error, number = ignored.exc_value, signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, Interruption):
        error.undo()
    elif isinstance(error, SystemExit) and error.code in (PREEMPTED, TERMINATED):
        pass
    else:
        sys.__unraisablehook__(ignored)
        return
    timer = threading.Timer(_AGAIN, os.kill, [os.getpid(), number])
    timer.daemon = True
    timer.start()
