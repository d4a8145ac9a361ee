"""Real speech with known words: recordings that a table describes, and GRID's clips, whose names spell their sentences.

GRID: Cooke, Barker, Cunningham and Shao (2006), CC BY 4.0. `bbaf2n` is "bin blue at f two now".
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.espeak import Speech
from vasa_jax.corpus.voices.alignment import EnglishAligner, words_of
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
QUIETEST = 1e-3  # peak of a recording that holds speech
SPOKEN_COLUMNS = ("file", "person", "words")


class SpokenClip(NamedTuple):
    """Names a recording, its person, and the words of its sentence."""

    file: Path
    person: str
    words: tuple[str, ...]


def grid_words(code: str) -> tuple[str, ...] | None:
    """Returns the words that a name of six signs spells; None for a name that spells no sentence."""
    if len(code) != len(_PLACES):
        return None
    words = tuple(table.get(sign, "") for table, sign in zip(_PLACES, code.lower()))
    return words if all(words) else None


def find_grid_clips(source: str | Path) -> tuple[list[SpokenClip], list[str]]:
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
            clips.append(SpokenClip(path, person, words))
    if not clips:
        raise InputError(f"{source}: no clip's name spells a sentence of GRID, as bbaf2n does; give its clips")
    return clips, others


def find_recordings(table: str | Path) -> list[SpokenClip]:
    """Returns the recordings of a table: columns file (beside the table), person and words, which are English.

    InputError for a table without them, and for a file that is not there.
    """
    table = Path(table)
    rows = read_table(table, SPOKEN_COLUMNS, f"give a table of recordings with {', '.join(SPOKEN_COLUMNS)}")
    clips = [SpokenClip(table.parent / row["file"], row["person"], tuple(words_of(row["words"]))) for row in rows]
    missing = next((clip.file for clip in clips if not clip.file.is_file()), None)
    if missing is not None:
        raise InputError(f"{table}: {missing} is not there; name files as seen from the table's folder")
    return clips


def aligned(clip: SpokenClip, aligner: EnglishAligner, longest: float) -> Speech | None:
    """Returns a recording's sound with the phonemes of its sentence; None where the words do not fit the sound.

    InputError for one that is silent, damaged, or longer than `longest` seconds.
    """
    samples = read_audio(clip.file).samples
    if len(samples) > longest * SAMPLE_RATE:
        raise InputError(f"{clip.file.name}: longer than {longest:g} s; cut it at a pause")
    if np.abs(samples).max(initial=0.0) < QUIETEST:
        raise InputError(f"{clip.file.name}: is silent; leave it out")
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
