"""Stills -> one file (the stills' own bytes, mattes, points also of the mirrored still): pack.py OUT MODELS STILLS.tsv FOLDER CLASS SPLIT."""

import csv
import sys

import cv2
import numpy as np

import fit
from vasa_jax.data.face_litert import LitertAnalyzer

SCALE = 32.0  # steps of a pixel in which points are stored


def usable(points, matte, side, score) -> str:
    placed = points.copy()
    placed = placed / side * 2 - np.array([1, 1, 0], np.float32)
    f = fit.figures({"points": placed, "pose": fit.fit_pose(placed[None])[0]})
    if score < 0.9:
        return "score"
    if abs(f["yaw"]) > 18 or abs(f["pitch"] - 3) > 14 or abs(f["roll"]) > 20:
        return "turned"
    if f["lids"] < 0.16:
        return "eyes closed"
    if f["mouth"] > 0.40:
        return "mouth open"
    p = np.clip(points[:468, :2] / side * len(matte), 0, len(matte) - 1).astype(int)
    if (matte[p[:, 1], p[:, 0]] > 128).mean() < 0.93:
        return "matte"
    if (matte > 128).mean() > 0.9:
        return "no background"
    return ""


def analyse(picture, analyzer):
    found = analyzer.landmarks(picture)
    found = found and analyzer.landmarks(picture, found)
    if found is None:
        return None
    matte = (analyzer.matte(picture) * 255).astype(np.uint8)
    return found.points, cv2.resize(matte, (160, 160), interpolation=cv2.INTER_AREA), found.score


def read(path):
    """(pictures RGB, points, matte, grey) of each still; the mirrored one is a still of its own with `mirror`."""
    z = np.load(path)
    ends = np.cumsum(z["sizes"].ravel())
    data, points, grey = z["data"], z["points"].astype(np.float32) / SCALE, z["grey"]
    for i in range(len(grey)):
        parts = [data[(ends[3 * i + j - 1] if 3 * i + j else 0):ends[3 * i + j]] for j in range(3)]
        picture = np.ascontiguousarray(cv2.imdecode(parts[0], cv2.IMREAD_COLOR)[..., ::-1])
        mattes = [cv2.imdecode(p, cv2.IMREAD_GRAYSCALE) for p in parts[1:]]
        yield picture, points[i, 0], mattes[0], bool(grey[i])
        yield np.ascontiguousarray(picture[:, ::-1]), points[i, 1], mattes[1], bool(grey[i])


if __name__ == "__main__":
    out, models, table, folder, kind, split = sys.argv[1:]
    cv2.setNumThreads(1)
    analyzer = LitertAnalyzer(models)
    rows, why, names = [], {}, []
    for row in csv.DictReader(open(table), delimiter="\t"):
        if row["rights_class"] != kind or row["split"] != split:
            continue
        if float(row["padded"]) > 0.01:
            why["padded"] = why.get("padded", 0) + 1
            continue
        raw = open(f"{folder}/{row['file']}", "rb").read()
        picture = np.ascontiguousarray(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
        both = [analyse(x, analyzer) for x in (picture, np.ascontiguousarray(picture[:, ::-1]))]
        if None in both:
            why["no face"] = why.get("no face", 0) + 1
            continue
        reason = usable(*both[0][:2], picture.shape[0], both[0][2])
        if not reason:
            f = fit.framing(both[0][0], *picture.shape[:2], np.random.default_rng(0))
            reason = "" if f else "tight"
        why[reason] = why.get(reason, 0) + 1
        if reason:
            continue
        mattes = [cv2.imencode(".jpg", b[1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes() for b in both]
        x = picture.astype(int)
        rows.append(((raw, *mattes), np.stack([b[0] for b in both]), np.abs(x[..., 0] - x[..., 2]).mean() < 6))
        names.append(row["file"])
    blobs = [b for row in rows for b in row[0]]
    np.savez(out, data=np.frombuffer(b"".join(blobs), np.uint8), sizes=np.array([len(b) for b in blobs]).reshape(-1, 3),
             points=np.stack([np.clip(r[1] * SCALE, -32768, 32767).round().astype(np.int16) for r in rows]), grey=np.array([r[2] for r in rows]), names=np.array(names))
    print(len(rows), "stills", sum(map(len, blobs)) / 2**20, "MiB", why, "grey", sum(r[2] for r in rows))
