"""Real clips -> frames of one person in one crop: clips.py OUT MODELS FRAMES FILE... (training) ; read() gives arrays."""

import sys

import cv2
import numpy as np

import fit
from vasa_jax.data.face_regions import segmentation_of
from vasa_jax.data.labels import fit_pose, head_angles

SIDE = 256


def frames_of(path, wanted=400):
    video = cv2.VideoCapture(path)
    frames = []
    while len(frames) < wanted:
        ok, frame = video.read()
        if not ok:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


def square(image, points, unit, centre):
    """The picture's square (image coordinates +-1 = `unit` pixels around `centre`) and the points in it."""
    scale = SIDE / (2 * unit)
    if scale < 0.7:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        m = np.array([[1.0, 0, SIDE / 2 - 0.5 - (centre[0] * scale - 0.5)], [0, 1.0, SIDE / 2 - 0.5 - (centre[1] * scale - 0.5)]])
    else:
        m = np.array([[scale, 0, 0], [0, scale, 0]])
        m[:, 2] = SIDE / 2 - 0.5 - scale * (np.asarray(centre) - 0.5)
    picture = cv2.warpAffine(image, m, (SIDE, SIDE), flags=cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    placed = np.concatenate([(points[:, :2] - centre) / unit, points[:, 2:] / unit], 1).astype(np.float32)
    return picture, placed


def cut(path, analyzer, count, yaw_limit=35.0):
    """(pictures, mattes, points) of `count` frames spread over a clip; None where faces are missing."""
    frames = frames_of(path)
    if len(frames) < 20:
        return None
    found, previous = [], None
    for i in np.linspace(0, len(frames) - 1, count * 2).round().astype(int):
        face = analyzer.landmarks(frames[i], previous)
        if face is None:
            continue
        previous = face
        found.append((i, face.points))
    if len(found) < count:
        return None
    rough = np.stack([fit_pose((p / 100.0)[None])[0] for _, p in found])
    angles = head_angles(rough)
    good = (np.abs(angles[:, 0]) < yaw_limit) & (np.abs(rough[:, 6] - np.median(rough[:, 6])) < 0.25)
    if good.sum() < count:
        return None
    chosen = [f for f, g in zip(found, good) if g][:: max(1, int(good.sum() // count))][:count]
    unit = np.exp(np.median(rough[good, 6])) * 100.0
    centre = np.median(rough[good, 7:9], 0) * 100.0
    if unit < 45:
        return None
    pictures, mattes, points = [], [], []
    for i, p in chosen:
        picture, placed = square(frames[i], p, unit, centre)
        pictures.append(picture), points.append(placed)
        mattes.append((analyzer.matte(picture) * 255).astype(np.uint8))
    return np.stack(pictures), np.stack(mattes), np.stack(points)


def arrays(pictures, mattes, points):
    """What training reads of one clip."""
    segmentation = np.stack([segmentation_of(m, p, SIDE) for m, p in zip(mattes, points)])
    alpha = np.clip((mattes.astype(np.float32) / 255 - 0.2) / 0.6, 0, 1)
    # Seen at least once without the person: real background; elsewhere from around.
    spread = np.stack([cv2.dilate(a, np.ones((9, 9))) for a in alpha])
    weight = (spread < 0.05).astype(np.float32)[..., None]
    seen = weight.sum(0)
    mean = (pictures * weight).sum(0) / np.maximum(seen, 1)
    known = seen[..., 0] > 0
    if known.any():
        _, labels = cv2.distanceTransformWithLabels((~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        table = np.zeros((labels.max() + 1, 3), np.float32)
        table[labels[known]] = mean[known]
        soft = cv2.GaussianBlur(table[labels], (0, 0), 5)
        background = np.where(known[..., None], mean, soft)
    else:
        background = np.full((SIDE, SIDE, 3), pictures.mean((0, 1, 2)))
    shown = alpha[..., None] * pictures + (1 - alpha[..., None]) * background
    u8 = lambda x: np.clip(x + 0.5, 0, 255).astype(np.uint8)
    import jax.numpy as jnp

    from puppet import LID, eye_zone
    for s, q in zip(segmentation, points):
        zone = np.asarray(eye_zone(jnp.asarray(q[[[33, 133], [263, 362]], :2]), SIDE))
        s[zone & (s == 1)] = LID
    return {"raw": pictures, "rgb": u8(shown), "background": u8(background), "segmentation": segmentation, "pose": fit_pose(points)}


def read(path):
    z = np.load(path)
    data, ends = z["data"], np.cumsum(z["sizes"].ravel())
    starts = np.concatenate([[0], ends[:-1]])
    images = [cv2.imdecode(data[a:b], cv2.IMREAD_UNCHANGED) for a, b in zip(starts, ends)]
    count = z["points"].shape[1]
    result = []
    for i, p in enumerate(z["points"].astype(np.float32)):
        part = images[2 * count * i : 2 * count * (i + 1)]
        result.append(arrays(np.stack([x[..., ::-1] for x in part[::2]]), np.stack([cv2.resize(x, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for x in part[1::2]]), p))
    return {name: np.stack([r[name] for r in result]) for name in result[0]}


def pairs_of(paths, analyzer, rng):
    """Five framings of one person's two stills, as frames of a clip."""
    found = []
    for path in paths:
        picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
        face = analyzer.landmarks(picture)
        face = face and analyzer.landmarks(picture, face)
        if face is None:
            return None
        found.append((picture, face.points))
    pictures, mattes, points = [], [], []
    for k in range(5):
        picture, p = found[k % 2]
        rough = fit_pose((p / 100.0)[None])[0]
        unit = np.exp(rough[6]) * 100.0 * np.exp(rng.uniform(-0.1, 0.1))
        unit = min(unit, 0.5 * picture.shape[0])
        centre = rough[7:9] * 100.0 + rng.uniform(-0.05, 0.05, 2) * unit
        centre = np.clip(centre, unit - 1, picture.shape[0] - unit + 1)
        a, b = square(picture, p, unit, centre)
        pictures.append(a), points.append(b), mattes.append((analyzer.matte(a) * 255).astype(np.uint8))
    return np.stack(pictures), np.stack(mattes), np.stack(points)


if __name__ == "__main__":
    import csv

    from vasa_jax.data.face_litert import LitertAnalyzer

    out, models, count, root, most = sys.argv[1:]
    analyzer, rng = LitertAnalyzer(models), np.random.default_rng(1)
    results, used = [], {}
    if int(count) > 5:
        for row in csv.DictReader(open(f"{root}/clips.tsv"), delimiter="\t"):
            if (row["rights_class"], row["split"]) != ("clear", "train") or used.get(row["person"], 0) >= int(most):
                continue
            r = cut(f"{root}/clips/{row['file']}", analyzer, int(count))
            if r is not None:
                results.append(r)
                used[row["person"]] = used.get(row["person"], 0) + 1
        print(used)
    else:
        people = {}
        for row in csv.DictReader(open(f"{root}/stills.tsv"), delimiter="\t"):
            if (row["rights_class"], row["split"]) == ("clear", "train") and row["file"].startswith("london"):
                people.setdefault(row["person"], []).append(f"{root}/stills/{row['file']}")
        for person, paths in people.items():
            r = pairs_of(paths, analyzer, rng) if len(paths) == 2 else None
            if r is not None:
                results.append(r)
    blobs, points = [], []
    for result in results:
        for picture, matte in zip(*result[:2]):
            blobs.append(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 91])[1].tobytes())
            blobs.append(cv2.imencode(".jpg", cv2.resize(matte, (128, 128), interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes())
        points.append(result[2].astype(np.float16))
    np.savez(out, data=np.frombuffer(b"".join(blobs), np.uint8), sizes=np.array([len(b) for b in blobs]), points=np.stack(points))
    print(len(points), "clips", sum(map(len, blobs)) / 2**20, "MiB")
