"""Text on sheets: only what Pillow's built-in font can draw, so that no letter becomes a box."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from vasa_jax.corpus.speech import sentences
from vasa_jax.evaluation import sheets


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("¿Dónde está el niño?", "Donde esta el nino?"),
        ("À côté de l'œuvre, ça ira", "A cote de l'oeuvre, ca ira"),
        ("Größe, Łódź, żółw", "Grosse, Lodz, zolw"),
        ("e\u0301 – “x”…", 'e - "x"...'),
        ("plain: 100 %", "plain: 100 %"),
        ("语 ok", "? ok"),
    ],
)
def test_accents_are_stripped(text, drawn):
    assert sheets.plain(text) == drawn


def test_the_font_has_every_letter_of_the_corpus():
    font = ImageFont.load_default()
    box = bytes(font.getmask("\uffff"))  # a code point that no font fills
    written = {letter for letter in Path(sentences.__file__).read_text() if letter.isprintable()}
    accented = {letter for letter in written if not letter.isascii()}
    assert len(accented) > 20 and all(bytes(font.getmask(letter)) == box for letter in accented)
    for letter in written:
        drawn = sheets.plain(letter)
        assert "?" not in drawn or letter == "?", letter
        assert all(bytes(font.getmask(part)) != box for part in drawn), letter
    assert re.fullmatch("[a-z]*", "".join(sheets.plain(letter) for letter in accented if letter.islower()))


def test_titles_are_drawn_without_accents():
    track = {"mouth": np.array([0.0, 1.0, 0.5])}
    accented, stripped, other = (
        sheets.curves(track, title, width=300) for title in ("¿Qué pasó?\nÑu", "Que paso? Nu", "Qu pas? u")
    )
    np.testing.assert_array_equal(accented, stripped)
    assert (accented != other).any()
    charts = [sheets.chart(["a", "b"], {"one": [1.0, 2.0]}, title) for title in ("Größe", "Grosse")]
    np.testing.assert_array_equal(*charts)
