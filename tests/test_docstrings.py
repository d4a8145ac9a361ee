"""Docstrings of the package: everything public has one, functions say what they do, sentences are short."""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "vasa_jax"
MAX_WORDS = 25
PROPERTIES = {"property", "cached_property"}  # they are described as attributes are
# Words that look like verbs and are none where a function's description begins with them.
NOUNS = {
    "As", "Axes", "Batches", "Blocks", "Conditions", "Constants", "Distances", "Faces", "Features", "Figures", "Frames",
    "Heights", "Images", "Its", "Means", "Openings", "Operations", "Parameters", "Pictures", "Places", "Points", "Rows",
    "Shards", "This", "Trees", "Values", "Windows",
}  # fmt: skip


def documented():
    """Yields (name, node, bases' methods with docstrings) of every module, class and function of the package."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
    classes = {node.name: node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}

    def described(name, method):
        node = classes.get(name)
        if node is None:
            return False
        own = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == method]
        return any(ast.get_docstring(item) for item in own) or any(described(base, method) for base in bases(node))

    def bases(node):
        return [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases]

    def inside(node, name):
        for item in node.body:
            if isinstance(item, (ast.ClassDef, ast.FunctionDef)):
                known = isinstance(node, ast.ClassDef) and any(described(base, item.name) for base in bases(node))
                yield f"{name}{item.name}", item, known
                if isinstance(item, ast.ClassDef):
                    yield from inside(item, f"{name}{item.name}.")

    for path, tree in trees.items():
        name = f"{path.relative_to(PACKAGE)}:"
        if any(not isinstance(item, ast.Expr) for item in tree.body):
            yield name, tree, False
        yield from inside(tree, name)


def decorators(node):
    return {getattr(item, "id", getattr(item, "attr", "")) for item in getattr(node, "decorator_list", ())}


def sentences(docstring):
    """Clauses up to a full stop, colon or semicolon, without tables, code and pictures of text."""
    prose, block = [], []
    for line in [*docstring.splitlines(), ""]:
        if line.strip():
            block.append(line)
            continue
        heading = [row for row in block if re.fullmatch(r"\s*(Args|Attributes|Raises|Returns|Yields):", row)]
        if heading or not all(row.startswith("    ") for row in block):
            prose.append("\n".join(row for row in block if not row.lstrip().startswith("|")))
        block = []
    text = re.sub(r"\n\s+(?=\*?\*?\w+(, \w+)*: )", ". ", "\n\n".join(prose))  # each of Args is a sentence
    return [part for part in re.split(r"(?<=[.:;?!])[\s\"')]+|\n\s*\n|\n(?=[*\d-])", text) if part]


def words(sentence):
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def faults(name, node, inherited):
    text = ast.get_docstring(node)
    last = name.rpartition(".")[2].rpartition(":")[2]
    public = not any(part.startswith("_") for part in name.rpartition(":")[2].split("."))
    if not text:
        if public and not inherited and last != "setup" and "setter" not in decorators(node):
            yield f"{name} has no docstring"
        return
    first = re.match(r"[\w-]*", text)[0]
    is_verb = re.fullmatch(r"[A-Z][a-z-]*[a-z]s", first) and first not in NOUNS
    if isinstance(node, ast.FunctionDef) and public and not is_verb and not decorators(node) & PROPERTIES:
        yield f"{name} does not begin with a verb: {text.splitlines()[0]}"
    if "of which" in text:
        yield f"{name}: of which"
    for sentence in sentences(text):
        if words(sentence) > MAX_WORDS:
            yield f"{name}: a sentence of {words(sentence)} words: {' '.join(sentence.split())}"


def test_docstrings_are_there_begin_with_a_verb_and_are_short():
    found = [fault for item in documented() for fault in faults(*item)]
    assert not found, "\n".join(found)


def test_a_bad_docstring_is_found():
    def of(text):
        return list(faults("file.py:f", ast.parse(f'def f():\n    """{text}"""').body[0], False))

    long = "word " * 26
    assert of("") and of("The name.") and of("What it returns.") and of("Returns a name, of which it is.")
    assert not of("Returns a name.") and not of(f"Lists:\n\n        code {long}\n\n    The end.")
    assert of(f"Returns {long}") and not of(f"Returns {long[:60]}. {long[:60]}. {long[:60]}")
    assert of(f"Returns it.\n\n    Args:\n      a: {long}")
    assert not of(f"Returns.\n\n    Args:\n      a: {long[:60]}\n      b: {long[:100]}")


SOURCE = r"(19|20)\d\d|section \d|MegaPortraits|LivePortrait|pix2pixHD|VASA-1|of ours"
UNSOURCED = {f"models/{name}.py" for name in ("__init__", "audio_encoders", "fields", "variants")}  # hold no network


def test_networks_and_losses_name_their_source():
    files = [path for room in ("models", "losses") for path in (PACKAGE / room).glob("*.py")]
    texts = {str(path.relative_to(PACKAGE)): ast.get_docstring(ast.parse(path.read_text())) for path in files}
    assert len(texts) > 30
    assert {name for name, text in texts.items() if not re.search(SOURCE, text)} == UNSOURCED
