"""What a report says about one measured video of a held-out head, and how it is summed up over heads."""

from collections.abc import Sequence

import numpy as np

from vasa_jax.evaluation import measures
from vasa_jax.evaluation.held_out import HeldOutHead, landmark_indices
from vasa_jax.evaluation.instrument import Instrument, Measurements, instrument_errors

Figures = dict[str, float]


def video_figures(
    reading: Measurements, points: Sequence[str], head: HeldOutHead, portrait: Measurements, frames: slice
) -> Figures:
    """Figures of a measured video against the truth of `frames`; a `slice` with a step leaves out those in time.

    reading: of as many frames as `frames` selects; points: names of its landmarks; portrait: the portrait's reading.
    """
    every = (frames.step or 1) == 1
    figures = mouth_figures(reading.mouth, head.truth["mouth"][frames], offsets=every)
    figures |= lip_figures(lip_shape(reading.landmarks, reading.pose, points), true_lips(head, points, frames))
    figures |= {
        "gaze_error": gaze_error(reading.gaze, reading.lids, head.gaze),
        "distance_error": float(abs(np.exp(-reading.pose[:, 6]).mean() - head.distance)),
        "identity": float(measures.cosine(reading.embedding, portrait.embedding).mean()),
    }
    if every:
        figures |= head_figures(reading.pose, head.truth["pose"][frames])
        figures["pose_audio_r"] = measures.pose_audio_correlation(reading.pose, head.level[frames])
        figures["blinks"] = measures.blinks_per_minute(reading.lids)
    return figures


def label_figures(track: dict[str, np.ndarray], head: HeldOutHead, points: Sequence[str]) -> Figures:
    """The figures that labels have, without the instrument."""
    shape = lip_shape(track["landmarks"][:, landmark_indices(points)], track["pose"], points)
    return {
        **mouth_figures(track["mouth"], head.truth["mouth"]),
        **lip_figures(shape, true_lips(head, points, slice(None))),
        **head_figures(track["pose"], head.truth["pose"]),
        "pose_audio_r": measures.pose_audio_correlation(track["pose"], head.level),
        "blinks": measures.blinks_per_minute(track["lids"]),
    }


def mouth_figures(mouth: np.ndarray, truth: np.ndarray, offsets: bool = True) -> Figures:
    """Figures of a mouth track; no offset is searched in a track with frames left out."""
    closed, open_ = measures.closure(mouth, truth)
    figures = {
        "mouth_r": measures.pearson(mouth, truth),
        "mouth_mae": float(np.abs(mouth - truth).mean()),
        "mouth_closed": closed,
        "mouth_open": open_,
    }
    if offsets:
        offset, r = measures.best_offset(mouth, truth)
        figures |= {"mouth_offset": float(offset), "mouth_offset_size": float(abs(offset)), "mouth_r_at_offset": r}
    return figures


def lip_figures(shape_T2: np.ndarray, truth_T2: np.ndarray) -> Figures:
    """Figures of the lips' outline, whose width and height `measures.lip_shape` gives: means over both."""
    return {
        "lip_shape_r": float(np.mean([measures.pearson(a, b) for a, b in zip(shape_T2.T, truth_T2.T)])),
        "lip_shape_mae": float(np.abs(shape_T2 - truth_T2).mean()),
    }


def head_figures(pose_T9: np.ndarray, truth_T9: np.ndarray) -> Figures:
    """How much the head moves, and how much of the true motion is foreseen."""
    motion, true = (measures.head_motion(measures.smooth(pose)) for pose in (pose_T9, truth_T9))
    return {
        "head_motion": motion,
        "head_motion_ratio": motion / max(true, 1e-6),
        "head_r": measures.head_correlation(pose_T9, truth_T9),
    }


def gaze_error(gaze_T2: np.ndarray, lids_T2: np.ndarray, wanted: tuple[float, float]) -> float:
    """Degrees between the main direction of the eyes (median over frames with open lids) and the wanted one."""
    seen = lids_T2.mean(-1) > 0.4
    main = np.median(gaze_T2[seen] if seen.any() else gaze_T2, axis=0)
    return float(np.linalg.norm(main - np.asarray(wanted)))


def lip_shape(landmarks_TL2: np.ndarray, pose_T9: np.ndarray, points: Sequence[str]) -> np.ndarray:
    """`measures.lip_shape` of landmarks by their names."""
    names = {
        "lips": ("outer_lip_0", "outer_lip_6", "outer_lip_3", "outer_lip_9"),
        "left_eye": ("eye_left_0", "eye_left_4"),
        "right_eye": ("eye_right_0", "eye_right_4"),
    }
    where = {part: [points.index(name) for name in some] for part, some in names.items()}
    return measures.lip_shape(landmarks_TL2, pose_T9, **where)


def true_lips(head: HeldOutHead, points: Sequence[str], frames: slice) -> np.ndarray:
    """(T, 2) exact width and height of the lips' outline."""
    landmarks = head.truth["landmarks"][frames][:, landmark_indices(points)]
    return lip_shape(landmarks, head.truth["pose"][frames], points)


def instrument_figures(
    instrument: Instrument, truths: Sequence[tuple[dict[str, np.ndarray], Measurements]]
) -> Figures:
    """The instrument's own errors on true pictures: (labels of a person's pictures, what it has read in them) each."""
    names = ("mouth", "lids", "gaze", "pose", "landmarks")
    labels = {name: np.concatenate([truth[name] for truth, _ in truths]) for name in names}
    labels["landmarks"] = labels["landmarks"][:, landmark_indices(instrument.points)]
    labels["person"] = np.repeat(np.arange(len(truths)), [len(reading.mouth) for _, reading in truths])
    return instrument_errors(Measurements.joined([reading for _, reading in truths]), labels)


def different_people(readings: Sequence[Measurements]) -> dict[str, float]:
    """{mean, error} of the cosine between the mean embeddings of two people, over all pairs; one reading each."""
    embedding = np.stack([reading.embedding.mean(0) for reading in readings])
    cosine = measures.cosine(embedding[:, None], embedding[None])
    return measures.spread(list(cosine[~np.eye(len(readings), dtype=bool)]))


def mean_figures(takes: Sequence[Figures]) -> Figures:
    """The mean of each figure over several takes."""
    return {name: float(np.mean([take[name] for take in takes])) for name in takes[0]}
