"""Frames as a video's form asks for them: another background, another shape, both marked as a whole.

    square of the codec, head on its matte ──> on a backdrop ──> in a frame of a shape ──> mark
    whole picture (paste) ───────────────────> a window of it, or all of it on a blur ──> mark

What is made as it always was, a square or a whole picture before its own background, is not touched here.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from vasa_jax.errors import InputError
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.generation.backdrop import BLUR, GREY, Backdrop, blurred, covering, read_backdrop
from vasa_jax.generation.picture_window import PictureWindow, around
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.generation.watermark import Payload, marked
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

SHAPES = {"square": (1, 1), "portrait": (9, 16), "landscape": (16, 9)}
LARGEST_RATIO = 4  # of a frame's sides
FADE = 1 / 12  # of the square's side: over which hair and shoulders that reach its edges fade within a wider frame


@dataclasses.dataclass(frozen=True)
class Form:
    """A `VideoForm` that was read. proportion: width over height, None = as it is made."""

    backdrop: Backdrop
    proportion: float | None

    @classmethod
    def read(
        cls, form: VideoForm, paste: bool = False, limits: InputLimits = DEFAULT_LIMITS, where: str = "config"
    ) -> "Form":
        """Reads shape and backdrop; InputError for what is none, and for what does not go together."""
        backdrop = read_backdrop(form.backdrop, limits, f"{where}.backdrop")
        if paste and backdrop.kind != "own":
            raise InputError(
                f"{where}.backdrop: the matte knows the square alone, not the whole picture; leave out "
                f"{where}.paste or {where}.backdrop"
            )
        return cls(backdrop, _proportion(form.shape, f"{where}.shape"))


def check_sound(form: VideoForm, audio: object, where: str) -> None:
    """Raises InputError where an idle loop has sound, or a video that is none lacks it."""
    if form.idle and audio:
        raise InputError(f"{where}.idle: a loop is silent; leave the sound or {where}.idle out")
    if form.idle and form.subtitles:
        raise InputError(f"{where}.subtitles: nothing is said in an idle loop; leave them out")
    if not form.idle and not audio:
        raise InputError(f"audio: not given; give speech, or the seconds of a silent loop ({where}.idle)")


class Composition:
    """How the frames of one avatar are shown.

    Attributes:
      size: height and width of a frame.
      transparent: whether frames have a matte, uint8 (H, W, 4).
    """

    def __init__(
        self, animator: PortraitAnimator, avatar: Avatar, portrait: Portrait, form: Form, paste: bool, batch: int = 0
    ):
        """batch: frames that are decoded at once; 0 = the animator's. InputError for a codec without a matte."""
        self._animator, self._avatar, self._batch = animator, avatar, batch
        self._payload: Payload | None = avatar.payload
        self.transparent = form.backdrop.transparent
        if animator.codec == "keypoint" and form.backdrop.kind != "own":
            raise InputError("config.backdrop: keypoint codecs have no matte; leave it out, or give a volume codec")
        side = animator.image_size
        self._whole = self._still = self._place = self._window = self._fade = None
        if paste and form.proportion is not None:
            self._window = window = PictureWindow(portrait, form.proportion)
            mark_of = functools.partial(window.mark, payload=avatar.payload)
            self._whole = animator.paste(window.portrait, avatar, mark_of)
            if avatar.payload is None:
                window.look(self._whole.picture)
            self.size = window.size
            return
        if paste:
            self._whole = animator.paste(portrait, avatar)
            self.size = self._whole.size
            return
        self.size = (side, side) if form.proportion is None else around(side, side, form.proportion)
        own = np.asarray(jnp.round(avatar.canvas * 255.0)).astype(np.uint8)
        still = _still(form.backdrop, own, self.size)
        if self.size != (side, side) or self.transparent:
            # With its own background a square stands in the middle; without, on the ground: it ends in a body.
            above = (self.size[0] - side) // (2 if form.backdrop.kind == "own" else 1)
            left = (self.size[1] - side) // 2
            self._place = np.s_[above : above + side, left : left + side]
            self._still = still
            if form.backdrop.kind == "own":
                still[self._place] = own
            else:
                self._fade = _fade(side, self.size[1] > side, self.size[0] > side)
        canvas = still if self._place is None else still[self._place]
        if form.backdrop.kind not in ("own", "transparent"):
            self._avatar = dataclasses.replace(avatar, canvas=jnp.asarray(canvas, jnp.float32) / 255.0)

    def frames(self, motion: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the frames of a motion (T, 137), uint8 (H, W, 3), or (H, W, 4) where they are transparent."""
        if self._whole:
            shown = self._animator.render_whole(self._whole, self._avatar, motion)
            return map(self._window, shown) if self._window else shown
        if self._place is None:
            return itertools.chain.from_iterable(self._animator.render(self._avatar, motion, self._batch))
        if self.transparent:
            squares = self._animator.render_layers(self._avatar, motion)
        else:
            squares = itertools.chain.from_iterable(self._animator.render(self._avatar.unmarked, motion, self._batch))
        return map(self._marked, map(self._in_place, squares))

    def _in_place(self, square: np.ndarray) -> np.ndarray:
        still = self._still
        if self.transparent:
            still = np.concatenate([still, np.zeros((*still.shape[:2], 1), np.uint8)], -1)
        frame = still.copy()
        if self._fade is not None and self.transparent:
            square = np.concatenate([square[..., :3], _rounded(square[..., 3:] * self._fade)], -1)
        elif self._fade is not None:
            square = _rounded(self._fade * square + (1.0 - self._fade) * still[self._place])
        frame[self._place] = square
        return frame

    def _marked(self, frame: np.ndarray) -> np.ndarray:
        if self._payload is None:
            return frame
        colours = marked(np.ascontiguousarray(frame[None, ..., :3]), self._payload, 1)[0]
        return np.concatenate([colours, frame[..., 3:]], -1) if self.transparent else colours


def _proportion(text: str, where: str) -> float | None:
    if not text:
        return None
    width, height = SHAPES.get(text, (0, 0))
    if not width:
        parts = text.split(":")
        if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
            width, height = map(int, parts)
        if not (width and height and max(width, height) <= LARGEST_RATIO * min(width, height)):
            raise InputError(
                f"{where}: '{text}' is none; give {', '.join(SHAPES)}, or width:height such as 4:5, at most "
                f"{LARGEST_RATIO}:1"
            )
    return width / height


def _fade(side: int, sideways: bool, above: bool) -> np.ndarray:
    """Returns how much of the square is shown, float32 (n, n, 1): what its edges cut within a frame fades there."""
    way = np.clip((np.arange(side, dtype=np.float32) + 0.5) / (FADE * side), 0.0, 1.0)
    way = way * way * (3.0 - 2.0 * way)
    across = np.minimum(way, way[::-1]) if sideways else np.ones_like(way)
    return (across * (way[:, None] if above else 1.0))[..., None] * np.ones((side, 1, 1), np.float32)


def _rounded(levels: np.ndarray) -> np.ndarray:
    return (levels + 0.5).astype(np.uint8)


def _still(backdrop: Backdrop, own: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns what stands behind, uint8 (H, W, 3), of a frame's size. own: the portrait's background, (n, n, 3)."""
    if backdrop.kind == "still":
        return covering(backdrop.still, *size)
    if backdrop.transparent:
        return np.broadcast_to(np.array(GREY, np.uint8), (*size, 3))
    if backdrop.kind == BLUR:
        return covering(blurred(own), *size)
    return own.copy() if own.shape[:2] == size else blurred(covering(own, *size))
