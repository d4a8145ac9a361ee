"""The one record of a talking-head clip: what data preparation and the built-in corpus write and training reads.

A record is a `tf.train.Example` with the features below; T frames, N landmarks.

| feature | list | meaning |
|---|---|---|
| schema_version | int64 | SCHEMA_VERSION of the writer |
| clip_id, person_id, split, source | bytes, UTF-8 | where the clip is from; split is one of SPLITS |
| fps | float | frames per second |
| frames | T bytes | JPEG images, square, all of one size |
| audio | 1 bytes | little-endian int16, mono, 16 kHz; frame i covers samples [16000 i / fps, 16000 (i + 1) / fps) |
| pose | 9 T floats | first two columns of R, log s, tx, ty |
| gaze, lids, mouth | 2 T, 2 T, T floats | degrees; opening over the neutral opening; inner lips over eye distance |
| landmarks, landmark_set | 3 N T floats, bytes | x, y in [-1, 1] image coordinates, z; the name of the set of points |
| matte | T bytes | 8-bit gray PNG: share of a pixel that the person covers |
| main_gaze, distance, emotion | 2, 1, 8 floats | the clip's controls g (degrees), d and e (anger ... surprise) |
| valid/FIELD | int64 | 0 where the clip has no such label; the feature FIELD is then left out |
"""

import dataclasses
import io
import math

import numpy as np

from vasa_jax.conventions import EMOTIONS, POSE_DIM, SAMPLE_RATE
from vasa_jax.data.bare_pictures import Bare, bare_jpeg, bare_png
from vasa_jax.data.picture_tags import upright
from vasa_jax.data.tf_example import Kind, checked_feature, decode_example, encode_example
from vasa_jax.errors import InputError

SCHEMA_VERSION = 1
SPLITS = ("train", "heldout", "test")  # heldout: to watch training by; test: looked at once, in the end
LONGEST_NAME = 1000  # characters of a clip's or person's name
LONGEST_CLIP = 10**6  # frames
LARGEST_SIDE = 2048  # pixels of a frame or matte; no size that can be prepared is larger
FRAME_RATES = (1.0, 1000.0)  # per second
# Labels that a clip may lack, and their shape; T frames, N points.
LABELS: dict[str, tuple[int | str, ...]] = {
    "pose": ("T", POSE_DIM),
    "gaze": ("T", 2),
    "lids": ("T", 2),
    "mouth": ("T",),
    "landmarks": ("T", "N", 3),
    "main_gaze": (2,),
    "distance": (),
    "emotion": (len(EMOTIONS),),
}
OPTIONAL = ("audio", "matte", *LABELS)
_TEXTS = ("clip_id", "person_id", "split", "source", "landmark_set")
_ONE_TEXT, _ONE_NUMBER, _ONE_FLOAT = Kind(count=1), Kind(np.int64, 1), Kind(np.float32, 1)
_KINDS = {
    "schema_version": _ONE_NUMBER,
    "fps": _ONE_FLOAT,
    "frames": Kind(),
    **dict.fromkeys(_TEXTS, _ONE_TEXT),
    **{f"valid/{name}": _ONE_NUMBER for name in OPTIONAL},
    "audio": _ONE_TEXT,
    "matte": Kind(),
    **dict.fromkeys(LABELS, Kind(np.float32)),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """One clip of T frames; None where it has no such label. Arrays are float32 but for the sound."""

    clip_id: str
    person_id: str
    split: str
    source: str  # where it comes from, in the words of whoever wrote it
    fps: float
    frames: tuple[bytes, ...]  # JPEG
    audio: np.ndarray | None = None  # int16 (samples,) at 16 kHz
    pose: np.ndarray | None = None  # (T, 9)
    gaze: np.ndarray | None = None  # (T, 2) degrees
    lids: np.ndarray | None = None  # (T, 2)
    mouth: np.ndarray | None = None  # (T,)
    landmarks: np.ndarray | None = None  # (T, N, 3)
    landmark_set: str = ""
    matte: tuple[bytes, ...] | None = None  # PNG
    main_gaze: np.ndarray | None = None  # (2,) degrees
    distance: np.ndarray | np.float32 | None = None  # ()
    emotion: np.ndarray | None = None  # (8,)

    @property
    def valid(self) -> dict[str, bool]:
        """Says of each of OPTIONAL whether the clip has it."""
        return {name: getattr(self, name) is not None for name in OPTIONAL}

    def check(self) -> "Record":
        """Returns the record itself; InputError names the first field that breaks the schema."""
        count = len(self.frames)
        if not self.clip_id or not self.person_id:
            raise InputError(f"clip '{self.clip_id}': clip_id or person_id is empty; name every clip and person")
        for name in _TEXTS:
            if len(getattr(self, name)) > LONGEST_NAME:
                self._refuse(f"{name} is longer than {LONGEST_NAME} characters; choose a shorter one")
        if self.split not in SPLITS:
            self._refuse(f"split '{self.split}' is unknown; choose one of {', '.join(SPLITS)}")
        low, high = FRAME_RATES
        if not low <= self.fps <= high or not 0 < count <= LONGEST_CLIP:
            self._refuse(
                f"{count} frames at {self.fps:g} per second; a clip has frames, at most {LONGEST_CLIP}, and a positive "
                f"rate of {low:g} to {high:g}"
            )
        for name in ("frames", "matte"):
            images = getattr(self, name)
            if images is not None and (len(images) != count or not all(images)):
                self._refuse(f"{name} has {len(images)} pictures for {count} frames, or empty ones; encode all")
        if self.audio is not None:
            if self.audio.dtype != np.int16 or self.audio.ndim != 1:
                self._refuse(f"audio is {self.audio.dtype} {self.audio.shape}; give int16 (samples,)")
            if math.ceil(len(self.audio) * self.fps / SAMPLE_RATE - 1e-6) != count:
                self._refuse(f"{len(self.audio)} samples do not make {count} frames; cut sound and frames alike")
        points = None if self.landmarks is None else self.landmarks.shape[1:2]
        if points == (0,):
            self._refuse("landmarks has no points; leave the label out (None) where they are not known")
        for name, shape in LABELS.items():
            if getattr(self, name) is None:
                continue
            value = np.asarray(getattr(self, name))
            expected = tuple(count if n == "T" else points[0] if n == "N" else n for n in shape)
            if value.dtype != np.float32 or value.shape != expected:
                self._refuse(f"{name} is {value.dtype} {value.shape}; give float32 {expected}")
            if not np.isfinite(value).all():
                self._refuse(f"{name} is not finite; leave the label out (None) where it is not known")
        if (self.landmarks is None) != (not self.landmark_set):
            self._refuse("landmarks and landmark_set come together; name the set of points")
        return self

    def _refuse(self, fault: str) -> None:
        raise InputError(f"clip '{self.clip_id}': {fault}")

    def to_features(self) -> dict[str, list[bytes] | np.ndarray]:
        """Returns the features of the table above."""
        result: dict[str, list[bytes] | np.ndarray] = {
            "schema_version": np.array([SCHEMA_VERSION], np.int64),
            "fps": np.array([self.fps], np.float32),
            "frames": list(self.frames),
        }
        for name in _TEXTS:
            result[name] = [getattr(self, name).encode()]
        for name, valid in self.valid.items():
            result[f"valid/{name}"] = np.array([valid], np.int64)
            if not valid:
                continue
            value = getattr(self, name)
            if name == "audio":
                result[name] = [value.astype("<i2").tobytes()]
            else:
                result[name] = list(value) if name == "matte" else np.asarray(value)
        return result

    @classmethod
    def from_features(cls, features: dict[str, list[bytes] | np.ndarray]) -> "Record":
        """Makes the checked record of its features; InputError for another schema version or a missing feature."""

        def read(name: str) -> list[bytes] | np.ndarray:
            return checked_feature(features, name, _KINDS[name])

        try:
            version = read("schema_version")[0]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"schema_version {version}: this program reads version {SCHEMA_VERSION}; write the records anew"
                )
            texts = {name: read(name)[0].decode() for name in _TEXTS}
            present = [name for name in OPTIONAL if read(f"valid/{name}")[0]]
            values = {name: read(name) for name in present}
            frames, fps = tuple(read("frames")), float(read("fps")[0])
            if "audio" in values:
                values["audio"] = np.frombuffer(values["audio"][0], "<i2").astype(np.int16)
        except InputError:
            raise
        except ValueError as error:  # text that is not UTF-8, half a sample of sound
            raise InputError(f"record: {error}; write the records anew") from error
        if "matte" in values:
            values["matte"] = tuple(values["matte"])
        for name in present:
            if name in LABELS:
                shape = tuple(len(frames) if n == "T" else -1 if n == "N" else n for n in LABELS[name])
                try:
                    values[name] = np.asarray(values[name], np.float32).reshape(shape)
                except ValueError as error:
                    raise InputError(
                        f"clip '{texts['clip_id']}': {name} has a wrong length ({error}); write the records anew"
                    ) from error
        return cls(**texts, fps=fps, frames=frames, **values).check()

    def to_bytes(self) -> bytes:
        """Returns the serialised `tf.train.Example`, after `check`."""
        return encode_example(self.check().to_features())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Record":
        """Reads the checked record; InputError for bytes that hold none."""
        try:
            features = decode_example(data)
        except ValueError as error:
            raise InputError(f"record: {error}; write the records anew") from error
        return cls.from_features(features)


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encodes a uint8 (H, W, 3) RGB image as JPEG."""
    import cv2

    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes a JPEG to uint8 (n, n, 3) RGB, upright; InputError if it is damaged, cut short, oblong or too large."""
    return _decoded(bare_jpeg(data), "frame", "JPEG", "RGB")


def encode_matte(matte: np.ndarray) -> bytes:
    """Encodes a matte (H, W) in [0, 1] as 8-bit gray PNG."""
    import cv2

    return cv2.imencode(".png", (np.clip(matte, 0, 1) * 255 + 0.5).astype(np.uint8))[1].tobytes()


def decode_matte(data: bytes) -> np.ndarray:
    """Decodes the PNG of `encode_matte` to uint8 (n, n), 255 = the person; InputError as for `decode_jpeg`."""
    return _decoded(bare_png(data), "matte", "PNG", "L")


def _decoded(picture: Bare | None, what: str, form: str, mode: str) -> np.ndarray:
    """Decodes with Pillow, which refuses what is cut short: OpenCV prints a warning and fills it with grey.

    Whole at first, never by `Image.draft`: reduced while it is decoded, a picture differs by up to 24 of 255 levels
    from one that is reduced by area.
    """
    from PIL import Image

    if picture is None:
        raise InputError(f"a {what} is not a {form}, or is cut short; write the records anew")
    height, width = picture.size
    # A header of 100 bytes may ask a decoder for gigabytes.
    if height != width or not 0 < height <= LARGEST_SIDE:
        raise InputError(f"a {what} of {width} x {height} pixels; write squares of up to {LARGEST_SIDE} pixels")
    try:
        with Image.open(io.BytesIO(picture.data), formats=[form]) as image:
            image.load()
            if image.mode.startswith("I;16"):
                pixels = (np.asarray(image) >> 8).astype(np.uint8)
            else:
                pixels = np.asarray(image.convert(mode))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... on damage
        fault = " ".join(str(error).split())
        raise InputError(f"a {what} is damaged or cut short ({fault}); write the records anew") from error
    return np.array(upright(pixels, picture.orientation))  # Pillow's memory is read-only
