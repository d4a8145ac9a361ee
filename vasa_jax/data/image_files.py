"""Images as uint8 RGB, whatever the file holds."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vasa_jax.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE = 32  # pixels; below this there is no face to animate
MAX_PIXELS = 120_000_000  # above the 108 megapixels of a phone; below what makes a decoder use several GB
MATTE_GREY = 128  # what shows through transparency
# Read by content, not by file name. Formats that start other programs (EPS) or hold no image are left out.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")


def existing_file(path: str | os.PathLike, what: str) -> Path:
    """Returns `path` if it is a readable file with content, else raises InputError; `what` names it ("image", "sound").
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the path of a {what} file")
    if not path.exists():
        raise InputError(f"{path}: does not exist; give the path of a {what} file")
    if not path.is_file():
        raise InputError(f"{path}: is not a regular file; give the path of a {what} file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; change its permissions")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); give a {what} file with content")
    return path


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as uint8 RGB (H, W, 3) at full size, turned upright by its EXIF tag.

    Transparent parts show mid-grey. One channel, palette, 16 bit, float and CMYK become 8-bit RGB, an embedded
    colour profile becomes sRGB; of an animation the first frame is taken. Full size is kept so that crop coordinates
    mean pixels of the file: `face_crop.find_face` works on a reduced copy and `crop_square` reduces by area.

    Raises InputError for a path that is no readable file, for what is not an image, is damaged or cut short, has a
    side under 32 pixels, or more than 120 million pixels (refused from the header, before anything is unpacked).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = existing_file(path, "picture")
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, odd EXIF and palettes: all handled below
        try:
            image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
        except UnidentifiedImageError:
            raise InputError(f"{path}: is not a picture that can be read; convert it to PNG or JPEG") from None
        except Image.DecompressionBombError:
            raise InputError(f"{path}: has too many pixels; reduce it to at most 8000 x 8000") from None
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"{path}: cannot be opened as a picture ({_line(error)}); save it again as PNG") from None
        with image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise InputError(f"{path}: {width} x {height} pixels are too many; reduce it to at most 8000 x 8000")
            if min(width, height) < MIN_SIDE:
                raise InputError(f"{path}: is only {width} x {height} pixels; give a portrait of 256 x 256 or more")
            try:
                image.load()
                with contextlib.suppress(Exception):  # a damaged EXIF block must not cost the image
                    image = ImageOps.exif_transpose(image)
                return np.ascontiguousarray(_to_rgb(image))
            except MemoryError:
                raise
            except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... on damage
                raise InputError(f"{path}: is damaged or cut short ({_line(error)}); give an intact copy") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Any Pillow mode -> uint8 (H, W, 3)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.nan_to_num(np.asarray(image, np.float32))
        if image.mode == "F":
            scale = 255.0 if grey.max() <= 1.0 else 1.0
        else:  # Pillow also opens some 16-bit files as 32-bit "I"
            scale = 255.0 / 65535.0 if image.mode != "I" or grey.max() > 255 else 1.0
        grey = np.clip(np.rint(grey * scale), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        if (rgba[..., 3] == 255).all():
            return rgba[..., :3]
        alpha = rgba[..., 3:].astype(np.uint16)  # 255 * 255 + 127 fits in 16 bits
        mixed = rgba[..., :3] * alpha + np.uint16(MATTE_GREY) * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)
    return np.asarray(_to_srgb(image).convert("RGB"))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Applies an embedded RGB or CMYK colour profile; a missing or broken profile leaves the image as it is."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK"):
        return image
    import io

    from PIL import ImageCms

    with contextlib.suppress(Exception):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return image
