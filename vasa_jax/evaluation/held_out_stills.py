"""The fixed set that a codec is judged on: held-out people in broad stills, with the exact truth of every transfer.

A still's head pose is drawn apart from its dynamics, so that neither tells anything of the other: in the stills that
networks train on, eyes follow the head.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.corpus.heads.truth import MOTION_FACTORS, Scene, exchanged
from vasa_jax.corpus.performance.muscles import neutral_motion, sample_motion
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.rng import named_key

HELD_OUT_STILLS = "vasa_jax.heldout_stills.1"  # the set's name in reports; another way to make it gets another number
DYNAMICS = tuple(name for factor, names in MOTION_FACTORS.items() if factor != "pose" for name in names)


@dataclasses.dataclass(frozen=True)
class Stills:
    """Pictures of one person with their labels."""

    rgb: np.ndarray  # uint8 (N, n, n, 3)
    mask: np.ndarray  # bool (N, n, n): head and body
    landmarks: np.ndarray  # (N, len(LANDMARKS), 2)
    labels: dict[str, np.ndarray]  # held_out.LABELS over N stills
    motion: dict[str, np.ndarray]  # (N,) by name


@dataclasses.dataclass(frozen=True)
class HeldOutPerson:
    """One person in S stills, and who drives it."""

    name: str
    portrait: np.ndarray  # uint8 (n, n, 3), the face at rest
    stills: Stills
    drivers: Stills  # the next person of the set in the same S motions
    mixed: Stills  # K: the dynamics of still k with the head pose of `partner(k)`

    def partner(self) -> np.ndarray:
        """(K,) numbers of the stills whose head pose `mixed` has."""
        return (np.arange(len(self.mixed.rgb)) + 1) % len(self.stills.rgb)


@functools.partial(jax.jit, static_argnums=1)
def motions_with_other_poses(key: jax.Array, count: int) -> dict[str, jax.Array]:
    """(count,) tracks by name: dynamics of one draw each, head pose of another; more do not change the first ones."""

    def draws(stream):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, stream), jnp.arange(count))
        return jax.vmap(sample_motion)(keys)

    return exchanged(Scene({}, draws(0)), Scene({}, draws(1)), "pose").motion


class HeldOutStills:
    """`count` people in `stills` stills each, `mixed` of them also in another's head pose; deterministic by seed.

    The people are those of `held_out.HeldOutSet`. Indexing renders anew at every call.
    """

    def __init__(self, count: int, stills: int, mixed: int, size: int, seed: int = 0, supersample: int = 2):
        if not 0 < mixed <= stills or stills < 2:
            raise ValueError(f"{mixed} of {stills} stills in another's head pose; at least 2 stills are needed")
        self._people = HeldOutHeads(size, seed, supersample)
        self._count, self._stills, self._mixed = count, stills, mixed
        self._key = named_key(seed, "heldout stills")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> HeldOutPerson:
        identity, following = (self._people.identity(i % self._count) for i in (index, index + 1))
        motion = jax.device_get(motions_with_other_poses(jax.random.fold_in(self._key, index), self._stills))
        rows = np.arange(self._mixed)
        own, other = (
            Scene({}, {name: track[which] for name, track in motion.items()})
            for which in (rows, (rows + 1) % self._stills)
        )
        mixed = exchanged(own, other, "pose").motion
        rest = {name: np.float32(value)[None] for name, value in neutral_motion().items()}
        # Rendered together, so that few batches are filled up.
        every = {name: np.concatenate([rest[name], motion[name], mixed[name]]) for name in motion}
        shown = self._shown(identity, every)
        return HeldOutPerson(
            name=f"head_{index:02d}",
            portrait=shown.rgb[0],
            stills=_part(shown, slice(1, 1 + self._stills)),
            drivers=self._shown(following, motion),
            mixed=_part(shown, slice(1 + self._stills, None)),
        )

    def _shown(self, identity: dict[str, np.ndarray], motion: dict[str, np.ndarray]) -> Stills:
        pictures = self._people.render(identity, motion)
        return Stills(
            rgb=pictures["rgb"],
            mask=pictures["matte"] > 0.5,
            landmarks=pictures["landmarks"][:, :, :2],
            labels=self._people.label(identity, motion),
            motion=motion,
        )


def _part(stills: Stills, rows: slice) -> Stills:
    fields = {field.name: getattr(stills, field.name) for field in dataclasses.fields(stills)}
    return Stills(**jax.tree.map(lambda value: value[rows], fields))
