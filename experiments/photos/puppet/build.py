"""Builds all puppets of a pack in processes of their own (no JAX here): build.py PACK CONNECTIONS OUTDIR WORKERS [LIMIT]."""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

import fit
import pack
import topology

_builder = None


def build(job):
    """One file of a few puppets."""
    global _builder
    connections, path, stills = job
    cv2.setNumThreads(1)
    if _builder is None:
        _builder = fit.Builder(topology.mesh(connections))
    result = []
    for picture, points, matte, grey, vary, seed in stills:
        rng = np.random.default_rng(seed)
        if vary:
            picture, points, matte = fit.varied(picture, points, matte, rng)
        fitted = fit.fit(picture, points, matte, rng)
        if fitted is None:
            continue
        built = _builder(fitted, rng)
        middle = round(fit.CANVAS / fit.REACH)
        first = (fit.CANVAS - middle) // 2
        inner = fitted["texture"][first:first + middle, first:first + middle]
        built["photo"] = cv2.resize(inner, (256, 256), interpolation=cv2.INTER_AREA)
        built["grey"] = np.float32(grey)
        result.append(built)
    if result:
        np.savez(path, **{name: np.stack([b[name] for b in result]) for name in result[0]})
    return len(result)


if __name__ == "__main__":
    path, connections, out, workers, *limit = sys.argv[1:]
    cv2.setNumThreads(1)  # a child that is forked from a process with OpenCV's threads waits for them for ever
    begin = time.time()
    stills = []
    for i, (picture, points, matte, grey) in enumerate(pack.read(path)):
        mirror = i % 2
        stills.append((picture, points, matte, grey, bool(mirror), 2 * i))
        if not mirror and not grey:
            stills.append((picture, points, matte, grey, True, 2 * i + 1))
    if limit:
        stills = stills[: int(limit[0])]
    Path(out).mkdir(parents=True, exist_ok=True)
    jobs = [(connections, f"{out}/{k:04d}.npz", stills[k::max(1, len(stills) // 16)]) for k in range(max(1, len(stills) // 16))]
    with ProcessPoolExecutor(int(workers), mp_context=multiprocessing.get_context("spawn")) as pool:
        count = sum(pool.map(build, jobs))
    Path(f"{out}/done").write_text(str(count))
    print(count, "puppets built of", len(stills), f"in {time.time() - begin:.0f} s", flush=True)
