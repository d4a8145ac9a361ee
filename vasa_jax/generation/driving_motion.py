"""The motion that a driving video shows, and its files: .npz, and LivePortrait's templates."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.conventions import POSE_DIM
from vasa_jax.data.image_files import existing_file
from vasa_jax.data.output_files import output_file
from vasa_jax.errors import InputError
from vasa_jax.files import read_arrays, replacing
from vasa_jax.generation.motion_rate import at_rate
from vasa_jax.weights.pickle_reader import read_pickle

SUFFIXES = (".npz", ".pkl", ".pickle")
CODECS = ("volume", "keypoint")
LARGEST_FILE = 2**28  # bytes
MOST_FRAMES = 2**19  # 5.8 hours at 25 frames a second
LARGEST_SCALE = 20.0  # of a head: as many times as large as the codec's own, or as small
LARGEST_OPENNESS = 10.0  # height of eyes or lips over their width
_REMEDY = "save it again with config.motion_output, or give the video"


@dataclasses.dataclass(frozen=True)
class DrivingMotion:
    """A face's motion as one kind of codec reads it.

    pose: float32 (T, 9), see `conventions`; dynamics: float32 (T, Z), of keypoint codecs the 3 K displacements of the
    expression; fps: frames per second; codec: "volume" or "keypoint"; model: the codec's name where latents are its
    own, "" where they are anyone's; notes: what the user should be told; absolute_lips: whether the lips are taken as
    they are, also by a portrait that otherwise moves as the driving face has moved; openness: float32 (T, 3), height
    over width of the image's left eye, its right eye and the inner lips, None where not measured.
    """

    pose: np.ndarray
    dynamics: np.ndarray
    fps: float
    codec: str
    model: str = ""
    notes: tuple[str, ...] = ()
    absolute_lips: bool = False
    openness: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pose)

    @property
    def vectors(self) -> np.ndarray:
        """Returns pose and dynamics in one array, float32 (T, 9 + Z)."""
        return np.concatenate([self.pose, self.dynamics], 1)

    def unfit(self, codec: Any) -> str:
        """Returns why a codec cannot be moved by it, "" where it can.

        codec: as `PortraitAnimator` tells its kind `codec`, how many `dynamics` it has, and its name `model`.
        """
        width = self.dynamics.shape[1]
        if (self.codec, width) != (codec.codec, codec.dynamics):
            return (
                f"holds motion of a {self.codec} codec with {width} numbers a face, not of a {codec.codec} codec with "
                f"{codec.dynamics}"
            )
        return "" if self.model in ("", codec.model) else f"was read by the codec {self.model}, not by {codec.model}"

    def at_rate(self, fps: float) -> "DrivingMotion":
        """Returns the motion at another frame rate, linear between its frames; rotations stay rotations.

        InputError for a motion of so few frames a second that it would become one of more than MOST_FRAMES.
        """
        if len(self) * fps > MOST_FRAMES * self.fps:
            raise InputError(
                f"config.fps: {len(self) / self.fps / 3600:.1f} hours at {fps:g} frames a second are more than "
                f"{MOST_FRAMES} frames; choose fewer, or give a shorter motion"
            )
        openness = np.zeros((len(self), 0)) if self.openness is None else self.openness
        moved, width = at_rate(np.concatenate([self.vectors, openness], 1), self.fps, fps), self.dynamics.shape[1]
        pose, dynamics, openness = np.split(moved, (POSE_DIM, POSE_DIM + width), axis=1)
        openness = None if self.openness is None else openness
        return dataclasses.replace(self, pose=pose, dynamics=dynamics, fps=fps, openness=openness)

    def shortened(self, count: int) -> "DrivingMotion":
        """Returns its first frames."""
        openness = None if self.openness is None else self.openness[:count]
        return dataclasses.replace(self, pose=self.pose[:count], dynamics=self.dynamics[:count], openness=openness)


def motion_file(path: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Returns the path that a motion is saved to; InputError for another suffix, and as `output_file`."""
    path = output_file(path, inputs)
    if path.suffix != ".npz":
        raise InputError(f"{path}: motion is saved as .npz; give such a name")
    return path


def save_motion(path: str | Path, motion: DrivingMotion) -> None:
    """Writes a motion as .npz, whole or not at all; InputError where it cannot be written, or for another suffix."""
    with replacing(motion_file(path)) as part, open(part, "wb") as file:
        measured = {} if motion.openness is None else {"openness": motion.openness}
        np.savez(
            file, pose=motion.pose, dynamics=motion.dynamics, fps=np.float64(motion.fps), codec=np.array(motion.codec),
            model=np.array(motion.model), absolute_lips=np.array(motion.absolute_lips), **measured,
        )  # fmt: skip


def read_motion(path: str | Path) -> DrivingMotion:
    """Reads a motion from .npz, or one of LivePortrait's templates from .pkl without running its code.

    InputError for anything else, and for numbers that are no motion.
    """
    path = existing_file(path, "saved motion")
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(f"{path}: is larger than {LARGEST_FILE // 2**20} MiB; {_REMEDY}")
    return _read_npz(path) if path.suffix.lower() == ".npz" else _from_template(path, read_pickle(path))


def _read_npz(path: Path) -> DrivingMotion:
    content = read_arrays(path, _REMEDY, LARGEST_FILE)
    try:
        motion = DrivingMotion(
            _single(content["pose"]), _single(content["dynamics"]), float(content["fps"]), str(content["codec"]),
            str(content["model"]), absolute_lips=bool(content.get("absolute_lips", False)),
            openness=_single(content["openness"]) if "openness" in content else None,
        )  # fmt: skip
    except KeyError as error:
        raise InputError(f"{path}: no array {' '.join(str(error).split())}; {_REMEDY}") from None
    except (TypeError, ValueError, OverflowError) as error:  # arrays of text, or of another shape
        raise InputError(f"{path}: no saved motion ({' '.join(str(error).split())}); {_REMEDY}") from None
    return checked_motion(path, motion)


def _single(values: Any) -> np.ndarray:
    """Returns real numbers in float32; too large ones become infinite, which is refused later."""
    values = np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{values.dtype} where numbers belong")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _from_template(path: Path, content: Any) -> DrivingMotion:
    """LivePortrait: x = s (k R + e) + t with rows k, so its R is the transpose of a pose's rotation; t_z is dropped."""
    frames = content.get("motion") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise InputError(f"{path}: is no motion template of LivePortrait (no list 'motion'); {_REMEDY}")
    poses, dynamics = [], []
    for number, frame in enumerate(frames):
        rotation = "R" if "R" in frame else "R_d"  # its older name
        missing = [name for name in (rotation, "scale", "t", "exp") if name not in frame]
        if missing:
            raise InputError(f"{path}: frame {number} has no '{missing[0]}'; {_REMEDY}")
        try:
            rows = np.asarray(frame[rotation], np.float64).reshape(3, 3)
            scale, shift = float(np.asarray(frame["scale"]).reshape(())), np.asarray(frame["t"], np.float64).reshape(3)
            expression = np.asarray(frame["exp"], np.float64).reshape(-1, 3)
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{path}: frame {number} has other shapes than a template's; {_REMEDY}") from None
        if not scale > 0:
            raise InputError(f"{path}: frame {number} has a scale of {scale:g}; {_REMEDY}")
        poses.append([*rows[0], *rows[1], np.log(scale), *shift[:2]])
        dynamics.append(expression.ravel())
    if len({len(row) for row in dynamics}) > 1:
        raise InputError(f"{path}: its frames have different numbers of keypoints; {_REMEDY}")
    try:
        fps = float(content.get("output_fps", 25))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: its output_fps is no number; {_REMEDY}") from None
    openness = _template_openness(path, content, len(frames))
    return checked_motion(path, DrivingMotion(_single(poses), _single(dynamics), fps, "keypoint", openness=openness))


def _template_openness(path: Path, content: dict, frames: int) -> np.ndarray | None:
    """Eyes and lips of a template's frames, under their newer or older names; None where it has none."""
    eyes, lips = (content.get(f"c_{part}_lst", content.get(f"c_d_{part}_lst")) for part in ("eyes", "lip"))
    if eyes is None or lips is None:
        return None
    try:
        parts = [np.asarray(values, np.float64).reshape(frames, size) for values, size in ((eyes, 2), (lips, 1))]
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{path}: c_eyes_lst and c_lip_lst are not 2 and 1 numbers a frame; {_REMEDY}") from None
    return _single(np.concatenate(parts, 1))


def checked_motion(path: str | Path, motion: DrivingMotion) -> DrivingMotion:
    """Returns the motion of a file; InputError, which names the file, for numbers that are no motion."""
    pose, dynamics = motion.pose, motion.dynamics
    good = pose.ndim == dynamics.ndim == 2 and pose.shape[1] == POSE_DIM and dynamics.shape[1] > 0
    if not good or not 0 < len(pose) == len(dynamics) <= MOST_FRAMES:
        raise InputError(f"{path}: pose {pose.shape} and dynamics {dynamics.shape} are no motion; {_REMEDY}")
    if not 1 <= motion.fps <= 240:
        raise InputError(f"{path}: a frame rate of {motion.fps:g}; give a motion of 1 to 240 frames a second")
    if motion.codec not in CODECS:
        raise InputError(f"{path}: is of the codec '{motion.codec}'; known are {', '.join(CODECS)}")
    largest = np.abs(motion.vectors).max()
    if not largest < 1e4:  # nor NaN
        raise InputError(f"{path}: holds numbers that are no motion; {_REMEDY}")
    if np.abs(pose[:, 6]).max() > np.log(LARGEST_SCALE):
        raise InputError(f"{path}: has heads of more than {LARGEST_SCALE:g} times the usual size, or less; {_REMEDY}")
    if motion.openness is not None:
        inside = motion.openness.shape == (len(pose), 3) and (motion.openness >= 0).all()
        if not (inside and motion.openness.max() < LARGEST_OPENNESS):
            raise InputError(f"{path}: its eyes and lips are not open by 3 numbers a frame; {_REMEDY}")
    columns = pose[:, :6].reshape(-1, 2, 3)
    area = np.linalg.norm(np.cross(columns[:, 0], columns[:, 1]), axis=-1)
    if area.min() < 0.1:
        raise InputError(f"{path}: frame {int(area.argmin())} has no rotation; {_REMEDY}")
    return motion
