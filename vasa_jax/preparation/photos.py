"""Job `fit_photos`: a folder of portrait photographs becomes photo heads (`corpus.photos`), and a list of refusals."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np

from vasa_jax.config import PhotosConfig, VASAConfig
from vasa_jax.conventions import head_angles
from vasa_jax.corpus.photos.build import Builder, PhotoHead
from vasa_jax.corpus.photos.framing import draw_framing, place
from vasa_jax.corpus.photos.store import HEADS_PER_FILE, PATTERN, write_heads
from vasa_jax.corpus.photos.topology import face_mesh
from vasa_jax.corpus.photos.vary import vary
from vasa_jax.data.image_files import read_image
from vasa_jax.errors import InputError
from vasa_jax.files import run_in_processes, write_text
from vasa_jax.preparation.face_backends.base import FaceAnalyzer
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.preparation.landmark_labels import EYES, fit_pose, lid_openings, mouth_opening

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SIDE = 1024  # pixels of the square that a photograph is brought to where it is larger
AROUND = 2.4  # side of that square over the face's
LEAST_FACE = 96  # pixels of the face's box in the photograph
SURE = 0.9  # score of the points
CLOSED, OPEN = 0.16, 0.40  # lids' opening over the eye's width, mouth's over the distance between the eyes
PITCH, PITCH_RANGE, ROLL_RANGE = 3.0, 14.0, 20.0  # degrees; a level head reads as looking down a little
GLARE, GLARING = 250, 0.08  # brightness of glasses' reflections; share of the eyes' surroundings
WHOLE_FACE, FULL = 0.93, 0.9  # least share of the points on the matte; largest share of the picture
OTHER_FACE = 0.5  # size of a second face over the largest


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why a photograph makes no photo head."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Portrait:
    """The square around a person: image uint8 (n, n, 3), matte uint8 (n, n), points (478, 3) in its pixels."""

    image: np.ndarray
    matte: np.ndarray
    points: np.ndarray

    @property
    def pose(self) -> np.ndarray:
        """(9,): scale in pixels per canonical unit, centre in pixels."""
        unit = 100.0  # the fit expects coordinates of order one
        pose = fit_pose((self.points / unit)[None])[0].astype(np.float64)
        return np.concatenate([pose[:6], [pose[6] + np.log(unit)], pose[7:9] * unit])


def fit_photos(config: VASAConfig, workdir: Path) -> Path:
    """Runs the job and returns the path of its report; InputError for settings and folders that cannot work."""
    settings = config.photos
    if not settings.folder:
        raise InputError("config.photos.folder: is empty; give a folder of portrait photographs")
    folder, output = Path(settings.folder), Path(config.output or workdir)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of portrait photographs")
    photographs = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not photographs:
        raise InputError(f"{folder}: holds no photographs; give a folder of {', '.join(SUFFIXES)}")
    if any(output.glob(PATTERN)):
        raise InputError(f"{output}: holds photo heads already; delete them, or choose another config.output")
    _start(settings)  # what is missing is found here, not once per photograph
    jobs = [(i, path, config.seed) for i, path in enumerate(photographs)]
    made: dict[int, list[PhotoHead] | Refusal] = {}
    waiting: list[tuple[PhotoHead, str]] = []
    written = 0

    def write(least: int) -> int:
        nonlocal written
        while len(waiting) >= least and waiting:
            part = waiting[:HEADS_PER_FILE]
            del waiting[:HEADS_PER_FILE]
            write_heads(output, written, *zip(*part))
            written += 1
        return written

    lost = lambda job: Refusal("its process was killed, twice")  # noqa: E731
    for index, result in run_in_processes(_heads_of, jobs, settings.workers, _start, (settings,), lost):
        made[index] = result if isinstance(result, Refusal) else [None] * len(result)
        if not isinstance(result, Refusal):
            name = photographs[index].relative_to(folder).as_posix()
            waiting += [(head, name) for head in result]
        write(HEADS_PER_FILE)
    write(1)
    return _report(output, folder, photographs, made)


def portrait_of(image: np.ndarray, analyzer: FaceAnalyzer) -> Portrait | Refusal:
    """Cuts out the square around the one large face of uint8 RGB (H, W, 3), with points and matte; or says why not."""
    import cv2

    faces = analyzer.detect(image)
    if not faces:
        return Refusal("no face")
    if len(faces) > 1 and faces[1].size > OTHER_FACE * faces[0].size:
        return Refusal("several faces")
    if faces[0].size < LEAST_FACE:
        return Refusal(f"face under {LEAST_FACE} pixels")
    height, width = image.shape[:2]
    side = int(min(height, width, max(AROUND * faces[0].size, 256)))
    x, y = faces[0].centre
    left = int(np.clip(x - side / 2, 0, width - side))
    top = int(np.clip(y - side * 0.53, 0, height - side))
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    if side > SIDE:
        square = cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    found = analyzer.landmarks(square)
    found = found and analyzer.landmarks(square, found)  # the second reading is centred better
    if found is None or found.score < SURE:
        return Refusal("face not sure")
    matte = analyzer.matte(square)
    if matte is None:
        raise InputError(f"config.photos.analyzer: {analyzer.name} gives no matte; choose litert")
    return Portrait(square, (matte * 255.0 + 0.5).astype(np.uint8), found.points)


def refusal(portrait: Portrait, settings: PhotosConfig) -> Refusal | None:
    """Says why a portrait makes no photo head; None where it does."""
    import cv2

    points, pose, side = portrait.points, portrait.pose, portrait.image.shape[0]
    yaw, pitch, roll = head_angles(pose[None])[0]
    if abs(yaw) > settings.max_yaw or abs(pitch - PITCH) > PITCH_RANGE or abs(roll) > ROLL_RANGE:
        return Refusal(f"turned: yaw {yaw:.0f}, pitch {pitch:.0f}, roll {roll:.0f} degrees")
    if lid_openings(points[None], pose[None])[0].min() < CLOSED:
        return Refusal("eyes closed")
    if mouth_opening(points[None])[0] > OPEN:
        return Refusal("mouth open")
    low, high = points[:468, :2].min(0), points[:468, :2].max(0)
    face = _cut(portrait.image, low, high)
    grey = cv2.resize(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), (128, 128), interpolation=cv2.INTER_AREA).astype(float)
    if cv2.Laplacian(grey, cv2.CV_64F).var() < settings.min_sharpness * max(grey.var(), 1.0):
        return Refusal("blurred")
    glare = [_cut(portrait.image, *_about_eye(points, eye)).min(-1) >= GLARE for eye in EYES]
    if max(share.mean() for share in glare) > GLARING:
        return Refusal("glare on the eyes or glasses")
    at = np.clip(points[:468, :2], 0, side - 1).astype(int)
    if (portrait.matte[at[:, 1], at[:, 0]] > 128).mean() < WHOLE_FACE:
        return Refusal("face not told from the background")
    if (portrait.matte > 128).mean() > FULL:
        return Refusal("no background")
    return None


def heads_of(
    portrait: Portrait, builder: Builder, relatives: int, rng: np.random.Generator
) -> list[PhotoHead] | Refusal:
    """Builds the photo head of a portrait, and those of its relatives (`corpus.photos.vary`)."""
    heads = []
    for copy in range(1 + relatives):
        image, matte, points = portrait.image, portrait.matte, portrait.points
        if copy:
            image, matte, points = vary(image, matte, points, rng)
        pose = Portrait(image, matte, points).pose
        framing = draw_framing(pose, *image.shape[:2], rng)
        if framing is not None:
            heads.append(builder(place(image, matte, points, pose, *framing), rng))
        elif not copy:
            return Refusal("no room around the head")
    return heads


def _cut(image, low, high):
    (x0, y0), (x1, y1) = np.maximum(np.floor(low), 0).astype(int), np.ceil(high).astype(int) + 1
    return image[y0:y1, x0:x1]


def _about_eye(points, corners):
    """Corners of the box that glasses would cover before an eye."""
    a, b = points[list(corners), :2]
    reach = np.linalg.norm(b - a) * np.array([0.8, 0.6])
    return (a + b) / 2 - reach, (a + b) / 2 + reach


_tools: tuple[FaceAnalyzer, Builder, PhotosConfig] | None = None  # of this process


def _start(settings: PhotosConfig) -> None:
    import cv2

    global _tools
    cv2.setNumThreads(1)
    analyzer = open_analyzer(settings.analyzer, settings.models)
    _tools = analyzer, Builder(face_mesh(settings.models)), settings


def _heads_of(job: tuple[int, Path, int]) -> list[PhotoHead] | Refusal:
    index, path, seed = job
    analyzer, builder, settings = _tools
    try:
        portrait = portrait_of(read_image(path), analyzer)
    except InputError as error:
        return Refusal(str(error).removeprefix(f"{path}: "))
    if isinstance(portrait, Refusal):
        return portrait
    return refusal(portrait, settings) or heads_of(
        portrait, builder, settings.relatives, np.random.default_rng((seed, index))
    )


def _report(output: Path, folder: Path, photographs: list[Path], made: dict[int, list | Refusal]) -> Path:
    """Writes report.md; InputError when not one photograph was taken."""
    refused = {i: m.reason for i, m in made.items() if isinstance(m, Refusal)}
    counts = Counter(reason.partition(":")[0] for reason in refused.values())
    heads = sum(len(m) for m in made.values() if not isinstance(m, Refusal))
    lines = [
        "# Photo heads", "",
        f"{len(photographs)} photographs, {len(photographs) - len(refused)} taken, {heads} heads.", "",
        "| refused because | photographs |", "|---|---|",
        *(f"| {reason} | {count} |" for reason, count in counts.most_common()), "",
        *(f"* {photographs[i].relative_to(folder).as_posix()}: {refused[i]}" for i in sorted(refused)),
    ]  # fmt: skip
    path = output / "report.md"
    write_text(path, "\n".join(lines) + "\n")
    if not heads:
        raise InputError(f"{folder}: no photograph can be used; {path} tells why")
    print(f"{path}: {heads} heads of {len(photographs) - len(refused)} photographs, {len(refused)} refused")
    return path
