"""A long video as tracks: every frame is measured as it comes, and forgotten."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from vasa_jax.evaluation import measures
from vasa_jax.evaluation.instrument import Instrument, Measurements

BATCH = 32  # frames that are held at once
FACE_SIDE = 64  # pixels at which sharpness is measured


@dataclasses.dataclass(frozen=True)
class FrameTracks:
    """What is kept of T frames."""

    mouth: np.ndarray  # (T,) inner-lip distance over inter-ocular distance
    lids: np.ndarray  # (T, 2)
    pose: np.ndarray  # (T, 9)
    identity: np.ndarray  # (T,) cosine to the portrait
    sharpness: np.ndarray  # (T,) of the face, see `face_sharpness`
    colour: np.ndarray  # (T, 3) mean red, green and blue of the face, 0 to 255


def read_frames(frames: Iterable[np.ndarray], instrument: Instrument, portrait: Measurements) -> FrameTracks:
    """Tracks of frames uint8 (n, n, 3); `portrait` is the reading of the picture that they were made from."""
    parts = []
    for batch in _batches(frames):
        reading = instrument.measure(batch)
        faces = [_face(frame, points) for frame, points in zip(batch, reading.landmarks)]
        parts.append({
            "mouth": reading.mouth,
            "lids": reading.lids,
            "pose": reading.pose,
            "identity": measures.cosine(reading.embedding, portrait.embedding),
            "sharpness": np.array([face_sharpness(face) for face in faces]),
            "colour": np.stack([face.reshape(-1, 3).mean(0) for face in faces]),
        })
    return FrameTracks(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def face_sharpness(face: np.ndarray) -> float:
    """Variance of the Laplacian of the grey values at FACE_SIDE pixels over their own variance (Pech-Pacheco 2000).

    Neither contrast nor the size of the head counts; 0 for a face of one colour. face: uint8 (h, w, 3).
    """
    import cv2

    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.resize(grey, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_LINEAR)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / max(grey.var(), 1e-6))


def _face(frame: np.ndarray, landmarks_L2: np.ndarray) -> np.ndarray:
    """The part of a frame that the landmarks span, at least two pixels wide and high."""
    size = len(frame)
    pixels = (np.stack([landmarks_L2.min(0), landmarks_L2.max(0)]) + 1.0) * size / 2.0
    low, high = np.floor(pixels[0]).astype(int), np.ceil(pixels[1]).astype(int)
    low = np.clip(low, 0, size - 2)
    high = np.clip(high, low + 2, size)
    return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]])


def _batches(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    held = []
    for frame in frames:
        held.append(frame)
        if len(held) == BATCH:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
