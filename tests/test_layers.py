"""Imports go one way: every module imports from layers below its own, and nothing imports in a circle.

Imports inside functions and under TYPE_CHECKING count too.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("conventions", "errors", "filling", "rng", "dtypes", "pretrained"),
    ("settings", "files", "schema", "stopping"),
    ("limits",),
    ("models",),
    ("generation.controls", "generation.driving", "generation.video_form"),
    ("config",),
    ("diffusion", "losses"),
    ("weights",),
    ("data",),
    ("corpus", "preparation.face_backends", "preparation.onnx_labels.onnx_file"),
    ("preparation", "generation"),
    ("serving", "evaluation"),
    ("training",),
    ("benchmarks",),
    ("main",),
    ("__main__",),
)  # lowest first; a name with a dot is a module or folder apart from its room
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MAX_LINES = 450
RENAMES = {"os.replace", "os.rename", "os.renames", "os.link", "shutil.move"}


def modules() -> dict[str, Path]:
    """Dotted name to file of every module of the package."""
    files = sorted((ROOT / "vasa_jax").rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import; write the whole name"
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in known else node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return {name for name in found if name in known}


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def layer(name: str) -> str:
    parts = name.split(".")[1:]
    inside = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((room for room in inside if room in LEVEL), parts[0] if parts else "")


def breaches(arrows: dict[str, set[str]]) -> list[str]:
    """Arrows between rooms that do not point down."""
    return [
        f"{name} -> {other}"
        for name, others in arrows.items()
        for other in sorted(others)
        if layer(name) and layer(other) and layer(name) != layer(other)
        if LEVEL[layer(other)] >= LEVEL[layer(name)]
    ]


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """The modules of circles: what is left when those that import, or are imported by, nothing left are taken away."""
    left = {name: set(others) for name, others in arrows.items()}
    while True:
        needed = set().union(*left.values()) if left else set()
        done = {name for name, others in left.items() if not others & left.keys() or name not in needed}
        if not done:
            return sorted(left)
        left = {name: others - done for name, others in left.items() if name not in done}


def test_every_module_has_a_layer():
    assert {layer(name) for name in modules()} - {""} <= LEVEL.keys()


def test_imports_point_down():
    assert breaches(graph()) == []


def test_there_is_no_circle():
    assert circle(graph()) == []


def test_a_breach_and_a_circle_are_found():
    assert breaches({"vasa_jax.models.a": {"vasa_jax.data.b"}}) == ["vasa_jax.models.a -> vasa_jax.data.b"]
    assert breaches({"vasa_jax.generation.a": {"vasa_jax.preparation.b"}})  # neighbours do not know each other
    assert circle({"a": {"b"}, "b": {"a", "d"}, "c": {"a"}, "d": set()}) == ["a", "b"]


def test_no_file_is_long():
    long = {name: lines for name, path in modules().items() if (lines := path.read_text().count("\n")) > MAX_LINES}
    assert long == {}


def renames(path: Path) -> set[str]:
    """Calls in a file that give a file its name."""
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    return {name for name in calls if name in RENAMES or name.endswith(".rename")}


def test_one_module_gives_files_their_names():
    """Files are whole or absent, with one lock, one fsync and one clean-up: `files.replacing`."""
    assert {name: found for name, path in modules().items() if (found := renames(path))} == {
        "vasa_jax.files": {"os.replace"}
    }


def test_no_test_imports_a_test():
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not tests.intersection(names), path


def test_nothing_is_computed_by_an_import():
    """JAX that has computed cannot join other processes any more."""
    code = (
        "import importlib, sys, jax._src.xla_bridge as bridge\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name)\n"
        "    except ImportError: continue\n"  # what an extra brings
        "    assert not bridge.backends_are_initialized(), name"
    )
    names = [name for name in modules() if not name.endswith("__main__")]
    subprocess.run([sys.executable, "-c", code, *names], check=True, cwd=ROOT)


def test_names_of_test_files_are_unique():
    """Two of one name, in different folders, cannot be imported in one run of pytest."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(set(names)) == sorted(names)
