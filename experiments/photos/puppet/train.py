"""The shipped codec goes on from photo puppets, rendered heads, clips and pairs of stills.

train.py OUT BUILT CONNECTIONS FACE.safetensors GRID.npz LONDON.npz [--tiny]
control.json in OUT: {"end": epoch seconds, "decay": seconds, "rate": peak, "weights": {...}}
"""

import argparse
import functools
import glob
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.config import CorpusConfig, FaceConfig, TrainConfig
from vasa_jax.data.augmentation import apply_colour_transform, sample_colour_transform
from vasa_jax.losses.latents import disagreement, motion_contrast, pose_loss
from vasa_jax.losses.pictures import gradient_loss, matte_loss, square_error, structure_loss, weighted_l1
from vasa_jax.losses.latents import code_size
from vasa_jax.models.face import face_codec
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.face_figures import psnr
from vasa_jax.training.face_pairs import composited, prepared, side_by_side, taken_apart
from vasa_jax.training.face_task import FaceTask
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.weights.safetensors_io import load_params, save_params

import bank as B
import clips as C
from puppet import LID, UNKNOWN

WEIGHTS = {"l1": 1.0, "square": 10.0, "structure": 1.0, "gradient": 1.0, "matte": 0.3, "pose": 1.0, "contrast": 0.02,
           "agreement": 0.05, "code": 1e-3, "anchor": 0.3, "flow": 0.05, "coarse": 0.02, "keep": 0.03, "region": 0.5,
           "eye_weight": 12.0, "mouth_weight": 12.0}
EYES, MOUTH = (2, 5, 6, LID), (3, 4, 7, 8)
KINDS = ("photo", "head", "grid", "london")


def dilated(x, n=3):
    return jax.lax.reduce_window(x, 0.0, jax.lax.max, (1, n, n), (1, 1, 1), "SAME")


class PhotoTask(FaceTask):
    """FaceTask on photo heads: exact places and visibility for the portrait's pixels, anchored dynamics."""

    def __init__(self, face, corpus, batch, precision, seed, variant):
        super().__init__(face, corpus, batch, precision, seed)
        self._variant = variant
        from vasa_jax.training.precision import compute_dtype
        self._encoder, self._decoder = face_codec(variant, compute_dtype(precision))

    def loss(self, params, batch, key, *, weights, frozen):
        face = self._face
        params, pairs = fold_standardisation(params), prepared(batch)
        keys = jax.random.split(key, 3)
        count, sources = pairs["driver"].shape[0], pairs["source"].shape[0]
        drivers = count // sources
        per = lambda x: jnp.repeat(x, drivers, 0)
        joined = lambda *parts: side_by_side(parts, sources)
        shared = sample_colour_transform(keys[0], sources, face.jitter)
        source, background = (apply_colour_transform(pairs[n], shared) for n in ("source", "background"))
        target = apply_colour_transform(pairs["target"], jax.tree.map(per, shared))
        driver = apply_colour_transform(pairs["driver"], sample_colour_transform(keys[1], count, 1.0))
        motion = self._motion(params, joined(source, driver, target), jax.random.fold_in(key, 4))
        (source_pose, pose, target_pose), (source_dynamics, dynamics, target_dynamics) = (
            taken_apart(latent, (1, drivers, drivers), sources) for latent in motion)
        spread = jax.lax.stop_gradient(dynamics.std(0, keepdims=True))
        noisy = dynamics + face.dynamics_noise * spread * jax.random.normal(keys[2], dynamics.shape)

        def held(pose):
            still = jax.lax.stop_gradient(pose)
            return still + face.pose_from_picture * (pose - still)

        shown_pose = jnp.where(pairs["same_pose"][:, None], held(pose), held(target_pose))
        seen = self._encoder.apply({"params": params["encoder"]}, source, held(source_pose), source_dynamics, method="encode_appearance")
        decoded, extra = self._decoder.apply({"params": params["decoder"]}, *seen, shown_pose, noisy, mutable="intermediates")
        matte = decoded.matte.astype(jnp.float32)
        picture = composited(decoded.rgb, matte, per(background), None)
        inner = extra["intermediates"]["image_net"]
        segmentation = pairs["segmentation"]
        unknown = dilated((segmentation == UNKNOWN).astype(jnp.float32)) > 0
        segmentation = jnp.where(segmentation == UNKNOWN, 1, segmentation)
        target = jnp.where(unknown[..., None], jax.lax.stop_gradient(picture), target)
        eye = dilated(jnp.isin(segmentation, jnp.array(EYES)).astype(jnp.float32))
        mouth = dilated(jnp.isin(segmentation, jnp.array(MOUTH)).astype(jnp.float32), 5)
        weight = jnp.maximum(1.0, jnp.maximum(eye * weights["eye_weight"], mouth * weights["mouth_weight"]))
        foreground = (segmentation > 0).astype(jnp.float32)
        error = jnp.abs(picture - target).mean(-1)
        region = sum(((error * m).sum((1, 2)) / jnp.maximum(m.sum((1, 2)), 60.0)).mean() for m in (eye, mouth))
        terms = {
            "l1": weighted_l1(picture, target, weight),
            "square": square_error(picture, target),
            "structure": structure_loss(picture, target),
            "gradient": gradient_loss(picture, target, weight),
            "matte": matte_loss(matte[..., 0], foreground),
            "pose": pose_loss(joined(source_pose, pose, target_pose), joined(pairs["source_pose"], pairs["driver_pose"], pairs["target_pose"])),
            "contrast": motion_contrast(dynamics, target_dynamics),
            "agreement": disagreement(dynamics, target_dynamics),
            "code": code_size(dynamics),
            "region": region,
        }
        # The code of a face is what the shipped encoder read from rendered heads of that face.
        known = jnp.concatenate([pairs["source_known"], pairs["driver_known"], pairs["driver_known"]]).astype(jnp.float32)
        truth = jnp.concatenate([pairs["source_code"], pairs["driver_code"], pairs["driver_code"]])
        z = jnp.concatenate([source_dynamics, dynamics, target_dynamics])
        off = jnp.square((z - truth) / frozen["spread"]).mean(-1)
        terms["anchor"] = (off * known).sum() / jnp.maximum(known.sum(), 1.0)
        # Places, in pixels of the picture.
        label, place = pairs["label"], pairs["place"].astype(jnp.float32)
        n = label.shape[1]
        importance = jax.lax.reduce_window(weight, 0.0, jax.lax.max, (1, 2, 2), (1, 2, 2), "SAME")
        there = (label == 1).astype(jnp.float32)
        half_side = pairs["target"].shape[1] / 2
        distance = lambda a, b: jnp.sqrt(jnp.square((a - b) * half_side).sum(-1) + 0.25) - 0.5
        off = distance(inner["at_places"][0], place)
        off = jnp.minimum(off, 0.1 * off + 9.0)
        terms["flow"] = (off * there * importance).sum() / jnp.maximum((there * importance).sum(), 1.0)
        moved = inner["at_coarse"][0]
        cell = n // moved.shape[1]
        mean = lambda x: x.reshape(x.shape[0], moved.shape[1], cell, moved.shape[1], cell, -1).mean((2, 4))
        share = mean(there)[..., 0]
        rough = mean(place * there[..., None]) / jnp.maximum(share, 1e-3)[..., None]
        full = (share > 0.7).astype(jnp.float32)
        off = distance(moved, rough)
        terms["coarse"] = (jnp.minimum(off, 0.1 * off + 9.0) * full).sum() / jnp.maximum(full.sum(), 1.0)
        keep = inner["at_keep"][0][..., 0]
        fine = jnp.repeat(jnp.repeat(label, 2, 1), 2, 2)
        entropy = jnp.where(fine == 1, jax.nn.softplus(-keep), jnp.where(fine == 2, jax.nn.softplus(keep), 0.0))
        terms["keep"] = (entropy * weight).sum() / jnp.maximum(((fine > 0) * weight).sum(), 1.0)
        total = sum(weights[n] * terms[n] for n in terms)
        value = psnr(picture, target)
        figures = {"psnr": value.mean()}
        for i, name in enumerate(KINDS):
            on = (pairs["kind"] == i).astype(jnp.float32)
            figures[f"psnr_{name}"] = (value * on).sum() / jnp.maximum(on.sum(), 1.0)
        return total, {**terms, **figures}


def flat(tree):
    return {k: np.asarray(v, np.float32) for k, v in traverse_util.flatten_dict(tree, sep=".").items()}


def main():
    a = argparse.ArgumentParser()
    for name in ("out", "built", "connections", "face", "grid", "london"):
        a.add_argument(name)
    a.add_argument("--tiny", action="store_true")
    a.add_argument("--groups", type=int, default=288)
    a.add_argument("--alone", type=int, default=96)
    a.add_argument("--batch", type=int, default=64)
    a.add_argument("--rate", type=float, default=5e-4)
    a.add_argument("--warmup", type=int, default=300)
    a.add_argument("--end", type=float, default=0.0)
    a.add_argument("--decay", type=float, default=300.0)
    a.add_argument("--seed", type=int, default=0)
    a.add_argument("--style", type=float, default=0.3)
    a = a.parse_args()
    begin = time.time()
    out = Path(a.out)
    out.mkdir(parents=True, exist_ok=True)

    def say(*words):
        print(f"{time.time() - begin:.0f} s:", *words, flush=True)

    shape = B.Shape(size=64, faces=5) if a.tiny else B.Shape()
    size = shape.size
    bank = B.Bank(a.connections, shape)
    variant = {k: dict(v) for k, v in FACE_VARIANTS["face_tiny" if a.tiny else "face_demo"].items()}
    variant["decoder"]["cubic"] = True
    if a.tiny:
        variant["encoder"]["portrait_pixels"] = variant["decoder"]["portrait_pixels"] = True
        variant["decoder"]["pixel_blocks"] = 1
        from vasa_jax.models.face import init_face
        save_params(out / "start.safetensors", init_face(jax.random.key(0), variant), {})
        a.face = str(out / "start.safetensors")
    face = FaceConfig(recipe="counterfactual", pose_from_picture=0.3)
    drivers = 4
    counts = (1, 1, 4) if a.batch == 64 else (1, 1, 1)
    task = PhotoTask(face, CorpusConfig(), a.batch, "auto", 0, variant)
    task.init = lambda key: jax.tree.map(jnp.zeros_like, jax.tree.map(jnp.asarray, load_params(a.face)[0]))
    settings = TrainConfig(steps=10**6, batch_size=a.batch, learning_rate=a.rate, initial=a.face)
    trainer = VASATrainer(task, settings, out, 0)
    teacher_encoder, _ = face_codec(variant)
    teacher = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), fold_standardisation(load_params(a.face)[0]))["encoder"]

    def codes(params, rgb):
        """rgb (I, M, n, n, 3) of rendered heads -> (faces, Z) means and (faces * I * poses, Z)."""
        images = rgb.reshape(-1, *rgb.shape[2:]).astype(jnp.float32) / 255.0
        z = teacher_encoder.apply({"params": params}, images, method="encode_motion")[1]
        z = z.reshape(rgb.shape[0], shape.faces, shape.poses, -1)
        return z.mean((0, 2)), z.reshape(-1, z.shape[-1])

    key = jax.random.key(a.seed)
    # What every program takes, as shapes, so that all compile at once while the puppets are built.
    from fit import CANVAS, EYE_PATCH, IRIS_PATCH, MOUTH_PATCH
    import topology as T
    mesh = T.mesh(a.connections)
    spec = jax.ShapeDtypeStruct

    def programs(puppet_shapes, clip_shapes):
        abstract = {}
        motions = jax.jit(bank.motions)
        m = jax.eval_shape(bank.motions, key, True)
        heads = jax.jit(bank.heads)
        h, pose = jax.eval_shape(bank.heads, key, m)
        photos = jax.jit(bank.photos)
        p = jax.eval_shape(bank.photos, puppet_shapes, spec((shape.photos,), jnp.int32), m, pose)
        styled = jax.jit(bank.styled)
        people = shape.photos + shape.heads
        st = jax.eval_shape(bank.styled, key, spec((people, shape.motions + 2, size, size, 3), jnp.uint8), spec((people,), bool))
        c = jax.jit(codes)
        z = jax.eval_shape(codes, teacher, h["rgb"])
        assert shape.alone * shape.heads == people
        keep_style = lambda k, x, on: x
        g = jax.eval_shape(functools.partial(bank.mixed, styled=keep_style), p, h, z[0], key, 0.1)
        al = jax.eval_shape(functools.partial(bank.alone, styled=keep_style), [h] * shape.alone, key, 0.1)
        rows = {n: spec((a.groups, *v.shape), v.dtype) for n, v in g.items()}
        alone = {n: spec((a.alone, *v.shape), v.dtype) for n, v in al.items()}
        drawing = functools.partial(B.draw, batch=a.batch, drivers=drivers, shape=shape, counts=counts)
        batch = jax.eval_shape(drawing, rows, alone, *clip_shapes, key)
        state = trainer.abstract_state()
        from jax.sharding import SingleDeviceSharding
        place = lambda x: spec(x.shape, x.dtype, sharding=SingleDeviceSharding(jax.devices()[0]))
        batch = jax.tree.map(place, batch)
        weights = {n: np.float32(v) for n, v in WEIGHTS.items()}
        frozen = {"spread": spec((z[0].shape[-1],), jnp.float32, sharding=SingleDeviceSharding(jax.devices()[0]))}
        rates = {n: np.float32(0) for n in ("player", "opponent", "frozen")}

        def timed(name, make):
            def work():
                t = time.time()
                result = make()
                say(f"{name} compiled in {time.time() - t:.0f} s")
                return result
            return work

        jobs = {
            "update": lambda: trainer.compiled(state, batch, rates, {"weights": weights, "frozen": frozen})[0],
            "heads": lambda: heads.lower(key, m).compile(),
            "photos": lambda: photos.lower(puppet_shapes, spec((shape.photos,), jnp.int32), m, pose).compile(),
            "styled": lambda: styled.lower(key, spec((people, shape.motions + 2, size, size, 3), jnp.uint8), spec((people,), bool)).compile(),
            "codes": lambda: c.lower(teacher, h["rgb"]).compile(),
            "draw": lambda: jax.jit(drawing).lower(rows, alone, *clip_shapes, key).compile(),
            "motions": lambda: motions.lower(key, spec((), bool)).compile(),
        }
        pool = ThreadPoolExecutor(len(jobs))
        return {n: pool.submit(timed(n, j)) for n, j in jobs.items()}, rows, alone

    z = C.read(a.grid), C.read(a.london)
    grid, london = ({n: v[: 4 if a.tiny else None] for n, v in x.items()} for x in z)
    if a.tiny:
        import cv2
        for x in (grid, london):
            for n in ("raw", "rgb", "background"):
                v = x[n].reshape(-1, 256, 256, 3)
                x[n] = np.stack([cv2.resize(q, (size, size), interpolation=cv2.INTER_AREA) for q in v]).reshape(*x[n].shape[:-3], size, size, 3)
            x["segmentation"] = x["segmentation"][..., 2::4, 2::4]
    grid, london = jax.tree.map(jnp.asarray, (grid, london))
    say(len(grid["rgb"]), len(london["rgb"]), "clips")
    while not os.path.exists(f"{a.built}/done"):
        if glob.glob(f"{a.built}/0000.npz"):
            break
        time.sleep(0.5)
    time.sleep(1.0)
    first = np.load(f"{a.built}/0000.npz")
    count = None
    shapes = {n: first[n].shape[1:] for n in first.files}
    # The number of puppets is an argument of the compiled program: reserve the most that there can be.
    reserve = a.groups and int(os.environ.get("PUPPETS", 1700))
    side = lambda n, s: (size, size, 3) if n in ("photo", "background") else s
    puppet_shapes = {n: spec((reserve, *side(n, s)), first[n].dtype) for n, s in shapes.items()}
    clip_shapes = jax.tree.map(lambda x: spec(x.shape, x.dtype), (grid, london))
    ready, rows_shape, alone_shape = programs(puppet_shapes, clip_shapes)
    while not os.path.exists(f"{a.built}/done"):
        time.sleep(0.5)
    parts = [np.load(f) for f in sorted(glob.glob(f"{a.built}/*.npz"))]
    puppets = {n: np.concatenate([p[n] for p in parts]) for n in first.files}
    if a.tiny:
        import cv2
        for n in ("photo", "background"):
            puppets[n] = np.stack([cv2.resize(q, (size, size), interpolation=cv2.INTER_AREA) for q in puppets[n]])
    count = len(puppets["pose"])
    assert count <= reserve, count
    grey = puppets["grey"] > 0.5
    chance = np.where(grey, 0.07 / max(grey.sum(), 1), 0.93 / max((~grey).sum(), 1))
    chance = chance / chance.sum()
    puppets = {n: jnp.asarray(np.concatenate([v, np.zeros((reserve - count, *v.shape[1:]), v.dtype)])) for n, v in puppets.items()}
    say(count, "puppets,", int(grey.sum()), "grey")
    rng = np.random.default_rng(a.seed)
    get = lambda n: ready[n].result()
    true, false = jnp.asarray(True), jnp.asarray(False)
    # The groups themselves are put together by small programs.
    put_rows = jax.jit(lambda rows, group, slot: B.write(rows, group, slot), donate_argnums=0)

    seen_codes = []

    def photo_group(number):
        k = jax.random.fold_in(jax.random.fold_in(key, 1), number)
        motion = get("motions")(jax.random.fold_in(k, 0), true)
        heads, pose = get("heads")(jax.random.fold_in(k, 1), motion)
        which = rng.choice(count, shape.photos, replace=False, p=chance).astype(np.int32)
        photos = get("photos")(puppets, jnp.asarray(which), motion, pose)
        z, every = get("codes")(teacher, heads["rgb"])
        if len(seen_codes) < 40:
            seen_codes.append(np.asarray(every))
        on = np.asarray(rng.uniform(size=shape.photos + shape.heads) < a.style * np.r_[np.full(shape.photos, 0.4), np.ones(shape.heads)])
        return mixed(photos, heads, z, jax.random.fold_in(k, 2), on)

    def compose(photos, heads, z, k, on):
        photo = jnp.concatenate([photos["photo"], heads["background"]])
        rgb = jnp.concatenate([photos["rgb"], heads["rgb"]])
        background = jnp.concatenate([photos["background"], heads["background"]])
        return jnp.concatenate([rgb, background[:, None], photo[:, None]], 1)

    compose_ = jax.jit(compose)

    def finish(every, photos, heads, z, on):
        join = lambda n: jnp.concatenate([photos[n], heads[n]])
        label = jnp.where(on[: shape.photos, None, None, None], 0, photos["label"]).astype(jnp.uint8)
        return {"rgb": every[:, :-2], "background": every[:, -2], "photo": every[: shape.photos, -1], "segmentation": join("segmentation"),
                "pose": join("pose"), "photo_pose": photos["photo_pose"], "place": photos["place"], "label": label, "code": z}

    finish_ = jax.jit(finish)

    def mixed(photos, heads, z, k, on):
        every = get("styled")(k, compose_(photos, heads, z, k, on), jnp.asarray(on))
        return finish_(every, photos, heads, z, jnp.asarray(on))

    def join_alone(parts):
        every = {n: jnp.concatenate([p[n] for p in parts]) for n in parts[0]}
        b = every["background"][:, None]
        return every, jnp.concatenate([every["rgb"], b, b], 1)

    join_alone_ = jax.jit(join_alone)

    def alone_group(number):
        k = jax.random.fold_in(jax.random.fold_in(key, 2), number)
        motion = get("motions")(jax.random.fold_in(k, 0), false)
        parts = [get("heads")(jax.random.fold_in(k, 10 + i), motion)[0] for i in range(shape.alone)]
        every, pictures = join_alone_(parts)
        on = jnp.asarray(rng.uniform(size=len(pictures)) < 0.5)
        looks = get("styled")(jax.random.fold_in(k, 2), pictures, on)
        return {"rgb": looks[:, :-2], "background": looks[:, -1], "segmentation": every["segmentation"], "pose": every["pose"]}

    zeros = jax.jit(lambda: ({n: jnp.zeros(s.shape, s.dtype) for n, s in rows_shape.items()}, {n: jnp.zeros(s.shape, s.dtype) for n, s in alone_shape.items()}))
    rows, alone = zeros()
    start = time.time()
    for i in range(a.groups):
        rows = put_rows(rows, photo_group(i), jnp.int32(i))
        if i == 0:
            jax.block_until_ready(rows)
            say("first group drawn")
            start = time.time()
            pictures = np.asarray(rows["rgb"][0])
            np.savez_compressed(out / "first.npz", rgb=pictures, photo=np.asarray(rows["photo"][0]), segmentation=np.asarray(rows["segmentation"][0]),
                                label=np.asarray(rows["label"][0]), place=np.asarray(rows["place"][0]))
    for i in range(a.alone):
        alone = put_rows(alone, alone_group(i), jnp.int32(i))
    jax.block_until_ready((rows, alone))
    say(f"{a.groups} + {a.alone} groups in {time.time() - start:.1f} s")
    spread = jnp.asarray(np.concatenate(seen_codes).std(0) + 1e-6)
    say("spread", float(spread.mean()))
    np.save(out / "spread.npy", np.asarray(spread))
    state = trainer.initial_state()
    update = get("update")
    say("update ready")
    weights = {n: np.float32(v) for n, v in WEIGHTS.items()}
    control = {"end": a.end, "decay": a.decay, "rate": a.rate, "weights": {}}
    log = open(out / "log.jsonl", "a")
    saving = None

    def save(step, params, ema, name):
        np.savez(out / f"{name}.part.npz", **{f"ema.{k}": v for k, v in flat(ema).items()}, **{f"params.{k}": v for k, v in flat(params).items()}, step=step)
        os.replace(out / f"{name}.part.npz", out / f"{name}.npz")

    step, last_save, last_time, pending = 0, time.time(), time.time(), None
    draw_key = jax.random.fold_in(key, 3)
    while True:
        now = time.time()
        if step % 20 == 0 and (out / "control.json").exists():
            try:
                control |= json.loads((out / "control.json").read_text())
                weights |= {n: np.float32(v) for n, v in control["weights"].items()}
            except ValueError:
                pass
        left = control["end"] - now
        if left <= 0 and step > 0:
            break
        rate = control["rate"] * min(1.0, (step + 1) / a.warmup)
        if left < control["decay"]:
            x = max(left / control["decay"], 0.0)
            rate *= 0.01 + 0.99 * (0.5 - 0.5 * np.cos(np.pi * x)) if x < 1 else 1.0
        if step and step % 16 == 0:
            rows = put_rows(rows, photo_group(a.groups + step // 16), jnp.int32((step // 16) % a.groups))
        if step and step % 48 == 8:
            alone = put_rows(alone, alone_group(a.alone + step // 48), jnp.int32((step // 48) % a.alone))
        batch = get("draw")(rows, alone, grid, london, jax.random.fold_in(draw_key, step))
        rates = {"player": np.float32(rate), "opponent": np.float32(0), "frozen": np.float32(0)}
        state, metrics = update(state, batch, rates, {"weights": weights, "frozen": {"spread": spread}})
        step += 1
        if step % 100 == 0 or step in (1, 10, 50):
            line = {n: round(float(v), 5) for n, v in (pending or metrics).items()}
            t = time.time()
            line |= {"step": step, "t": round(t - begin, 1), "rate": float(rate), "ms": round((t - last_time) / (100 if step > 100 else 1) * 1000, 1)}
            last_time = t
            log.write(json.dumps(line) + "\n")
            log.flush()
            if not np.isfinite(line["loss"]):
                say("loss is not finite")
                break
            pending = metrics
        if now - last_save > 45:
            last_save = now
            save(step, jax.device_get(state.params), jax.device_get(state.ema), "last")
    save(step, jax.device_get(state.params), jax.device_get(state.ema), "final")
    (out / "finished").write_text(str(step))
    say("done at step", step)


if __name__ == "__main__":
    main()
