"""What happens to a video on its way through the world, before someone looks for its mark."""

import io
from collections.abc import Callable

import numpy as np

from vasa_jax.conventions import FPS

PRESET = "veryfast"  # of x264: of its usual presets the one that keeps least at a given crf
CRF = 23  # ffmpeg's default, of attacks that are not about it


def coded(frames: np.ndarray, crf: int = CRF, fps: int = FPS, codec: str = "libx264") -> np.ndarray:
    """Returns frames, uint8 (T, H, W, 3), as a codec of PyAV gives them back; H and W even."""
    import av

    options = {
        "libx264": {"crf": str(crf), "preset": PRESET},
        "libx265": {"crf": str(crf), "preset": "ultrafast", "x265-params": "log-level=none"},
        "libvpx-vp9": {"crf": str(crf), "b": "0", "deadline": "realtime", "cpu-used": "8"},
        "mpeg4": {"qscale": str(crf // 4)},
        "mjpeg": {"qscale": str(crf // 3)},
    }[codec]
    memory = io.BytesIO()
    with av.open(memory, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    memory.seek(0)
    with av.open(memory) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def scaled(frames: np.ndarray, factor: float) -> np.ndarray:
    """Returns frames (T, H, W, 3) of `factor` times the size, to even pixels, as video players and editors scale."""
    import cv2

    height, width = (2 * round(length * factor / 2) for length in frames.shape[1:3])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])


def cut(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns frames without `share` of their height and of their width, anywhere."""
    height, width = (2 * round(length * (1 - share) / 2) for length in frames.shape[1:3])
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(frames.shape[1:3], (height, width)))
    return frames[:, top : top + height, left : left + width]


def at_rate(frames: np.ndarray, fps: int) -> np.ndarray:
    """Returns frames of FPS dropped or repeated to another rate: the nearest in time."""
    count = len(frames) * fps // FPS
    return frames[np.minimum(np.arange(count) * FPS // fps, len(frames) - 1)]


Attack = Callable[[np.ndarray, np.random.Generator], np.ndarray]
ATTACKS: dict[str, Attack] = {
    "as written": lambda frames, rng: frames,
    "crf 18": lambda frames, rng: coded(frames, 18),
    "crf 23": lambda frames, rng: coded(frames, 23),
    "crf 28": lambda frames, rng: coded(frames, 28),
    "half the size, crf 18": lambda frames, rng: coded(scaled(frames, 0.5), 18),
    "half the size": lambda frames, rng: coded(scaled(frames, 0.5)),
    "three quarters": lambda frames, rng: coded(scaled(frames, 0.75)),
    "one and a half": lambda frames, rng: coded(scaled(frames, 1.5)),
    "twice the size": lambda frames, rng: coded(scaled(frames, 2.0)),
    "10 % cut off": lambda frames, rng: coded(cut(frames, 0.1, rng)),
    "24 fps": lambda frames, rng: coded(at_rate(frames, 24), fps=24),
    "30 fps": lambda frames, rng: coded(at_rate(frames, 30), fps=30),
    "mirrored": lambda frames, rng: coded(frames[:, :, ::-1]),
    "one frame as written": lambda frames, rng: frames[len(frames) // 2][None],
    "one frame of crf 23": lambda frames, rng: coded(frames, 23)[len(frames) // 2][None],
}
