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
_AGAIN = 0.05  # seconds until a signal whose exception was ignored comes again
_held: list[int] = []  # SIGTERM, where it came before the job was known


def hold_signals() -> None:
    """Makes a new program hear signals, before it imports what takes a second: `release_sigterm`, `run_program`.

    SIGTERM waits until the job is known, which decides on the exit code. SIGINT ends the program at once.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _hold)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in a shell's background job
        signal.signal(signal.SIGINT, _end_imports)


def release_sigterm(code: int) -> None:
    """Ends the program with `code` if SIGTERM has come since `hold_signals`, and holds it no longer."""
    if signal.getsignal(signal.SIGTERM) is _hold:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if _held:
            raise SystemExit(code)


def _hold(number: int, frame: Any) -> None:
    _held.append(number)


def _end_imports(number: int, frame: Any) -> NoReturn:
    os.write(2, b"interrupted\n")  # an exception would end in the traceback of an import
    os._exit(INTERRUPTED)


def run_program(main: Callable[[], int]) -> NoReturn:
    """Runs `main` as all that this process does, and ends the process with the exit code that it returns or raises."""
    if signal.getsignal(signal.SIGINT) is _end_imports:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.unraisablehook = _hear_ignored
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


def _hear_ignored(ignored: Any) -> None:
    """Sends a signal again whose exception Python ignored: JAX lets it in where a collection of garbage calls back."""
    if not _deliver_again(ignored.exc_value) and not _reports_to_nobody(ignored.exc_value):
        sys.__unraisablehook__(ignored)


def _deliver_again(error: BaseException | None) -> bool:
    """Sends the signal that raised `error` in a moment; says whether one did."""
    number = signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        number = signal.SIGINT
    elif isinstance(error, Interruption):
        error.undo()
    elif isinstance(error, SystemExit) and error.code in (PREEMPTED, TERMINATED):
        pass
    else:
        return False
    timer = threading.Timer(_AGAIN, os.kill, [os.getpid(), number])
    timer.daemon = True
    try:
        timer.start()
    except (KeyboardInterrupt, SystemExit, Interruption) as early:  # on a busy machine it comes before the start ends
        _deliver_again(early)
    return True


def _reports_to_nobody(error: BaseException | None) -> bool:
    """Tells threads of Orbax's storage that finish after its writing has failed, as on a full disk: that was raised."""
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
