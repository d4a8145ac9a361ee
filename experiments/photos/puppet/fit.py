"""A portrait photograph -> everything a puppet needs, as small arrays (NumPy, OpenCV; LiteRT graphs for points and matte).

Coordinates: the project's image coordinates, x, y in [-1, 1] over the picture that the codec sees; the texture is a
wider canvas, +-REACH. Canonical coordinates as in `vasa_jax.data.labels`.
"""

import cv2
import numpy as np

from vasa_jax.data.labels import fit_pose, head_angles, mouth_opening, lid_openings, rotation_of

import topology as T

REACH, CANVAS = 1.25, 640
EYE_PATCH, IRIS_PATCH, MOUTH_PATCH = (40, 64), 32, 96
EYE_HALF = (0.70, 0.44)  # half extents of an eye patch over the eye's width
IRIS_REACH = 1.2
MOUTH_BOX = (-1.15, 1.15, -0.75, 1.45)  # of the mouth patch, over the mouth's half width: left, right, top, bottom


def place(image: np.ndarray, points: np.ndarray, log_scale: float = 0.0, shift=(0.0, 0.0)):
    """Cuts the canvas so that the head has pose scale exp(log_scale) and centre `shift` in image coordinates.

    points (478, 3) in pixels. Returns canvas uint8, points in image coordinates, matrix picture pixels -> canvas.
    """
    rough = fit_pose((points / 100.0)[None])[0]
    scale, centre = np.exp(rough[6]) * 100.0, rough[7:9] * 100.0  # pixels per canonical unit
    per_unit = scale / np.exp(log_scale)  # picture pixels per image unit
    origin = centre - np.asarray(shift) * per_unit
    placed = points.copy()
    placed[:, :2] = (points[:, :2] - origin) / per_unit
    placed[:, 2] = points[:, 2] / per_unit
    side = CANVAS / (2 * REACH)
    matrix = np.array([[side / per_unit, 0, 0], [0, side / per_unit, 0]], np.float64)
    matrix[:, 2] = CANVAS / 2 - matrix[:, :2] @ origin - 0.5 + matrix[:, :2] @ (0.5, 0.5)
    source = image
    if per_unit / side > 1.6:  # average first
        factor = side / per_unit
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        ratio = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]])
        m = matrix.copy()
        m[:, :2] = matrix[:, :2] / ratio
        m[:, 2] = CANVAS / 2 - (matrix[:, :2] @ origin) - 0.5 + m[:, :2] @ (0.5, 0.5)
        source, used = small, m
    else:
        used = matrix
    canvas = cv2.warpAffine(source, used, (CANVAS, CANVAS), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return canvas, placed.astype(np.float32), matrix


def framing(points: np.ndarray, height: int, width: int, rng: np.random.Generator) -> tuple[float, tuple] | None:
    """(log scale, shift) for `place` that keep the picture's square inside the photograph; None where that is too tight
    or the head would be too large."""
    rough = fit_pose((points / 100.0)[None])[0]
    scale, centre = np.exp(rough[6]) * 100.0, rough[7:9] * 100.0
    least = np.log(2.0 * scale / min(width, height)) - 0.02
    if least > 0.25:
        return None
    log_scale = max(rng.uniform(-0.10, 0.14), least)
    unit = scale / np.exp(log_scale)
    wanted = np.array([rng.uniform(-0.06, 0.06), rng.uniform(-0.15, 0.03)])
    low = 1.0 - (np.array([width, height]) - centre) / unit  # the right and lower edge stay inside
    high = centre / unit - 1.0
    shift = np.where(low <= high, np.clip(wanted, low, high), 0.5 * (low + high))
    if np.abs(shift).max() > 0.22 or (low - high).max() > 0.1:
        return None
    return float(log_scale), tuple(shift)


def fit(image, points, matte, rng=None):
    """texture (CANVAS, CANVAS, 3), matte (CANVAS, CANVAS) uint8, points (478, 3), pose (9,), bounds (4,): left, top,
    right, bottom of the photograph in image coordinates; None without room around the head."""
    frame = (0.0, (0.0, 0.0)) if rng is None else framing(points, *image.shape[:2], rng)
    if frame is None:
        return None
    canvas, placed, matrix = place(image, points, *frame)
    factor = image.shape[0] / matte.shape[0]
    small = matrix.copy()
    small[:, :2] *= factor
    small[:, 2] += matrix[:, :2] @ (0.5 * (factor - 1), 0.5 * (factor - 1))
    alpha = cv2.warpAffine(matte, small, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    corners = matrix[:, :2] @ np.array([[-0.5, image.shape[1] - 0.5], [-0.5, image.shape[0] - 0.5]]) + matrix[:, 2:]
    corners = ((corners + 0.5) / CANVAS * 2 - 1) * REACH
    bounds = np.array([*corners[:, 0], *corners[:, 1]], np.float32)
    return {"texture": canvas, "matte": alpha, "points": placed, "pose": fit_pose(placed[None])[0], "bounds": bounds}


def varied(image, points, matte, rng, strength=0.02):
    """The same as of another person: a smooth random warp of picture, points and matte."""
    side = image.shape[0]
    nodes = rng.normal(0, strength, (5, 5, 2)).astype(np.float32)
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side * 4
    def shift(xy):
        g = np.clip(xy, 0, 4).astype(np.float32)
        big = field
        return cv2.remap(big, g[..., 0] * (big.shape[1] - 1) / 4, g[..., 1] * (big.shape[0] - 1) / 4, cv2.INTER_LINEAR)
    field = cv2.resize(np.pad(nodes, ((1, 1), (1, 1), (0, 0)), mode="edge"), (7 * 16, 7 * 16), interpolation=cv2.INTER_CUBIC)
    field = cv2.GaussianBlur(field[24:-24, 24:-24], (0, 0), 4)
    stretch = 1 + rng.uniform(-0.05, 0.05)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    def moved(xy):  # over the side, 0..1, to 0..1
        out = xy + shift(xy * 4)
        out[..., 0] = 0.5 + (out[..., 0] - 0.5) * stretch
        return out
    target = grid / 4
    source = target.copy()
    for _ in range(4):
        source = source - (moved(source) - target)
    def warp(x, n):
        m = cv2.resize(source.astype(np.float32), (n, n), interpolation=cv2.INTER_LINEAR) if n != side else source
        m = (m * n - 0.5).astype(np.float32)
        return cv2.remap(x, m[..., 0], m[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    new = points.copy()
    new[:, :2] = moved(points[None, :, :2] / side)[0] * side
    return warp(image, side), new, warp(matte, matte.shape[0])


def figures(fitted) -> dict[str, float]:
    points, pose = fitted["points"][None], fitted["pose"][None]
    yaw, pitch, roll = head_angles(pose)[0]
    return {"yaw": yaw, "pitch": pitch, "roll": roll, "mouth": mouth_opening(points)[0],
            "lids": lid_openings(points, pose)[0].min()}


def to_canonical(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    rotation, scale = rotation_of(pose[None])[0].astype(np.float64), np.exp(pose[6])
    moved = points - np.array([pose[7], pose[8], 0.0])
    result = moved @ rotation / scale
    return result


def from_canonical(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    rotation, scale = rotation_of(pose[None])[0].astype(np.float64), np.exp(pose[6])
    return scale * points @ rotation.T + np.array([pose[7], pose[8], 0.0])


def within(bounds, size: int) -> np.ndarray:
    """Where a canvas of `size` pixels shows the photograph."""
    axis = ((np.arange(size) + 0.5) / size * 2 - 1) * REACH
    margin = 4 * REACH / size
    x = (axis > bounds[0] + margin) & (axis < bounds[2] - margin)
    y = (axis > bounds[1] + margin) & (axis < bounds[3] - margin)
    return y[:, None] & x[None, :]


def smoothstep(x):
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def sample(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Image coordinates (..., 2) read from a canvas; float32."""
    p = ((points / REACH + 1.0) * CANVAS / 2.0 - 0.5).astype(np.float32)
    shape = p.shape[:-1]
    p = p.reshape(p.shape[0], -1, 2)  # remap takes no side above 32,766
    value = cv2.remap(image, p[..., 0], p[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return value.reshape(*shape, -1).astype(np.float32)


def filled(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Holes of (h, w, c) from what surrounds them: averages pulled down a pyramid and pushed up again."""
    weight = known.astype(np.float32)[..., None]
    levels = [(values.astype(np.float32) * weight, weight)]
    while min(levels[-1][1].shape[:2]) > 1:
        v, w = levels[-1]
        size = (max(1, v.shape[1] // 2), max(1, v.shape[0] // 2))
        v = cv2.resize(v, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
        w = cv2.resize(w, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 1)
        levels.append((v, w))
    result = levels[-1][0] / np.maximum(levels[-1][1], 1e-6)
    for v, w in reversed(levels[:-1]):
        up = cv2.resize(result, (v.shape[1], v.shape[0]), interpolation=cv2.INTER_LINEAR).reshape(v.shape)
        share = np.minimum(4.0 * w, 1.0)
        result = np.where(w > 0, share * v / np.maximum(w, 1e-6) + (1 - share) * up, up)
    return result


class Builder:
    """From a fit to the arrays that the renderer reads; `mesh` of topology.mesh."""

    def __init__(self, mesh):
        face = mesh["triangles"][:852]
        lips = sorted({i for row in (*T.UPPER_LIP, *T.LOWER_LIP) for i in row})
        fixed = sorted({*T.OVAL, 168, 6, 197, 195, 5, 4, 1, 2, 151, 9, 33, 133, 263, 362, 98, 327, 129, 358})
        self.close_handles = np.array(sorted({*lips, *fixed, 199}))
        self.close_weights = T.harmonic(face, self.close_handles)

    def closed(self, face: np.ndarray) -> np.ndarray:
        """The face with its lips together."""
        move = np.zeros((T.FACE, 3))
        upper, lower = (np.array(rows[3]) for rows in (T.UPPER_LIP, T.LOWER_LIP))
        gap = face[lower] - face[upper]
        gap[:, 1] = np.maximum(gap[:, 1], 0.0)
        for row in T.UPPER_LIP:
            move[list(row)] = 0.3 * gap
        for row in T.LOWER_LIP:
            move[list(row)] = -0.7 * gap
        for row in (*T.UPPER_LIP, *T.LOWER_LIP):
            move[[row[0], row[-1]]] = 0.0
        move[199] = -0.5 * gap[5]
        moved = face + self.close_weights @ move[self.close_handles]
        return moved

    def __call__(self, fitted: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        pose, texture = fitted["pose"], fitted["texture"]
        points = to_canonical(fitted["points"].astype(np.float64), pose)
        face = points[: T.FACE]
        rest = self.closed(face)
        rings, weight = self._rings(face)
        eyes = [self._eye(points, fitted, side) for side in range(2)]
        mouth = self._mouth(face, rest, fitted, rng)
        uv = from_canonical(np.concatenate([face, rings]), pose)[:, :2]
        matte = fitted["matte"].astype(np.float32) / 255.0
        matte = np.clip((matte - 0.25) / 0.5, 0.0, 1.0)
        inside = np.zeros((CANVAS, CANVAS), np.uint8)
        outline = ((uv[list(T.OVAL)] / REACH + 1.0) * CANVAS / 2.0 - 0.5).round().astype(np.int32)
        cv2.fillPoly(inside, [outline], 1)
        alpha = np.where(inside > 0, 1.0, matte)
        half = (CANVAS // 2, CANVAS // 2)
        background = self._background(cv2.resize(texture, half, interpolation=cv2.INTER_AREA),
                                      cv2.resize(alpha, half, interpolation=cv2.INTER_AREA), fitted["bounds"])
        low, low_alpha = cv2.resize(texture, half, interpolation=cv2.INTER_AREA), cv2.resize(alpha, half, interpolation=cv2.INTER_AREA)
        colour = filled(low, cv2.erode((low_alpha > 0.9).astype(np.uint8), np.ones((3, 3))) > 0)
        colour = cv2.resize(colour, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)
        edge = np.clip((alpha - 0.5) / 0.45, 0.0, 1.0)[..., None]
        # Under a thin matte the colour is the background's as well: take the head's own from further in.
        own = edge * texture + (1 - edge) * (0.5 * texture + 0.5 * colour)
        rgba = np.concatenate([own, 255.0 * alpha[..., None]], -1)
        return {
            "texture": np.clip(rgba + 0.5, 0, 255).astype(np.uint8),
            "background": np.clip(background + 0.5, 0, 255).astype(np.uint8),
            "rest": rest.astype(np.float32),
            "rings": rings.astype(np.float32),
            "ring_weight": weight.astype(np.float32),
            "uv": uv.astype(np.float32),
            "pose": pose.astype(np.float32),
            "bounds": fitted["bounds"],
            **{name: np.stack([eye[name] for eye in eyes]) for name in eyes[0]},
            **mouth,
        }

    def _rings(self, face):
        oval = face[list(T.OVAL)]
        middle = np.array([0.0, 0.5 * (oval[:, 1].min() + oval[:, 1].max())])
        positions, weights = [], []
        chin = oval[:, 1].max()
        # The head behind the oval: as deep as the ears at its silhouette.
        for k, factor in enumerate(T.RINGS):
            away = oval[:, :2] - middle
            direction = away / np.linalg.norm(away, axis=1, keepdims=True)
            # The further out, the more alike in all directions: corners of the picture are reached too.
            xy = middle + away * factor + 0.12 * direction * max(factor - 1.8, 0.0)
            down = smoothstep((direction[:, 1] - 0.35) / 0.5)
            behind = smoothstep((factor - 1.0) / 0.35)
            back = 0.26 * (1 - down) + 0.20 * down
            z = oval[:, 2] + (np.maximum(back, oval[:, 2] + 0.02) - oval[:, 2]) * behind
            positions.append(np.concatenate([xy, z[:, None]], 1))
            fall = smoothstep((xy[:, 1] - (chin - 0.02)) / 0.42)
            weights.append(1.0 - fall)
        return np.concatenate(positions), np.concatenate(weights)

    def _background(self, texture, alpha, bounds):
        """(256, 256, 3): the photograph without its person."""
        known = (cv2.dilate(alpha, np.ones((11, 11))) < 0.05) & within(bounds, texture.shape[0])
        whole = texture.astype(np.float32)
        if known.any():  # the nearest background on either side, softened
            _, labels = cv2.distanceTransformWithLabels((~known).astype(np.uint8), cv2.DIST_L2, 5,
                                                        labelType=cv2.DIST_LABEL_PIXEL)
            table = np.zeros((labels.max() + 1, 3), np.float32)
            table[labels[known]] = texture[known]
            nearest = table[labels]
            distance = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 5)[..., None]
            near, wide = cv2.GaussianBlur(nearest, (0, 0), 4), cv2.GaussianBlur(nearest, (0, 0), 14)
            share = np.clip(distance / 40.0, 0, 1)
            soft = (1 - share) * near + share * wide
            hole = np.clip(distance / 4.0, 0, 1)
            whole = hole * soft + (1 - hole) * whole
        axis = (np.arange(256) * 2.0 + 1.0) / 256 - 1.0
        grid = np.stack(np.meshgrid(axis, axis), -1)
        n = whole.shape[0]
        p = ((grid / REACH + 1.0) * n / 2.0 - 0.5).astype(np.float32)
        return cv2.remap(whole.astype(np.float32), p[..., 0], p[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _eye(self, points, fitted, side):
        pose, texture = fitted["pose"], fitted["texture"]
        outer, inner = (points[i] for i in T.CORNERS[side])
        middle = 0.5 * (outer + inner)
        width = np.linalg.norm((outer - inner)[:2])
        lids = points[[*T.UPPER_LID[side], *T.LOWER_LID[side]]]
        bulge = lids[:, 2].mean() - middle[2]
        # Patch of vertices behind the opening.
        columns, rows = T.EYE_GRID
        a, b = np.meshgrid(np.linspace(-1, 1, columns) * EYE_HALF[0], np.linspace(-1, 1, rows) * EYE_HALF[1])
        local = np.stack([a.ravel(), b.ravel()], 1)
        slope = (inner[2] - outer[2]) / (inner[0] - outer[0])
        depth = middle[2] + slope * local[:, 0] * width + 0.012 + bulge * (1 - np.clip(2 * np.abs(local[:, 0]), 0, 1) ** 2)
        grid = np.concatenate([middle[:2] + local * width, depth[:, None]], 1)
        # The white of the eye, without the iris.
        h, w = EYE_PATCH
        a, b = np.meshgrid((np.arange(w) + 0.5) / w * 2 - 1, (np.arange(h) + 0.5) / h * 2 - 1)
        local = np.stack([a * EYE_HALF[0], b * EYE_HALF[1]], -1)
        z = middle[2] + slope * local[..., 0] * width + bulge * (1 - np.clip(2 * np.abs(local[..., 0]), 0, 1) ** 2)
        where = from_canonical(np.concatenate([middle[:2] + local * width, z[..., None]], -1).reshape(-1, 3), pose)[:, :2]
        where = where.reshape(h, w, 2)
        seen = sample(texture, where)
        contour = points[[T.CORNERS[side][0], *T.UPPER_LID[side], T.CORNERS[side][1], *T.LOWER_LID[side][::-1]]]
        contour = (contour[:, :2] - middle[:2]) / width
        pixels = (contour / EYE_HALF + 1) / 2 * (w, h) - 0.5
        opening = np.zeros((h, w), np.uint8)
        cv2.fillPoly(opening, [(pixels * 16).round().astype(np.int32)], 1, shift=4)
        iris = points[468 + 5 * side : 473 + 5 * side]
        iris_centre = (iris[0, :2] - middle[:2]) / width
        radius = np.clip(np.linalg.norm(iris[1:, :2] - iris[0, :2], axis=1).mean() / width, 0.17, 0.26)
        from_iris = np.linalg.norm(local - iris_centre, axis=-1) / radius
        deep = cv2.erode(opening, np.ones((3, 3)))
        white = (deep > 0) & (from_iris > 1.12)
        light = seen.mean(-1)
        if white.sum() > 12:
            # The brighter half of what is neither lid nor iris: lashes and shadows are not.
            white &= light >= np.quantile(light[white], 0.35)
            base = np.median(seen[white], 0)
        else:
            skin = sample(texture, from_canonical(points[[50, 280]], pose)[:, :2]).mean(0)
            base = 0.35 * skin + 0.65 * skin.max()
        whites = filled(seen, white) if white.sum() > 12 else np.broadcast_to(base, seen.shape)
        whites = 0.5 * whites + 0.5 * base
        soft = cv2.GaussianBlur(((opening > 0) & (from_iris > 1.05)).astype(np.float32), (0, 0), 1.0)[..., None]
        # An eyeball turns away from the light at its ends and under the upper lid.
        shade = 1.0 - 0.25 * np.clip(np.abs(local[..., :1]) / EYE_HALF[0], 0, 1) ** 2 - 0.18 * np.clip(
            -local[..., 1:] / 0.25, 0, 1)
        whites = soft * seen + (1 - soft) * whites * shade
        # The iris: what the lids hide of it is filled by rings.
        n = IRIS_PATCH
        a, b = np.meshgrid(*[((np.arange(n) + 0.5) / n * 2 - 1) * IRIS_REACH] * 2)
        reach = np.hypot(a, b)
        local = iris_centre + np.stack([a, b], -1) * radius
        z = np.full(local.shape[:2], middle[2] + bulge)
        where = from_canonical(np.concatenate([middle[:2] + local * width, z[..., None]], -1).reshape(-1, 3), pose)[:, :2]
        disc = sample(texture, where.reshape(n, n, 2))
        pixels = ((local / EYE_HALF + 1) / 2 * (w, h) - 0.5).astype(np.float32)
        visible = cv2.remap(deep.astype(np.float32), pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR) > 0.6
        rings = np.clip((reach * 6).astype(int), 0, 7)
        known = visible & (reach < 1.05)
        profile = np.zeros((8, 3))
        fallback = np.median(disc[known], 0) if known.sum() > 10 else np.array([60.0, 45.0, 38.0])
        for ring in range(8):
            members = known & (rings == ring)
            profile[ring] = np.median(disc[members], 0) if members.sum() > 3 else fallback
        position = np.clip(reach * 6 - 0.5, 0, 6.999)
        low = position.astype(int)
        smooth = profile[low] + (position - low)[..., None] * (profile[np.minimum(low + 1, 7)] - profile[low])
        soft = cv2.GaussianBlur(known.astype(np.float32), (0, 0), 1.2)[..., None]
        disc = soft * disc + (1 - soft) * smooth
        return {
            "eye_grid": grid.astype(np.float32),
            "eye_local": np.stack(np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows)), -1).reshape(-1, 2).astype(np.float32),
            "eye_white": np.clip(whites, 0, 255).astype(np.uint8),
            "iris": np.clip(disc, 0, 255).astype(np.uint8),
            "iris_radius": np.float32(radius),
            "iris_centre": iris_centre.astype(np.float32),
            "eye_width": np.float32(width),
        }

    def _mouth(self, face, rest, fitted, rng):
        pose, texture = fitted["pose"], fitted["texture"]
        left, right = rest[78], rest[308]
        half = 0.5 * np.linalg.norm((rest[61] - rest[291])[:2])
        line = rest[[13, 14]].mean(0)
        centre = np.array([0.5 * (left[0] + right[0]), line[1], rest[[13, 14], 2].mean()])
        x0, x1, y0, y1 = MOUTH_BOX
        columns, rows = T.MOUTH_GRID
        a, b = np.meshgrid(np.linspace(x0, x1, columns), np.linspace(y0, y1, rows))
        local = np.stack([a.ravel(), b.ravel()], 1)
        depth = centre[2] + 0.02 + 1.3 * (local[:, 0] * half) ** 2
        grid = np.concatenate([centre[:2] + local * half, depth[:, None]], 1)
        # What an open mouth shows in the photograph stays where it is.
        n = MOUTH_PATCH
        a, b = np.meshgrid(x0 + (np.arange(n) + 0.5) / n * (x1 - x0), y0 + (np.arange(n) + 0.5) / n * (y1 - y0))
        local = np.stack([a, b], -1)
        z = centre[2] + 0.02 + 1.3 * (local[..., :1] * half) ** 2
        where = from_canonical(np.concatenate([centre[:2] + local * half, z], -1).reshape(-1, 3), pose)[:, :2]
        seen = sample(texture, where.reshape(n, n, 2))
        contour = np.concatenate([face[list(T.UPPER_LIP[3])], face[list(T.LOWER_LIP[3])][::-1]])
        contour = (contour[:, :2] - centre[:2]) / half
        pixels = (contour - (x0, y0)) / (x1 - x0, y1 - y0) * n - 0.5
        hole = np.zeros((n, n), np.uint8)
        cv2.fillPoly(hole, [(pixels * 16).round().astype(np.int32)], 1, shift=4)
        hole = cv2.GaussianBlur(cv2.erode(hole, np.ones((3, 3))).astype(np.float32), (0, 0), 1.4)
        gap = np.linalg.norm(face[13] - face[14]) / half
        if gap < 0.12:
            hole *= 0.0
        skin = sample(texture, from_canonical(face[[50, 280, 205, 425]], pose)[:, :2]).mean(0)
        inside = hole > 0.5
        teeth = (0.45 * skin + 0.55 * skin.max()) * np.array([1.0, 0.97, 0.9]) * rng.uniform(0.9, 1.12)
        if inside.sum() > 40:
            light = seen[inside].mean(-1)
            bright = seen[inside][light >= np.quantile(light, 0.7)].mean(0)
            if bright.mean() > 0.7 * skin.mean():
                teeth = bright
        return {
            "mouth_grid": grid.astype(np.float32),
            "mouth_local": np.stack(np.meshgrid(np.linspace(x0, x1, columns), np.linspace(y0, y1, rows)), -1).reshape(-1, 2).astype(np.float32),
            "mouth_seen": np.clip(np.concatenate([seen, 255 * hole[..., None]], -1), 0, 255).astype(np.uint8),
            "mouth_half": np.float32(half),
            "mouth_style": np.concatenate([np.clip(teeth, 40, 245) / 255.0, skin / 255.0,
                [rng.uniform(0.19, 0.25), rng.uniform(-0.02, 0.08), rng.uniform(0.3, 1.0)]]).astype(np.float32),
        }
