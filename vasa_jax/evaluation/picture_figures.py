"""How near decoded pictures are to their exact truth."""

import jax
import numpy as np

from vasa_jax.evaluation import measures
from vasa_jax.losses import ssim

SSIM_WINDOW = 7  # pixels

_ssim_maps = jax.jit(ssim, static_argnums=2)


def picture_figures(video: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """PSNR (dB) and SSIM of N pictures uint8 (N, n, n, 3), of the whole and of `mask` (N, n, n); means over pictures.

    The SSIM of a mask counts the windows whose centre lies in it.
    """
    video, truth = np.asarray(video, np.float32) / 255.0, np.asarray(truth, np.float32) / 255.0
    maps = np.asarray(_ssim_maps(video, truth, SSIM_WINDOW)).mean(-1)
    margin = SSIM_WINDOW // 2
    centres = mask[:, margin:-margin, margin:-margin]
    return {
        "psnr": float(np.mean([measures.psnr(a, b) for a, b in zip(video, truth)])),
        "psnr_head": float(np.mean([measures.psnr(a, b, m) for a, b, m in zip(video, truth, mask)])),
        "ssim": float(maps.mean()),
        "ssim_head": float(np.mean([a[m].mean() for a, m in zip(maps, centres) if m.any()] or [np.nan])),
    }
