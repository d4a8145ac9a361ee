"""Images as uint8 RGB, whatever the file holds."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vasa_jax.data.picture_tags import claims_too_much, orientation, upright
from vasa_jax.errors import InputError
from vasa_jax.files import expanded
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE = 32  # pixels; below this there is no face to animate
MATTE = (128, 128, 128)  # what shows through transparency
# Read by content, not by file name. Formats that start other programs (EPS) or hold no image are left out.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "GIF", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
# Bytes per pixel at the peak of reading, a little more than measured on large files; None: other formats.
BYTES_PER_PIXEL = {"JPEG": 11, "MPO": 11, "PNG": 12, "BMP": 14, "PPM": 14, "TGA": 14, "TIFF": 14, None: 24}
PROGRESSIVE = 13  # of a JPEG whose coefficients are all kept
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
STRIP = 256  # rows that are converted at once


class NotAPicture(InputError):
    """The file is of no picture format."""


def existing_file(path: str | os.PathLike, what: str) -> Path:
    """Returns `path` if it is a readable file with content, else raises InputError; `what` names it ("image", "sound").

    A leading `~` is the home folder.
    """
    path = expanded(path)
    give = f"give the path of a {what} file"
    try:
        found = os.stat(path)
    except ValueError:  # a NUL within
        raise InputError(f"{path}: is no path; {give}") from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise InputError(f"{path}: does not exist; {give}") from None
        raise InputError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()}); {give}") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: is a folder; {give}")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is not a regular file; {give}")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; change its permissions")
    if found.st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); give a {what} file with content")
    return path


def read_image(
    path: str | os.PathLike, limits: InputLimits = DEFAULT_LIMITS, background: tuple[int, int, int] = MATTE
) -> np.ndarray:
    """Reads an image file as uint8 RGB (H, W, 3) at full size, turned upright by its EXIF tag.

    Transparent parts show `background`. One channel, palette, 16 bit, float and CMYK become 8-bit RGB, an embedded
    colour profile becomes sRGB; of an animation the first frame is taken. Full size is kept so that crop coordinates
    mean pixels of the file: `face_crop.find_face` works on a reduced copy and `crop_square` reduces by area.

    Raises:
      InputError: no readable file; no image (`NotAPicture`); damaged or cut short; a side under 32 pixels; more than
        `limits` allow, before anything is unpacked.
    """
    path = existing_file(path, "picture")
    if path.stat().st_size > limits.memory * 2**30:
        raise InputError(f"{path}: is larger than {limits.memory:g} GiB; reduce it (config.limits.memory)")
    try:
        data = path.read_bytes()
        if claims_too_much(data):
            raise InputError(f"{path}: its tags claim many times what the file holds; save it again as PNG")
        with warnings.catch_warnings(), _without_libtiff_lines(data):
            warnings.simplefilter("ignore")  # Pillow warns of large images, odd EXIF and palettes: all handled below
            return _read(path, data, limits, background)
    except MemoryError:
        raise InputError(f"{path}: needs more memory than there is; reduce it to at most 4000 x 4000") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({_line(error)}); give an intact copy") from None


def _read(path: Path, data: bytes, limits: InputLimits, background: tuple[int, int, int]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
        _open_heic(path)
    Image.init()
    try:
        image = Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        raise NotAPicture(f"{path}: is not a picture that can be read; convert it to PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path}: has too many pixels; reduce it to at most {limits.megapixels:g} million "
            "(config.limits.megapixels)"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # as below; damaged AVIF gives RuntimeError
        raise InputError(f"{path}: cannot be opened as a picture ({_line(error)}); save it again as PNG") from None
    with image:
        _check_size(path, image, limits)
        try:
            image.load()
            tag = orientation(image.info)
            if image.format == "TIFF":
                tag = image.tag_v2.get(0x0112, tag)
            pixels = _to_rgb(image, background)
        except MemoryError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... on damage
            raise InputError(f"{path}: is damaged or cut short ({_line(error)}); give an intact copy") from None
    return np.ascontiguousarray(upright(pixels, tag if isinstance(tag, int) else 1))


def _open_heic(path: Path) -> None:
    if importlib.util.find_spec("pillow_heif") is None:
        raise InputError(f"{path}: is a HEIC picture; pip install pillow-heif (the extra heic), or convert it to JPEG")
    import pillow_heif

    pillow_heif.register_heif_opener()


def _check_size(path: Path, image: Image.Image, limits: InputLimits) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path}: is only {width} x {height} pixels; give a portrait of 256 x 256 or more")
    if width * height > 1e6 * limits.megapixels:
        raise InputError(
            f"{path}: {width} x {height} pixels are too many; reduce it to at most {limits.megapixels:g} million "
            "(config.limits.megapixels)"
        )
    each = BYTES_PER_PIXEL.get(image.format, BYTES_PER_PIXEL[None])
    if image.info.get("progressive"):
        each = PROGRESSIVE
    if width * height * each > 2**30 * limits.memory:
        raise InputError(
            f"{path}: {width} x {height} pixels of {image.format} are too many, they take more than "
            f"{limits.memory:g} GiB; reduce it to at most {2**30 * limits.memory / each / 1e6:.0f} million, save it as "
            "JPEG, or raise config.limits.memory"
        )


@contextlib.contextmanager
def _without_libtiff_lines(data: bytes) -> Iterator[None]:
    """Keeps what libtiff writes to the terminal away from it: there is no other way to silence it from Python."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        yield
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no terminal, nor anything else
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> np.ndarray:
    """Any Pillow mode -> uint8 (H, W, 3), strip by strip: the copies that Pillow makes stay small."""
    width, height = image.size
    result = np.empty((height, width, 3), np.uint8)
    largest = _largest(image)
    profile = _to_srgb(image)
    for top in range(0, height, STRIP):
        bottom = min(top + STRIP, height)
        strip = image if height <= STRIP else image.crop((0, top, width, bottom))
        result[top:bottom] = _strip(strip, largest, profile, background)
    return result


def _largest(image: Image.Image) -> float:
    """Returns the largest value of one channel of more than 8 bits, 0 of other modes."""
    if image.mode in ("I", "F"):
        return float(np.nan_to_num(np.asarray(image, np.float32)).max())
    return 0.0


def _strip(image: Image.Image, largest: float, profile, background: tuple[int, int, int]) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.nan_to_num(np.asarray(image, np.float32))
        if image.mode == "F":
            scale = 255.0 if largest <= 1.0 else 1.0
        else:  # Pillow also opens some 16-bit files as 32-bit "I"
            scale = 255.0 / 65535.0 if image.mode != "I" or largest > 255 else 1.0
        grey = np.clip(np.rint(grey * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        colour = np.asarray(_transformed(rgba.convert("RGB"), profile))
        alpha = np.asarray(rgba.getchannel("A"), np.uint16)[..., None]  # 255 * 255 + 127 fits in 16 bits
        if (alpha == 255).all():
            return colour
        mixed = colour * alpha + np.array(background, np.uint16) * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)
    if image.mode != "CMYK":
        image = image.convert("RGB")
    return np.asarray(_transformed(image, profile).convert("RGB"))


def _transformed(image: Image.Image, profile) -> Image.Image:
    from PIL import ImageCms

    if profile is None or image.mode != profile.input_mode:
        return image
    return ImageCms.applyTransform(image, profile)


def _to_srgb(image: Image.Image):
    """Returns the transform from an embedded colour profile to sRGB; None for a missing, broken or grey profile."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode in ("L", "LA", "1", "I", "F") or image.mode.startswith("I;16"):
        return None
    from PIL import ImageCms

    mode = "CMYK" if image.mode == "CMYK" else "RGB"
    with contextlib.suppress(Exception):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    return None


def parse_colour(text: str, where: str = "config.background") -> tuple[int, int, int]:
    """Returns the RGB of a colour's name, of #rrggbb, or mid-grey of no text; InputError, which begins with `where`."""
    from PIL import ImageColor

    if not text:
        return MATTE
    colour = ()
    with contextlib.suppress(ValueError):
        colour = ImageColor.getrgb(text)[:3]
    if not colour or max(colour) > 255:
        raise InputError(f"{where}: '{text}' is no colour; give a name such as white, or #rrggbb")
    return colour
