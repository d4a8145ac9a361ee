"""SIGTERM at any moment: the run saves and leaves, and no exception of ours escapes."""

import os
import signal
import sys

import pytest

from vasa_jax.training.preemption import Preempted, Preemption


@pytest.fixture
def preemption():
    found = Preemption()
    yield found
    found.close()


def test_a_signal_ends_what_is_interruptible_and_is_remembered(preemption):
    def evaluation():
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the evaluation went on")

    assert preemption.interruptible(evaluation) is None
    assert preemption.noticed and preemption.requested(3)
    assert Preempted().code == 75


def test_a_signal_outside_of_an_evaluation_only_sets_the_flag(preemption):
    assert preemption.interruptible(lambda: 7) == 7
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.requested(0)


def test_other_exceptions_pass_and_end_the_interruptible_time(preemption):
    with pytest.raises(ZeroDivisionError):
        preemption.interruptible(lambda: 1 / 0)
    os.kill(os.getpid(), signal.SIGTERM)  # raises nothing any more
    assert preemption.noticed


def signalled_at(opcode: int) -> tuple[object, bool, bool]:
    """Calls `interruptible` with the signal before its bytecode instruction number `opcode`; tells whether it came."""
    preemption, count, sent = Preemption(), 0, False

    def trace(frame, event, _):
        nonlocal count, sent
        if frame.f_code is not Preemption.interruptible.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if count == opcode:
                sent = True
                preemption._on_sigterm()
            count += 1
        return trace

    sys.settrace(trace)
    try:
        result = preemption.interruptible(lambda: 7)
    finally:
        sys.settrace(None)
        preemption.close()
    return result, preemption.noticed, sent


def test_no_moment_lets_the_interruption_escape():
    opcode = 0
    while True:
        result, noticed, sent = signalled_at(opcode)
        assert result in (7, None) and noticed == sent
        if not sent:
            break
        opcode += 1
    assert opcode > 10


def test_the_signal_goes_back_to_its_owner():
    before = signal.getsignal(signal.SIGTERM)
    preemption = Preemption()
    assert signal.getsignal(signal.SIGTERM) != before
    preemption.close()
    assert signal.getsignal(signal.SIGTERM) == before
