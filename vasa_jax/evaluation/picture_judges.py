"""Pictures against their truth by networks that the user has: CSIM by ArcFace, LPIPS, distances of features.

The files are those of the codec's losses (weights/loss_networks.py) and of LPIPS (weights/lpips.py). What ArcFace says
is called CSIM (VASA-1 and others); what this project's own network says has a name of its own. LPIPS (Zhang et al.
2018) weighs the channels of its networks by learnt numbers. Only with the published ones is a distance called LPIPS.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vasa_jax.errors import InputError
from vasa_jax.losses.perceptual import Judges, feature_distance
from vasa_jax.weights.loss_networks import FILES, load_judges
from vasa_jax.weights.lpips import TRUNKS, find_lpips, load_linear, load_trunk

_BATCH = 10  # pictures at once
_EPSILON = 1e-10  # LPIPS', beside the length of a place's features


class Weighed(NamedTuple):
    """A network whose features are compared as LPIPS does.

    linear: a weight of each channel, (C,) for each layer, as published; None: all are 1.
    """

    features: Callable[[Any, Array], list[Array]]
    params: Any
    linear: Sequence[np.ndarray] | None = None


class PictureJudges:
    """Compares pictures by the networks of a folder."""

    def __init__(self, judges: Judges, arcface: bool, weighed: Mapping[str, Weighed] | None = None):
        self._judges, self._identity = judges, "csim" if arcface else "identity_judge"
        self._weighed = dict(weighed or {})
        self._params = jax.device_put({"judges": judges.params, **{n: w.params for n, w in self._weighed.items()}})
        self._compiled = jax.jit(self._distances)

    @classmethod
    def open(cls, directory: str | Path) -> tuple["PictureJudges", dict[str, Path]]:
        """Loads the networks of a folder, and returns their files by name too. InputError where there is none."""
        files = {name: Path(directory) / f"{name}.safetensors" for name in FILES}
        files = {name: path for name, path in files.items() if path.is_file()}
        of_lpips = find_lpips(directory)
        if not files and not of_lpips:
            raise InputError(
                f"config.videos_evaluation.loss_networks: {directory} has none of {', '.join(FILES)} .safetensors, "
                f"nor {' or '.join(trunk.files[0] for trunk in TRUNKS.values())}; "
                "give their folder, or leave it empty"
            )
        judges = load_judges(directory) if files else Judges({})
        return cls(judges, "arcface" in files, _lpips_networks(of_lpips)), files | of_lpips

    def compare(
        self, pictures: UInt8[np.ndarray, "N n n 3"], truth: UInt8[np.ndarray, "N n n 3"]
    ) -> dict[str, float]:
        """Returns means over pairs: csim or identity_judge, a cosine; features_NAME or lpips_NAME of each network."""
        rows = []
        for start in range(0, len(pictures), _BATCH):
            part = slice(start, start + _BATCH)
            found = self._compiled(self._params, pictures[part], truth[part])
            rows += [{name: float(values[i]) for name, values in found.items()} for i in range(len(pictures[part]))]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _distances(self, params, a, b):
        """Each pair alone, so that a mean over pairs does not depend on how they were batched."""
        a, b = (picture.astype(jnp.float32)[:, None] / 255.0 for picture in (a, b))
        judges, of_judges, found = self._judges, params["judges"], {}
        for name in judges.of_pictures:
            judge = judges.perceptual[name]
            distance = jax.lax.map(lambda pair, j=judge, n=name: feature_distance(j, of_judges[n], *pair), (a, b))
            found[f"features_{name}"] = distance
        if judges.identity is not None:
            found[self._identity] = jax.lax.map(lambda pair: judges.similarity(of_judges, *pair), (a, b))
        for name, network in self._weighed.items():

            def distance(pair, network=network, own=params[name]):
                features = [network.features(own, image) for image in pair]
                return weighed_distance(*features, network.linear)[0]

            found[f"{'features' if network.linear is None else 'lpips'}_{name}"] = jax.lax.map(distance, (a, b))
        return found


def weighed_distance(
    found: Sequence[Float[Array, "B _ _ _"]],
    wanted: Sequence[Float[Array, "B _ _ _"]],
    linear: Sequence[Float[np.ndarray, "_"]] | None,
) -> Float[Array, "B"]:
    """Returns LPIPS of feature maps (B, h, w, c) of each layer (Zhang et al. 2018, equation 1).

    Features of a place become directions. Squares of their differences are weighed and summed over channels, averaged
    over places, and summed over layers. linear None: all weights are 1.
    """
    total = 0.0
    for layer, pair in enumerate(zip(found, wanted, strict=True)):
        a, b = (x / (jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)) + _EPSILON) for x in pair)
        weights = 1.0 if linear is None else jnp.asarray(linear[layer])
        total += (weights * jnp.square(a - b)).sum(-1).mean((1, 2))
    return total


def _lpips_networks(files: Mapping[str, Path]) -> dict[str, Weighed]:
    networks = {}
    for name, trunk in TRUNKS.items():
        if name in files:
            network, path = trunk.network(), files.get(f"{name}_linear")
            networks[name] = Weighed(
                lambda params, image, network=network: network.apply({"params": params}, image),
                load_trunk(files[name], name),
                load_linear(path, name) if path else None,
            )
    return networks
