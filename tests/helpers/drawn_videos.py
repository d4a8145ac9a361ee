"""Drawn videos for preparation, and an analyzer that is told what is where."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_faces import picture
from landmark_faces import face_points, rotation, talk

from vasa_jax.config import PrepareConfig, VASAConfig
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.shards import ShardReader, read_manifest
from vasa_jax.data.video_files import write_video
from vasa_jax.preparation.face_backends.base import DetectedFace, FaceLandmarks

SIDE = 192


SETTINGS = PrepareConfig(analyzer="haar", size=64, min_seconds=1.0, max_seconds=4.0, min_face=40, workers=1)


class DrawnAnalyzer:
    """Told what is where: faces(frame), angles(frame), mouth[frame]. It knows the frame by counting its calls."""

    name, landmark_set, framing = "drawn", "drawn_478", (0.5, 0.48)

    def __init__(self, mouth, faces=None, angles=None):
        self.mouth, self.faces = mouth, faces or (lambda i: [(SIDE / 2, SIDE / 2, 80.0)])
        self.angles = angles or (lambda i: (0, 0, 0))
        self.looks = self.frames = 0

    def detect(self, image):
        self.looks += 1
        faces = self.faces((self.looks - 1) * SETTINGS.detect_every)
        return [DetectedFace(x - s / 2, y - s / 2, s, s, 1.0) for x, y, s in faces]

    def landmarks(self, image, previous=None):
        index, self.frames = self.frames, self.frames + 1
        points = face_points(rotation(*self.angles(index)))
        points[17] = points[0] + [0, 0.1 + 0.2 * self.mouth[min(index, len(self.mouth) - 1)], 0]
        points = points * (len(image) / 2)
        points[:, :2] += len(image) / 2
        return FaceLandmarks(points, 1.0)

    def matte(self, image):
        return None


def textured(count: int, blur: float = 0.0, repeat: int = 1):
    """Pictures of which each is shown `repeat` times."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(60, 200, (SIDE // 4, SIDE // 4, 3)).astype(np.uint8), (SIDE, SIDE))
    for i in range(count):
        frame = ground + np.uint8(4 * (i // repeat % 2))  # or every picture would be the same
        yield cv2.GaussianBlur(frame, (0, 0), blur) if blur else frame


def video(path: Path, seconds: float, sound: np.ndarray | None, **drawing) -> Path:
    audio = None if sound is None else Audio.from_samples(sound.astype(np.float32))
    write_video(path, textured(int(seconds * 25), **drawing), audio)
    return path


def reasons(result) -> list[tuple[str, float, float]]:
    return [(d.reason, d.start, d.stop) for d in result.discards]


def speaking_face(path: Path, seconds: float, seed: int, x: float = 96.0) -> None:
    frames = (picture(SIDE, SIDE, (x + 3 * np.sin(i / 6), 92, 32)) for i in range(int(seconds * 25)))
    write_video(path, frames, Audio.from_samples(talk(seconds, seed)[1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    (root / "id00001" / "x").mkdir(parents=True)
    (root / "id00002").mkdir()
    speaking_face(root / "id00001" / "x" / "00001.mp4", 1.6, 0)
    speaking_face(root / "id00001" / "x" / "00002.mp4", 1.2, 1)
    speaking_face(root / "id00002" / "00001.mp4", 1.2, 2)
    whole = (root / "id00002" / "00001.mp4").read_bytes()
    (root / "broken.mp4").write_bytes(whole[:200])
    (root / "notes.txt").write_text("not a video")
    return root


def job(folder: Path, output: Path, **changes) -> VASAConfig:
    settings = dataclasses.replace(SETTINGS, **{"heldout": 0.5, "test": 0.0, "clips_per_shard": 2, **changes})
    return VASAConfig(job="prepare", videos=str(folder), output=str(output), prepare=settings)


def all_records(output: Path, name: str) -> dict[str, bytes]:
    manifest = read_manifest(output)
    records = {}
    for shard in manifest.shards:
        reader = ShardReader(manifest, shard, name)
        for i in range(len(reader)):
            record = reader[i]
            assert record.clip_id not in records
            records[record.clip_id] = record.to_bytes()
    return records
