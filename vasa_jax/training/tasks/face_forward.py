"""The forward pass of stage 1 in parts: colours, motion, decode requests, decoding, loss terms.

Pure functions, traced under jit. A batch has S sources and B = k S drivers, k side by side for each source; images are
(rows, n, n, 3) float32 in [0, 1], poses (rows, 9), dynamics (rows, Z).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from vasa_jax.corpus.photos.draw import COPIED, PAINTED
from vasa_jax.losses import VASALoss, code_size
from vasa_jax.losses.perceptual import Judges
from vasa_jax.losses.photo_heads import anchor_loss, coarse_place_loss, kept_loss, place_loss
from vasa_jax.models.face_decoder import PortraitUse
from vasa_jax.training.augmentation import apply_colour_transform, random_warp, sample_colour_transform
from vasa_jax.training.degradation import degrade as degraded
from vasa_jax.training.placement import placed, put_back, sample_placement
from vasa_jax.training.tasks.face_pairs import Pairs, composited, deinterleave, interleave

Network = Any  # an encoder or a decoder, as `models.face.face_codec` gives them
Params = Mapping[str, Any]
Terms = dict[str, Float[Array, ""]]


class Views(NamedTuple):
    """Images of a batch as the networks see them."""

    source: Float[Array, "S n n 3"]
    background: Float[Array, "S n n 3"]
    driver: Float[Array, "B n n 3"]
    target: Float[Array, "B n n 3"]


class Motion(NamedTuple):
    """What drives a face."""

    pose: Float[Array, "rows 9"]
    dynamics: Float[Array, "rows Z"]


class Motions(NamedTuple):
    """Motion of a batch's images: S sources, B drivers, B targets."""

    source: Motion
    driver: Motion
    target: Motion


class Request(NamedTuple):
    """What the decoder is asked for: each source's appearance and identity once, for one motion or several of it."""

    appearance: Any  # (S, ...)
    identity: Any  # (S, ...)
    pose: Float[Array, "rows 9"]
    dynamics: Float[Array, "rows Z"]


class Shown(NamedTuple):
    """A decoded image over its background, the matte, and what a decoder that sees the portrait did with its pixels."""

    image: Float[Array, "rows n n 3"]
    matte: Float[Array, "rows n n 1"]
    portrait: PortraitUse | None


def jittered(pairs: Pairs, keys: jax.Array, jitter: float) -> Views:
    """Changes colours: in a share `jitter` of the sources together with background and targets, in all drivers alone.

    So the dynamics cannot carry the target's colours.
    """
    count, sources = len(pairs["driver"]), len(pairs["source"])
    shared = sample_colour_transform(keys[0], sources, jitter)
    source, background = (apply_colour_transform(pairs[name], shared) for name in ("source", "background"))
    target = apply_colour_transform(pairs["target"], repeated(shared, count // sources))
    driver = apply_colour_transform(pairs["driver"], sample_colour_transform(keys[1], count, 1.0))
    return Views(source, background, driver, target)


def encode_motions(
    encoder: Network,
    params: Params,
    views: Views,
    key: jax.Array,
    crop_warp: float,
    placement: float = 0.0,
    degrade: float = 0.0,
) -> Motions:
    """Reads poses from images, and dynamics from their crops, warped by `crop_warp` cells where it is not 0.

    A share `placement` of the images is read moved in the plane, and the poses are brought back from there; a share
    `degrade` is read blurred, blocky, noisy or recoloured.
    """
    sources = len(views.source)
    images = interleave((views.source, views.driver, views.target), sources)
    if degrade:
        images = degraded(images, jax.random.fold_in(key, 1), degrade)
    if placement:
        where = sample_placement(jax.random.fold_in(key, 2), len(images), placement)
        images = placed(images, where)
    variables = {"params": params}
    if crop_warp:
        poses = encoder.apply(variables, images, method="encode_pose")
        crops = encoder.apply(variables, images, poses, method="crop")
        latents = poses, encoder.apply(variables, random_warp(crops, key, crop_warp), method="encode_crop")
    else:
        latents = encoder.apply(variables, images, method="encode_motion")
    if placement:
        latents = put_back(latents[0], where), latents[1]
    drivers = len(views.driver) // sources
    poses, dynamics = (deinterleave(latent, (1, drivers, drivers), sources) for latent in latents)
    return Motions(*map(Motion, poses, dynamics))


def with_held_poses(motions: Motions, valid_pose: Bool[Array, "B"] | None, share: float) -> Motions:
    """Scales image gradients into labelled poses by `share`; poses without a label learn from the image in full.

    With a share of 0 poses stay in the labels' coordinate frame. valid_pose: None = all have a label.
    """

    def held(pose, valid):
        still = jax.lax.stop_gradient(pose)
        if share:
            still = still + share * (pose - still)
        return still if valid is None else jnp.where(valid[:, None], still, pose)

    first_valid = None if valid_pose is None else first_of(valid_pose, len(motions.source.pose))
    valid = (first_valid, valid_pose, valid_pose)
    return Motions(*(motion._replace(pose=held(motion.pose, v)) for motion, v in zip(motions, valid)))


def build_requests(
    encoder: Network,
    params: Params,
    views: Views,
    motions: Motions,
    dynamics: Float[Array, "B Z"],
    same_pose: Bool[Array, "B"],
    pairwise_transfer: bool,
) -> dict[str, Request]:
    """Returns what is to be decoded: "image" (B rows), and with `pairwise_transfer` "i" and "j" (S rows each).

    "image" has the driver's `dynamics`. Its pose is read from the driver where that has the target's (`same_pose`):
    from another person's image it is a little off, and the decoder must live with that. "i" and "j" are
    VASA-1's pairwise transfer (section 3.1): frame i is the source, frame j its first target, both of one clip.
    """
    sources = len(views.source)
    shown_pose = jnp.where(same_pose[:, None], motions.driver.pose, motions.target.pose)
    images, latents, frames = views.source, motions.source, (1,)
    if pairwise_transfer:
        other_pose = first_of(motions.target.pose, sources)
        images = interleave((views.source, first_of(views.target, sources)), sources)
        latents = (
            interleave((motions.source.pose, other_pose), sources),
            interleave((motions.source.dynamics, first_of(motions.target.dynamics, sources)), sources),
        )
        frames = (1, 1)
    seen = encoder.apply({"params": params}, images, *latents, method="encode_appearance")
    own, *other = zip(*(deinterleave(latent, frames, sources) for latent in seen))
    requests = {"image": Request(*own, shown_pose, dynamics)}
    if pairwise_transfer:
        requests["i"] = Request(*own, other_pose, motions.source.dynamics)
        requests["j"] = Request(*other[0], other_pose, motions.source.dynamics)
    return requests


def cross_identity_request(request: Request, motions: Motions, key: jax.Array, pose_pool: float) -> Request:
    """Returns each source under the motion of the next example's driver; a share `pose_pool` in the second next's pose.

    Neighbours in the batch, rather than numbered partners: any part of a batch can then be computed alone.
    """
    sources = len(motions.source.pose)
    pose, dynamics = (first_of(value, sources) for value in motions.driver)
    pooled = jax.random.uniform(jax.random.fold_in(key, 5), (len(pose), 1)) < pose_pool
    pose = jnp.where(pooled, following(pose, 2), following(pose))
    return Request(request.appearance, request.identity, pose, following(dynamics))


def decode(
    decoder: Network,
    params: Params,
    requests: Mapping[str, Request],
    backgrounds: Mapping[str, Float[Array, "_ n n 3"]],
    background: Float[Array, "S n n 3"],
    valid_matte: Bool[Array, "B"] | None,
    sources: int,
) -> dict[str, Shown]:
    """Decodes all requests in one pass, each over its own of `backgrounds`, or over the sources' `background`."""
    counts = [len(request.pose) // sources for request in requests.values()]
    latents: Any = next(iter(requests.values()))
    if len(requests) > 1:
        rows = (
            (*repeated((request.appearance, request.identity), count), request.pose, request.dynamics)
            for request, count in zip(requests.values(), counts)
        )
        latents = (interleave(parts, sources) for parts in zip(*rows))
    decoded = decoder.apply({"params": params}, *latents)
    images = (decoded.rgb, decoded.matte, *(decoded.portrait or ()))
    parts = zip(*(deinterleave(image, counts, sources) for image in images))
    shown = {}
    for name, (rgb, matte, *use) in zip(requests, parts):
        matte = matte.astype(jnp.float32)
        valid = valid_matte
        if valid is not None:
            valid = valid.reshape(sources, -1)[:, : len(rgb) // sources].reshape(-1)
        image = composited(rgb, matte, backgrounds.get(name, background), valid)
        shown[name] = Shown(image, matte, PortraitUse(*use) if use else None)
    return shown


def base_terms(
    loss: VASALoss, shown: Shown, pairs: Pairs, views: Views, motions: Motions, weights: Mapping[str, Array | float]
) -> tuple[Float[Array, ""], Terms]:
    """Returns (weighted sum, terms) of the reconstruction: images, mattes, poses and dynamics against their labels."""
    sources, valid_pose = len(views.source), pairs.get("valid_pose")
    valid_poses = None
    labels = [pairs[f"{name}_pose"] for name in ("source", "driver", "target")]
    if valid_pose is not None:
        valid_poses = first_of(valid_pose, sources), valid_pose, valid_pose
    return loss(
        shown.image,
        views.target,
        shown.matte,
        pairs["segmentation"],
        interleave([motion.pose for motion in motions], sources),
        interleave(labels, sources),
        motions.driver.dynamics,
        motions.target.dynamics,
        weights=weights,
        valid_matte=pairs.get("valid_matte"),
        valid_poses=None if valid_poses is None else interleave(valid_poses, sources),
    )


def network_terms(
    loss: VASALoss,
    judges: Judges | None,
    frozen: Params,
    shown: Mapping[str, Shown],
    pairs: Pairs,
    views: Views,
    motions: Motions,
    wanted: Sequence[str],
) -> Terms:
    """Returns the terms of `wanted` that need another decode or a frozen network, and the size of the dynamics."""
    image, target, valid_pose = shown["image"].image, views.target, pairs.get("valid_pose")
    terms = {"latent_l2": code_size(motions.driver.dynamics)}
    if "pairwise_transfer" in wanted:
        terms["pairwise_transfer"] = loss.consistency(shown["i"].image, shown["j"].image, frozen)
    if "perceptual" in wanted:
        terms["perceptual"] = judges.perceptual_loss(frozen, image, target)
    if "face_perceptual" in wanted:
        label = pairs["target_pose"]
        where = label if valid_pose is None else jnp.where(valid_pose[:, None], label, motions.target.pose)
        terms["face_perceptual"] = judges.face_loss(frozen, image, target, where)
    if "cross_identity" in wanted:
        if "cross_identity" in shown:
            crossed, portrait = shown["cross_identity"].image, views.source
            valid = pairs["person"] != following(pairs["person"])
        else:
            crossed, portrait = image, repeated(views.source, len(image) // len(views.source))
            valid = ~pairs["same_identity"]
        terms["cross_identity"] = judges.identity_loss(frozen, crossed, portrait, valid.astype(jnp.float32))
    return terms


def photo_terms(use: PortraitUse, pairs: Pairs, motions: Motions, weight: Float[Array, "B n n"]) -> Terms:
    """Returns the terms of what photo heads tell: latents of faces, places in the portrait, what it does not show.

    use: what the decoder did with the portrait's pixels; weight: of the target's.
    """
    size, kind, moved = weight.shape[1], pairs["kind"], pairs["moved"].astype(jnp.float32)
    copied, painted = ((kind == value).astype(jnp.float32) for value in (COPIED, PAINTED))
    dynamics = jnp.concatenate([motion.dynamics for motion in motions])
    truth = jnp.concatenate([pairs["source_latent"], pairs["latent"], pairs["latent"]])
    valid = jnp.concatenate([pairs["valid_source_latent"], pairs["valid_latent"], pairs["valid_latent"]])
    return {
        "anchor": anchor_loss(dynamics, truth, valid),
        "flow": place_loss(use.places, moved, copied, weight),
        "flow_coarse": coarse_place_loss(use.places_coarse, moved, copied, size),
        "kept": kept_loss(use.kept[..., 0], copied, painted, weight),
    }


def repeated(tree: Any, times: int) -> Any:
    """Returns each row of every array `times` times."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, times, 0), tree)


def first_of(x: Shaped[Array, "B *rest"], sources: int) -> Shaped[Array, "S *rest"]:
    """Returns the rows of each source's first driver."""
    return x.reshape(sources, -1, *x.shape[1:])[:, 0]


def following(x: Shaped[Array, "B *rest"], step: int = 1) -> Shaped[Array, "B *rest"]:
    """Returns for each row the one that follows it in the batch, in a circle."""
    return jnp.roll(x, -step, 0)
