"""Real speech with known words: clips of the GRID corpus, whose names spell their sentences.

Cooke, Barker, Cunningham and Shao (2006), CC BY 4.0. `bbaf2n` is "bin blue at f two now".
"""

from pathlib import Path
from typing import NamedTuple

from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.voices.alignment import EnglishAligner
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.files import read_table

_DIGITS = dict(zip("z123456789", ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]))
_PLACES = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    # The dictionary spells letters with a dot, but for A.
    {letter: letter if letter == "a" else f"{letter}." for letter in "abcdefghijklmnopqrstuvwxyz"},
    _DIGITS,
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)
SUFFIXES = (".mpg", ".mp4", ".wav", ".mov", ".mkv", ".flac", ".mp3", ".ogg", ".webm")
COLUMNS = ("file", "person", "path")


class GridClip(NamedTuple):
    """Names a clip, its person, and the words of its sentence."""

    file: Path
    person: str
    words: tuple[str, ...]


def grid_words(code: str) -> tuple[str, ...] | None:
    """Returns the words that a name of six signs spells; None for a name that spells no sentence."""
    if len(code) != len(_PLACES):
        return None
    words = tuple(table.get(sign, "") for table, sign in zip(_PLACES, code.lower()))
    return words if all(words) else None


def find_grid_clips(source: str | Path) -> tuple[list[GridClip], list[str]]:
    """Returns the clips of a folder or a table, by name, and the names of those that spell no sentence.

    A folder holds GRID's own layout: PERSON/bbaf2n.mpg. A table (.tsv) has columns file, person and path: clips
    are in the folder `clips` beside it, and the last part of `path` spells the sentence. Rows of other corpora, whose
    persons are not named grid_, are left out.
    Raises InputError for a source without any clip that spells one.
    """
    source = Path(source)
    if source.is_file():
        named = _of_table(source)
    elif source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
        named = [(path, path.parent.name, path.stem) for path in files]
    else:
        raise InputError(f"{source}: no such folder or table; give GRID's folder, or a .tsv of its clips")
    clips, others = [], []
    for path, person, code in named:
        words = grid_words(code)
        if words is None:
            others.append(path.name)
        else:
            clips.append(GridClip(path, person, words))
    if not clips:
        raise InputError(f"{source}: no clip's name spells a sentence of GRID, as bbaf2n does; give its clips")
    return clips, others


def aligned(clip: GridClip, aligner: EnglishAligner) -> Speech | None:
    """Returns a clip's sound with the phonemes of its sentence; None where the words do not fit the sound."""
    samples = read_audio(clip.file).samples
    phonemes = aligner(samples, clip.words)
    return None if phonemes is None else Speech(samples, phonemes)


def _of_table(table: Path) -> list[tuple[Path, str, str]]:
    rows = read_table(table, COLUMNS, f"give a table of GRID's clips with {', '.join(COLUMNS)}")
    folder = table.parent / "clips"
    grid = [row for row in rows if row["person"].startswith("grid_")]
    missing = [row["file"] for row in grid if not (folder / row["file"]).is_file()]
    if missing:
        raise InputError(f"{table}: {folder / missing[0]} is not there; put the clips into the folder clips beside it")
    return [(folder / row["file"], row["person"], Path(row["path"]).stem) for row in grid]
