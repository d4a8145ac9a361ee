"""Every odd value that a request can hold, in the place of every setting: a line in UTF-8, or it is taken."""

import itertools
from types import SimpleNamespace

import pytest
from studio_words import NAMES, ODD

from vasa_jax.errors import InputError
from vasa_jax.files import parse_json
from vasa_jax.generation.composition import Form
from vasa_jax.generation.control_track import checked_controls
from vasa_jax.generation.controls import Controls
from vasa_jax.serving.forms import AskedDriving, checked, checked_form
from vasa_jax.serving.live_sockets import _close_reason, _obey


def form(text):
    asked = checked_form(text, has_backdrop=False)
    Form.read(asked, asked.paste, where="form")


def controls(text):
    content = checked_controls(parse_json(text, "controls", "give a JSON object"), "controls")
    return Controls(**content).validate("controls")


def refused_in_a_line(read, text) -> bool:
    """Whether `read` refuses a text; any other exception than an InputError of one line fails the test."""
    try:
        read(text)
    except InputError as fault:
        line = str(fault)
        assert line.isprintable() and len(line) < 2000 and line.encode(), (text[:100], line[:100])
        return True
    return False


@pytest.mark.parametrize("read", [form, controls, lambda text: checked(AskedDriving, text, "motion")])
def test_settings(read):
    texts = [f'{{"{name}": {value}}}' for name, value in itertools.product(NAMES, ODD)]
    refused = [refused_in_a_line(read, text) for text in [*texts, *ODD]]
    assert 0.7 < sum(refused) / len(refused) < 1.0 and not refused_in_a_line(read, "{}")


def test_words_of_a_player():
    """Huge numbers, and all else that JSON knows, in the place of a rate, a latency or a skew."""
    seen = []
    gauge = SimpleNamespace(observe=seen.append)
    metrics = SimpleNamespace(seen_latency=gauge, skew=gauge)
    session = SimpleNamespace(sound=SimpleNamespace(paused=False), interrupt=lambda: None)
    for kind, name, value in itertools.product(
        ("report", "microphone", "interrupt", "pause", "x"), ("rate", "latency", "skew", "type"), ODD
    ):
        text = f'{{"type": "{kind}", "{name}": {value}}}'
        refused_in_a_line(lambda line: _obey(line, session, SimpleNamespace(metrics=metrics), 16_000), text)
    for value in ODD:
        assert refused_in_a_line(lambda line: _obey(line, session, SimpleNamespace(metrics=metrics), 16_000), value)
    assert seen and all(type(value) in (int, float) and abs(value) < 60 for value in seen)


def test_reasons_fit_into_a_close_frame():
    for text in ("x" * 500, "é" * 200, "\U0001f600" * 99, "\ud800" * 200, ""):
        assert len(_close_reason(text).encode()) <= 123
