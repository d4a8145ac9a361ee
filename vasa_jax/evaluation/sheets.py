"""Contact sheets and curves as images, with Pillow alone."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vasa_jax.files import replacing

TILE = 128
COLOURS = ((30, 30, 30), (214, 70, 40), (40, 110, 200), (40, 150, 80), (150, 80, 170), (170, 130, 30))
_MARGIN, _HEIGHT = 24, 150
# What the built-in font lacks and Unicode does not take apart into a letter and a mark.
_SPELLED = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L"}
    | {"¿": "", "¡": "", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"'}
)


def grid(rows: Sequence[Sequence[np.ndarray]], tile: int = TILE) -> np.ndarray:
    """Joins square uint8 images, each resized to `tile`, into one; short rows are filled with white."""
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * tile, columns * tile, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            resized = np.asarray(Image.fromarray(image).resize((tile, tile), Image.Resampling.LANCZOS))
            sheet[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile] = resized
    return sheet


def curves(tracks: dict[str, np.ndarray], title: str, width: int, height: int = _HEIGHT) -> np.ndarray:
    """Draws tracks over frames in one image, uint8 (height, width, 3).

    The axes are shared and begin at 0, with one tick per second at 25 fps.
    """
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    top = max(max(float(np.max(track)) for track in tracks.values()), 1e-6)
    frames = max(len(track) for track in tracks.values())
    left, right, low, high = _MARGIN, width - 8, height - 8, 32

    def place(frame: float, value: float) -> tuple[float, float]:
        return left + (right - left) * frame / max(frames - 1, 1), low - (low - high) * max(value, 0.0) / top

    draw.line([place(0, 0), place(frames - 1, 0)], fill=(190, 190, 190))
    for second in range(0, frames, 25):
        x, y = place(second, 0)
        draw.line([(x, y), (x, y + 5)], fill=(120, 120, 120))
    draw.text((2, high - 6), f"{top:.2f}", fill=(120, 120, 120))
    x = float(left)
    for colour, (name, track) in zip(COLOURS, tracks.items()):
        draw.line([place(frame, float(value)) for frame, value in enumerate(track)], fill=colour, width=2)
        draw.text((x, 16), name, fill=colour)
        x += draw.textlength(name) + 24
    draw.text((left, 2), _fit(draw, title, right - left), fill=(60, 60, 60))
    return np.asarray(image)


def chart(
    labels: Sequence[str], series: dict[str, Sequence[float]], title: str, width: int = 480, height: int = _HEIGHT
) -> np.ndarray:
    """Draws values over labelled places in one image, uint8 (height, width, 3).

    The axes are shared and go from the least value or 0 to the largest. A series with a single value is a reference,
    drawn as a level line; nan leaves a gap.
    """
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    known = [float(v) for values in series.values() for v in values if np.isfinite(v)]
    top, bottom = max([*known, 0.0]), min([*known, 0.0])
    top = top if top > bottom else bottom + 1.0
    left, right, low, high = 2 * _MARGIN, width - 2 * _MARGIN, height - 22, 36

    def place(index: float, value: float) -> tuple[float, float]:
        across = left + (right - left) * index / max(len(labels) - 1, 1)
        return across, low - (low - high) * (value - bottom) / (top - bottom)

    for value in (bottom, top):
        draw.line([place(0, value), place(len(labels) - 1, value)], fill=(220, 220, 220))
        draw.text((2, place(0, value)[1] - 6), f"{value:.3g}", fill=(120, 120, 120))
    for index, label in enumerate(labels):
        draw.text((place(index, bottom)[0], low + 4), label, fill=(60, 60, 60), anchor="ma")
    x = float(left)
    for colour, (name, values) in zip(COLOURS, series.items()):
        level = len(values) == 1
        track = list(values) * len(labels) if level else list(values)
        points = [place(index, float(value)) for index, value in enumerate(track) if np.isfinite(value)]
        draw.line(points, fill=colour, width=1 if level else 2)
        for px, py in [] if level else points:
            draw.ellipse([px - 3, py - 3, px + 3, py + 3], fill=colour)
        draw.text((x, 16), name, fill=colour)
        x += draw.textlength(name) + 24
    draw.text((left, 2), _fit(draw, title, right - left), fill=(60, 60, 60))
    return np.asarray(image)


def save(path: str | Path, image: np.ndarray) -> None:
    """Writes a PNG; it appears whole or not at all."""
    with replacing(path) as part:
        Image.fromarray(image).save(part, format="PNG")


def plain(text: str) -> str:
    """Returns the text in ASCII, which the built-in font has: letters without accents, ? for other scripts."""
    parts = unicodedata.normalize("NFKD", text.translate(_SPELLED))
    return "".join(part for part in parts if not unicodedata.combining(part)).encode("ascii", "replace").decode("ascii")


def _fit(draw: ImageDraw.ImageDraw, text: str, width: float) -> str:
    """Returns the text in letters the built-in font has, cut to a width."""
    text = plain(text).replace("\n", " ")
    while text and draw.textlength(text) > width:
        text = text[:-1]
    return text
