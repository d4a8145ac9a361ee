"""One batch of four kinds of sources: photo heads, rendered heads, real clips, stills; in the form of `face_pairs`.

Beside that form every batch has what only photo heads tell, zeros elsewhere (`corpus.photos.groups`): `latent`,
`source_latent`, `moved`, `kind`, with `valid_latent`, `valid_source_latent` and kind 0 where it is not told; and where
they are asked for the landmarks of rendered heads, zeros elsewhere.
"""

import functools
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array

from vasa_jax.config import CorpusConfig, FaceConfig, PhotoHeadsConfig
from vasa_jax.corpus.devices import on_each_device
from vasa_jax.corpus.photos.cache import PhotoCache
from vasa_jax.corpus.photos.clip_pairs import ClipPairs
from vasa_jax.corpus.photos.still_pairs import StillPairs
from vasa_jax.corpus.photos.topology import Mesh
from vasa_jax.corpus.render_cache import LANDMARK_FIELDS, RenderCache
from vasa_jax.data.step_iterator import StepIterator
from vasa_jax.errors import InputError
from vasa_jax.models.face import face_codec
from vasa_jax.models.face_encoder import VASAFaceEncoder
from vasa_jax.models.layers import fold_standardisation
from vasa_jax.weights.parts import load_part

Pairs = dict[str, Array]
KINDS = ("photo_heads", "rendered", "clips", "stills")
RENDERED = KINDS.index("rendered")
_LANDMARKS = tuple(f"_{name}" for name in LANDMARK_FIELDS)
APART = 1_000_000  # between the numbers of persons of two kinds


def parts_of(settings: PhotoHeadsConfig, batch_size: int, drivers: int, devices: int) -> tuple[int, int, int, int]:
    """Returns how many pairs of a batch are of each of KINDS; every device gets whole sources.

    InputError for a batch in which photo heads, or others that are asked for, get no source.
    """
    unit = drivers * devices
    if batch_size % unit:
        raise InputError(
            f"config.train.batch_size: {batch_size} pairs of {drivers} drivers a source do not spread over {devices} "
            f"devices; choose a multiple of {unit}"
        )
    units = batch_size // unit
    photos = round(settings.share * units)
    clips = round(settings.clip_share * units) if settings.clips else 0
    stills = round(settings.still_share * units) if settings.people else 0
    asked = [("share", photos)] + [("clip_share", clips)] * bool(settings.clips and settings.clip_share)
    asked += [("still_share", stills)] * bool(settings.people and settings.still_share)
    for name, count in asked:
        if not count:
            raise InputError(
                f"config.photo_heads.{name}: {getattr(settings, name)} of {units} sources per device is none; choose "
                f"more, or a larger config.train.batch_size than {batch_size}"
            )
    return photos * unit, max(units - photos - clips - stills, 0) * unit, clips * unit, stills * unit


def read_anchor(face: FaceConfig, size: int) -> tuple[VASAFaceEncoder, Any]:
    """Returns the encoder of `face.anchor_from` and its parameters; InputError where it is of another size or width."""
    params, metadata = load_part(face.anchor_from, "face")
    encoder, _ = face_codec(metadata["fields"])
    wanted = face_codec(face.variant)[0].dynamics_width
    if not isinstance(encoder, VASAFaceEncoder) or (encoder.image_size, encoder.dynamics_width) != (size, wanted):
        raise InputError(
            f"config.face.anchor_from: {face.anchor_from or 'the shipped codec'} is none of {size} pixels and {wanted} "
            "numbers of dynamics; name one that is"
        )
    return encoder, jax.jit(fold_standardisation)(params)["encoder"]


def open_mixture(
    settings: PhotoHeadsConfig,
    corpus: CorpusConfig,
    mesh: Mesh,
    size: int,
    anchor: tuple[VASAFaceEncoder, Any] | None,
    batch_size: int,
    seed: int,
    sharding: NamedSharding | None = None,
    landmarks: bool = False,
) -> "Mixture":
    """Returns batches of KINDS; InputError for folders, tables and shares that cannot work.

    size, anchor: as of `PhotoCache`. landmarks: whether rendered heads, which a batch then must have, have theirs.
    """
    drivers = corpus.drivers
    devices = sharding.num_devices if sharding else 1
    photos, rendered, clips, stills = parts_of(settings, batch_size, drivers, devices)
    parts: dict[str, StepIterator] = {
        "photo_heads": PhotoCache(settings, mesh, size, anchor, photos, drivers, corpus.supersample, seed, sharding)
    }
    if landmarks and not rendered:
        raise InputError(
            "config.photo_heads.share: leaves no rendered heads in a batch, whose landmarks guide keypoints; lower it"
        )
    if rendered:
        parts["rendered"] = RenderCache(
            corpus, size, rendered, "counterfactual", seed, "face", sharding, landmarks=landmarks
        )
    if clips:
        parts["clips"] = ClipPairs(settings, size, clips, drivers, seed, sharding)
    if stills:
        parts["stills"] = StillPairs(settings, mesh, size, stills, drivers, corpus.supersample, seed, sharding)
    return Mixture(parts, sharding)


class Mixture(StepIterator):
    """Joins iterators of pairs by their names in KINDS; the first one's batches have what photo heads tell.

    `person` counts from APART times the number of the kind.
    """

    def __init__(self, parts: Mapping[str, StepIterator], sharding: NamedSharding | None = None):
        self._parts, self._sharding, self._fresh = dict(parts), sharding, True

    def state(self) -> dict[str, int]:
        """Returns the position and what decides the batches of each part."""
        step = {"step": self._step}
        for kind, part in self._parts.items():
            step |= {f"{kind}.{name}": value for name, value in part.state().items()}
        return step

    def restore(self, state: dict[str, int]) -> None:
        """Continues there; InputError names a setting that differs."""
        self._step = int(state["step"])
        for kind, part in self._parts.items():
            prefix = f"{kind}."
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            part.restore(own)

    def batch(self, step: int) -> Pairs:
        if self._fresh:  # the first batches compile renderers, for minutes on a GPU: side by side
            self._fresh = False
            with ThreadPoolExecutor(len(self._parts)) as pool:
                batches = tuple(pool.map(next, self._parts.values()))
        else:
            batches = tuple(next(part) for part in self._parts.values())
        return _joined(batches, tuple(map(KINDS.index, self._parts)), self._sharding)


def kind_of(person: Array) -> Array:
    """Returns the numbers in KINDS of persons of a mixed batch."""
    return person // APART


@functools.partial(jax.jit, static_argnums=(1, 2))
def _joined(parts: tuple[Pairs, ...], kinds: tuple[int, ...], sharding: NamedSharding | None) -> Pairs:
    """Parts of every device one behind the other, so that no row changes its device."""
    join = functools.partial(_join, kinds)
    return on_each_device(join, sharding, *[False] * len(parts))(*parts)


def _join(kinds: tuple[int, ...], *parts: Pairs) -> Pairs:
    told = {name: (x, parts[0]) for name, x in parts[0].items()}  # an array, and the part that it is of
    for part in parts:
        told |= {name: (x, part) for name, x in part.items() if name.endswith(_LANDMARKS)}
    whole = []
    for number, part in zip(kinds, parts):
        blank = {}
        for name, (x, owner) in told.items():
            rows = "source" if len(x) == len(owner["source"]) else "driver"
            blank[name] = jnp.zeros((len(part[rows]), *x.shape[1:]), x.dtype)
        whole.append({**blank, **part, "person": part["person"] + number * APART})
    return {name: jnp.concatenate([part[name].astype(x.dtype) for part in whole]) for name, (x, _) in told.items()}
