"""What a terminal shows of names and values that somebody else chose."""

import ast
import contextlib
import io
import shutil
from pathlib import Path

import pytest

from vasa_jax.config import VASAConfig
from vasa_jax.errors import LONGEST_LINE, InputError, one_line, say
from vasa_jax.evaluation.report import save_report
from vasa_jax.main import main, run


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


def line_of(arguments, capsys):
    """The one line with which the command ends."""
    assert main(["main", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and "; " in error and "Traceback" not in error
    return error


def test_a_missing_flag_file_is_one_line(capsys):
    assert "missing" in line_of(["--config=demo", "--flagfile=missing"], capsys)


@pytest.mark.parametrize("name", ["n" * 300 + ".py", "two\nlines.py", "folder/", "/dev/null", "nul\0.py"])
def test_a_configuration_that_is_no_file_is_one_line(name, capsys):
    assert "no such configuration file" in line_of([f"--config={name}"], capsys)


PLACES = {
    "count_votes": ("votes.key", "votes.cast"), "vote_page": ("votes.folders",), "evaluate_audio": ("speech.shards",),
    "evaluate_videos": ("videos", "references", "manifest"), "evaluate_tables": ("videos",), "detect": ("video",),
    "prepare": ("videos", "output"), "import_weights": ("files", "output"), "fit_photos": ("photos.folder",),
    "reenact": ("image", "video", "output", "motion_output", "audio"),
    "generate": ("image", "audio", "output", "backdrop", "subtitles", "controls", "jobs", "sign_certificate"),
}  # fmt: skip


@pytest.mark.parametrize(("job", "setting"), [(job, name) for job, names in PLACES.items() for name in names])
@pytest.mark.parametrize("place", ["n" * 300, "file/x", "nul\0", "folder"])
def test_a_path_that_cannot_be_used_is_one_line_in_every_job(tmp_path, monkeypatch, job, setting, place):
    """Too long, below a file, with a NUL, a folder in the place of a file, an empty one where a full one belongs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("{}")
    (tmp_path / "folder").mkdir()
    values = {**dict.fromkeys(PLACES[job], "missing"), setting: place}
    config = VASAConfig(job=job).to_config_dict()
    config.sign_key = values.get("sign_certificate", "")
    for name, value in values.items():
        section, _, last = name.rpartition(".")
        holder = config[section] if section else config
        holder[last] = (value, "missing") if name == "votes.folders" else value
    with pytest.raises(InputError) as fault:
        run(VASAConfig.from_config_dict(config), tmp_path / "work")
    text = str(fault.value)
    assert "; " in text and text.isprintable() and len(text) < LONGEST_LINE, text


def test_a_place_that_is_taken_is_one_line(tmp_path):
    """A folder where a report should stand."""
    for name in ("report.md", "report.json"):
        (tmp_path / name / "x").mkdir(parents=True)
        with pytest.raises(InputError, match=f"{name}: cannot be written") as fault:
            save_report({}, "text", tmp_path, printed=False)
        assert ".part" not in str(fault.value) and "; " in str(fault.value)
        assert not list(tmp_path.glob("*.part"))
        shutil.rmtree(tmp_path / name)


def test_every_line_about_bad_input_has_a_remedy():
    """Texts that end in another fault's text have that one's."""
    for path in sorted((Path(__file__).parents[1] / "vasa_jax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args):
                continue
            text = node.args[0]
            if not isinstance(text, (ast.Constant, ast.JoinedStr)):
                continue
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            passed_on = isinstance(parts[-1], ast.FormattedValue)
            words = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            assert ";" in words or passed_on, f"{path}: line {node.lineno}: {words}"


@pytest.mark.parametrize(
    ("program", "fault"),
    [
        ("def get_config():\n    return 1 / 0", "(ZeroDivisionError: division by zero)"),
        ("def get_config():\n    raise ValueError('two\\nlines')", "(ValueError: two lines)"),
        ("def get_config(:", "(SyntaxError: invalid syntax (bad_config.py, line 1))"),
        ("\0", "Error: source code string cannot contain null bytes)"),  # its kind depends on Python's version
        ("import nothing_here", "(ModuleNotFoundError: No module named 'nothing_here')"),
        ("raise SystemExit(0)", "(SystemExit: 0)"),
        ("def get_config():\n    open('/nothing')", "(FileNotFoundError: "),
        ("class Odd(BaseException): pass\nraise Odd", "(Odd)"),
        ("def get_config(needed):\n    pass", "(TypeError: get_config() missing 1 required"),
        ("def get_config():\n    return {}", "its get_config() returns no ConfigDict"),
        ("def get_config():\n    pass", "its get_config() returns no ConfigDict"),
    ],
)
def test_a_configuration_that_fails_is_named_with_its_fault(tmp_path, capsys, program, fault):
    path = tmp_path / "bad_config.py"
    path.write_text(program + "\n")
    for given in ([f"--config={path}"], ["--config", str(path)]):
        error = line_of([*given, "--config.seed=3"], capsys)
        assert error.startswith(f"error: {path}: ") and fault in error, error
