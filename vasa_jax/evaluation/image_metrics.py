"""Metrics of images: PSNR, SSIM, and two meanings of sharpness, which have two names.

`edge_sum` of an image over that of its truth compares their edges: 1 = as sharp as the truth.
`laplacian_sharpness` needs no truth: it is a property of one face.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from vasa_jax.losses import ssim

SSIM_WINDOW = 7  # pixels
LAPLACIAN_SIDE = 64  # pixels at which `laplacian_sharpness` looks at a face

_ssim_maps = jax.jit(ssim, static_argnums=2)


def mse_to_psnr(mean_square_error):
    """Returns the peak signal-to-noise ratio in dB of images in [0, 1] with that error; 100 dB at most.

    Takes and returns a number, a numpy array or a JAX array.
    """
    xp = jnp if isinstance(mean_square_error, jax.Array) else np
    return -10.0 * xp.log10(xp.maximum(mean_square_error, 1e-10))


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Returns the PSNR in dB of numpy images in [0, 1], in float64.

    Given a `mask` (the same shape without channels), only pixels where it is true count.
    """
    error = np.square(np.asarray(image, np.float64) - np.asarray(truth, np.float64))
    if mask is not None:
        error = error[np.asarray(mask, bool)]
    return float(mse_to_psnr(error.mean() if error.size else 0.0))


def psnr_per_image(x: Float[Array, "B h w 3"], y: Float[Array, "B h w 3"]) -> Float[Array, "B"]:
    """Returns the PSNR in dB of each image in [0, 1]; may be compiled."""
    return mse_to_psnr(jnp.square(x - y).mean((1, 2, 3)))


def image_metrics(
    video: UInt8[np.ndarray, "N n n 3"], truth: UInt8[np.ndarray, "N n n 3"], mask: Bool[np.ndarray, "N n n"]
) -> dict[str, float]:
    """Returns PSNR (dB) and SSIM of the whole images and of `mask`; means over images.

    The SSIM of a mask counts the windows whose centre lies in it.
    """
    video, truth = np.asarray(video, np.float32) / 255.0, np.asarray(truth, np.float32) / 255.0
    maps = np.asarray(_ssim_maps(video, truth, SSIM_WINDOW)).mean(-1)
    margin = SSIM_WINDOW // 2
    centres = mask[:, margin:-margin, margin:-margin]
    return {
        "psnr": float(np.mean([psnr(a, b) for a, b in zip(video, truth)])),
        "psnr_head": float(np.mean([psnr(a, b, m) for a, b, m in zip(video, truth, mask)])),
        "ssim": float(maps.mean()),
        "ssim_head": float(np.mean([a[m].mean() for a, m in zip(maps, centres) if m.any()] or [np.nan])),
    }


def edge_sum(image: Float[Array, "B h w 3"], region: Bool[Array, "B h w"]) -> Float[Array, ""]:
    """Returns the sum of absolute differences of neighbouring pixels inside a region; may be compiled.

    Over that of the truth it says how sharp an image is: 1 = as sharp as the truth.
    """
    across = jnp.abs(image[:, :, 1:] - image[:, :, :-1]).mean(-1) * region[:, :, 1:]
    down = jnp.abs(image[:, 1:] - image[:, :-1]).mean(-1) * region[:, 1:]
    return across.sum() + down.sum()


def laplacian_sharpness(face: UInt8[np.ndarray, "h w 3"]) -> float:
    """Returns the variance of the Laplacian of a face's grey values over their own variance (Pech-Pacheco 2000).

    The face is resized to LAPLACIAN_SIDE first, so that neither contrast nor the size of the head counts. 0 for a face
    of one colour.
    """
    import cv2

    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.resize(grey, (LAPLACIAN_SIDE, LAPLACIAN_SIDE), interpolation=cv2.INTER_LINEAR)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(grey.var(), 1e-6))
