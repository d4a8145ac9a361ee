"""Groups of photo puppets and rendered heads in one motion each, and groups of rendered heads alone, on the device."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vasa_jax.data.synthetic.anatomy import build_anatomy, head_to_world
from vasa_jax.data.synthetic.bank import draw_pairs
from vasa_jax.data.synthetic.identity import sample_identity
from vasa_jax.data.synthetic.labels import labels
from vasa_jax.data.synthetic.landmarks import _eye_contour
from vasa_jax.data.synthetic.motion import POSE_FIELDS, sample_motion
from vasa_jax.data.synthetic.render import render
from vasa_jax.data.synthetic.style import stylise

import topology
from puppet import LID, Renderer, eye_zone


class Shape(NamedTuple):
    photos: int = 4
    heads: int = 2
    faces: int = 6
    poses: int = 2
    size: int = 256
    supersample: int = 2
    alone: int = 3  # calls of the head renderer that make a group of heads alone

    @property
    def motions(self) -> int:
        return self.faces * self.poses


def calmed(m: dict) -> dict:
    """The corpus's broad stills within what a photograph can follow."""
    m = dict(m)
    m["yaw"], m["pitch"], m["roll"] = 0.6 * m["yaw"], 0.55 * m["pitch"], 0.8 * m["roll"]
    m["tx"], m["ty"] = 0.7 * m["tx"], 0.7 * m["ty"]
    m["dist"] = jnp.exp(0.6 * jnp.log(m["dist"]) - 0.02)
    m["gaze_yaw"] = m["gaze_yaw"] * 0.9
    return m


def faced(key, calm):
    """A broad still with lids shut or mouths open more often."""
    k = jax.random.split(key, 7)
    m = sample_motion(k[0])
    m = {name: jnp.where(calm, value, m[name]) for name, value in calmed(m).items()}
    u = jax.random.uniform(k[1])
    shut, half = u < 0.16, (u >= 0.16) & (u < 0.26)
    lids = jnp.where(shut, 1.0, jnp.where(half, jax.random.uniform(k[2], (), minval=0.3, maxval=0.95), 0.0))
    for name in ("blink_l", "blink_r"):
        m[name] = jnp.where(shut | half, lids, m[name])
    wide = jax.random.uniform(k[3]) < 0.3
    m["jaw"] = jnp.where(wide, jax.random.uniform(k[4], (), minval=0.4, maxval=1.1), m["jaw"])
    for name in ("press", "tuck"):
        m[name] = jnp.where(wide, 0.0, m[name])
    for name, q in (("up", k[5]), ("lo", k[6])):
        m[name] = jnp.where(wide, jnp.maximum(m[name], jax.random.uniform(q, (), minval=0.0, maxval=0.5)), m[name])
    return m


def u8(x):
    return jnp.clip(x + 0.5, 0, 255).astype(jnp.uint8)


class Bank:
    def __init__(self, connections: str, shape: Shape):
        self.shape, self._renderer = shape, Renderer(topology.mesh(connections), shape.size, shape.supersample)

    def motions(self, key, calm):
        s = self.shape
        motion = jax.vmap(lambda k: faced(k, calm))(jax.random.split(key, s.motions))
        face = jnp.arange(s.motions) // s.poses * s.poses
        return {name: value if name in POSE_FIELDS else value[face] for name, value in motion.items()}

    def heads(self, key, motion):
        """heads x motions frames, and the pose (M, 9) that labels a head of the usual lens."""
        s = self.shape
        identity = jax.vmap(sample_identity)(jax.random.split(key, s.heads))
        i = jnp.repeat(jnp.arange(s.heads), s.motions)
        m = jnp.tile(jnp.arange(s.motions), s.heads)
        each = {name: value[i] for name, value in identity.items()}
        moved = {name: value[m] for name, value in motion.items()}
        frames = render(each, moved, s.size, s.supersample)
        pose = labels(each, moved)["pose"]
        usual = labels({**each, "lens": jnp.ones_like(each["lens"])}, moved)["pose"]

        def corners(identity, motion):
            a = build_anatomy(identity, motion)
            eyes = []
            for side in (-1.0, 1.0):
                x, y, z = _eye_contour(a, side)
                px, py, _ = a.camera.project(head_to_world(a, (x, y, z)))
                eyes.append(jnp.stack([jnp.stack([px[0], py[0]]), jnp.stack([px[4], py[4]])]))
            return jnp.stack(eyes)

        zone = jax.vmap(lambda c: eye_zone(c, s.size))(jax.vmap(corners)(each, moved))
        segment = frames["segmentation"]
        segment = jnp.where(zone & (segment == 1), LID, segment)
        shape = (s.heads, s.motions)
        return {"rgb": u8(frames["rgb"] * 255).reshape(*shape, s.size, s.size, 3),
                "segmentation": segment.astype(jnp.uint8).reshape(*shape, s.size, s.size),
                "background": u8(frames["background"] * 255).reshape(*shape, s.size, s.size, 3)[:, 0],
                "pose": pose.reshape(*shape, 9)}, usual[: s.motions]

    def photos(self, puppets, which, motion, pose):
        s = self.shape
        p = {name: value[which] for name, value in puppets.items()}
        i = jnp.repeat(jnp.arange(s.photos), s.motions)
        m = jnp.tile(jnp.arange(s.motions), s.photos)

        def one(i, j):
            f = self._renderer.frame({k: v[i] for k, v in p.items()}, {k: v[j] for k, v in motion.items()}, pose[j])
            return {"rgb": u8(f["rgb"]), "segmentation": f["segmentation"], "place": f["place"], "label": f["label"]}

        frames = jax.vmap(one)(i, m)
        frames = {n: x.reshape(s.photos, s.motions, *x.shape[1:]) for n, x in frames.items()}
        return frames | {"background": p["background"], "pose": jnp.broadcast_to(pose, (s.photos, *pose.shape)),
                         "photo": p["photo"], "photo_pose": p["pose"], "warm": 1.0 - p["grey"]}

    def styled(self, key, pictures, on):
        """pictures (I, P, n, n, 3) uint8 of I persons, `on` (I,) whether each gets a look of its own."""
        def one(key, x, on):
            return u8(stylise(key, x.astype(jnp.float32) / 255.0, on.astype(jnp.float32)) * 255)
        return jax.vmap(one)(jax.random.split(key, len(pictures)), pictures, on)

    def mixed(self, photos, heads, codes, key, share, styled):
        """A group of both, some of its people in another look."""
        s = self.shape
        on = jax.random.uniform(key, (s.photos + s.heads,)) < share * jnp.r_[0.4 * jnp.ones(s.photos), jnp.ones(s.heads)]
        photo = jnp.concatenate([photos["photo"], heads["background"]])  # heads have no photograph
        rgb = jnp.concatenate([photos["rgb"], heads["rgb"]])
        background = jnp.concatenate([photos["background"], heads["background"]])
        every = styled(jax.random.fold_in(key, 1), jnp.concatenate([rgb, background[:, None], photo[:, None]], 1), on)
        join = lambda n: jnp.concatenate([photos[n], heads[n]])
        return {"rgb": every[:, :-2], "background": every[:, -2], "photo": every[: s.photos, -1],
                "segmentation": join("segmentation"), "pose": join("pose"), "photo_pose": photos["photo_pose"],
                "place": photos["place"], "label": jnp.where(on[: s.photos, None, None, None], 0, photos["label"]).astype(jnp.uint8),
                "code": codes}

    def alone(self, parts, key, share, styled):
        """A group of rendered heads."""
        s = self.shape
        every = {n: jnp.concatenate([p[n] for p in parts]) for n in parts[0]}
        on = jax.random.uniform(key, (len(every["rgb"]),)) < share
        b = every["background"][:, None]
        looks = styled(jax.random.fold_in(key, 1), jnp.concatenate([every["rgb"], b, b], 1), on)
        return {"rgb": looks[:, :-2], "background": looks[:, -1], "segmentation": every["segmentation"], "pose": every["pose"]}


def write(rows, group, slot):
    return {n: jax.lax.dynamic_update_slice_in_dim(rows[n], group[n][None].astype(rows[n].dtype), slot, 0) for n in rows}


def draw(rows, alone, grid, london, key, batch, drivers, shape, counts):
    """Pairs as `face_pairs` describes them: `counts` sources of grid clips, London pairs, heads alone; the rest photographs."""
    s = shape
    sources = batch // drivers
    n_grid, n_london, n_alone = counts
    n = sources - sum(counts)
    k = jax.random.split(key, 14)
    groups, identities, motions = rows["rgb"].shape[:3]
    group = jax.random.randint(k[0], (n,), 0, groups)
    source = jax.random.randint(k[2], (n,), 0, s.photos)
    first = jax.random.randint(k[4], (n,), 0, motions)
    others = jax.vmap(lambda q: jax.random.permutation(q, s.faces - 1))(jax.random.split(k[5], n))
    face = (first[:, None] // s.poses + 1 + others[:, :drivers]) % s.faces
    posed = jax.random.randint(k[6], (2, n, drivers), 0, s.poses)
    second, shown = (face * s.poses + posed).reshape(2, -1)
    g, owner = jnp.repeat(group, drivers), jnp.repeat(source, drivers)
    m = n * drivers
    # Most drivers are rendered heads, on which the motion transformer's codes are made.
    stranger = jnp.where(jax.random.uniform(k[7], (m,)) < 0.4, jax.random.randint(k[8], (m,), s.photos, identities),
                         jax.random.randint(k[9], (m,), 0, identities))
    # A source is most often the photograph itself, as it was taken.
    plain = jax.random.uniform(k[10], (n,)) < 0.75
    pick = lambda a, b: jnp.where(plain.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    zero = lambda c: (jnp.zeros((c, s.size // 2, s.size // 2, 2), jnp.float16), jnp.zeros((c, s.size // 2, s.size // 2), jnp.uint8))
    parts = [{
        "source": pick(rows["photo"][group, source], rows["rgb"][group, source, first]),
        "source_pose": pick(rows["photo_pose"][group, source], rows["pose"][group, source, first]),
        "background": rows["background"][group, source],
        "person": group * identities + source,
        "driver": rows["rgb"][g, stranger, second], "driver_pose": rows["pose"][g, stranger, second],
        "target": rows["rgb"][g, owner, shown], "target_pose": rows["pose"][g, owner, shown],
        "segmentation": rows["segmentation"][g, owner, shown],
        "same_identity": owner == stranger, "same_pose": second == shown,
        "source_code": rows["code"][group, first // s.poses], "source_known": ~plain,
        "driver_code": rows["code"][g, second // s.poses], "driver_known": jnp.ones(m, bool),
        "place": rows["place"][g, owner, shown],
        "label": jnp.where(jnp.repeat(plain, drivers)[:, None, None], rows["label"][g, owner, shown], 0),
        "kind": jnp.zeros(m, jnp.int32),
    }]
    z = rows["code"].shape[-1]
    if n_alone:
        c, q = n_alone * drivers, jax.random.split(k[12])
        pairs = draw_pairs(alone, q[0], c, drivers, "counterfactual", 0.0, s.poses)
        place, label = zero(c)
        parts.append({**pairs, "person": 500_000 + pairs["person"], "source_code": jnp.zeros((n_alone, z)), "source_known": jnp.zeros(n_alone, bool),
                      "driver_code": jnp.zeros((c, z)), "driver_known": jnp.zeros(c, bool), "place": place, "label": label,
                      "kind": jnp.full(c, 1)})
    for j, (clips, count) in enumerate(((grid, n_grid), (london, n_london))):
        if not count:
            continue
        q = jax.random.split(jax.random.fold_in(k[11], j), 3)
        clip = jax.random.randint(q[0], (count,), 0, clips["rgb"].shape[0])
        frames = jax.vmap(lambda p: jax.random.permutation(p, clips["rgb"].shape[1])[: drivers + 1])(jax.random.split(q[1], count))
        c, f = jnp.repeat(clip, drivers), frames[:, 1:].reshape(-1)
        m = count * drivers
        place, label = zero(m)
        parts.append({
            "source": clips["rgb"][clip, frames[:, 0]], "source_pose": clips["pose"][clip, frames[:, 0]],
            "background": clips["background"][clip], "person": (j + 1) * 1_000_000 + clip,
            "driver": clips["raw"][c, f], "driver_pose": clips["pose"][c, f],
            "target": clips["rgb"][c, f], "target_pose": clips["pose"][c, f], "segmentation": clips["segmentation"][c, f],
            "same_identity": jnp.ones(m, bool), "same_pose": jnp.ones(m, bool),
            "source_code": jnp.zeros((count, z)), "source_known": jnp.zeros(count, bool),
            "driver_code": jnp.zeros((m, z)), "driver_known": jnp.zeros(m, bool), "place": place, "label": label,
            "kind": jnp.full(m, 2 + j),
        })
    return {name: jnp.concatenate([p[name].astype(parts[0][name].dtype) for p in parts]) for name in parts[0]}
