"""What a terminal shows of names and values that somebody else chose."""

import contextlib
import io

import pytest

from vasa_jax.errors import LONGEST_LINE, InputError, one_line, say
from vasa_jax.main import main


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("\udcff.mp4", r"\udcff.mp4"),
        ("日本 é 🙂.mp4", "日本 é 🙂.mp4"),
        (r"already \n escaped", r"already \n escaped"),
    ],
)
def test_errors_are_one_line_without_control_characters(text, shown):
    assert one_line(text) == shown
    assert str(InputError(text)) == shown == one_line(shown)


def test_long_values_are_shortened_but_fault_and_remedy_stay():
    text = str(InputError(f"config.emotion: '{'x' * 5000}' is unknown; choose one"))
    assert len(text) < 400
    assert text.startswith("config.emotion: 'xxx") and text.endswith("is unknown; choose one")
    text = str(InputError(f"a.json: {'word ' * 5000}is unknown; choose one"))
    assert len(text) < LONGEST_LINE + 50 and text.endswith("is unknown; choose one")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_shows_any_name(encoding):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    say("日本é\udcff.mp4", terminal)
    assert terminal.buffer.getvalue().endswith(b".mp4\n")


def test_a_closed_or_full_terminal_is_no_error():
    closed = io.StringIO()
    closed.close()
    say("text", closed)
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # what closing it says is not ours
        say("text", full)
        said = True
    assert said


@pytest.mark.parametrize("fault", ["flagfile", "program"])
def test_what_stops_the_command_line_from_being_read_is_one_line(tmp_path, capsys, fault):
    (tmp_path / "c.py").write_text("def get_config():\n    return 1 / 0\n")
    lines = {"flagfile": ["--config=demo", "--flagfile=missing"], "program": [f"--config={tmp_path / 'c.py'}"]}
    assert main(["main", *lines[fault]]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and "; " in error
