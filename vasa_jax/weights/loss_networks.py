"""The judges of the losses from a directory: those trained here, and well-known ones that the user has.

| file | network | judges |
|---|---|---|
| judge.safetensors | `training/tasks/loss_networks.py` | perceptual and identity |
| vgg19.safetensors | torchvision's vgg19, keys `features.N.weight` | perceptual |
| vggface.safetensors | VGG-16 of VGGFace, keys `conv1_1.weight` | perceptual, of the face alone |
| arcface.safetensors | IResNet of ArcFace, keys `layer1.0.conv1.weight` | identity, in place of ours |

PyTorch checkpoints become such files by `safetensors.torch.save_file(torch.load("x.pth", weights_only=True), ...)`.
None is downloaded, and their licences are the user's matter.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.errors import InputError
from vasa_jax.losses.perceptual import FeatureJudge, Judges
from vasa_jax.models.backbones import VGG, VGG19, VGGFACE, IResNet, VGGLayout
from vasa_jax.models.layers import Dtype, fold_standardisation
from vasa_jax.models.loss_networks import IdentityJudge, PerceptualJudge
from vasa_jax.weights.networks import check_part, check_shapes, expected_shapes, initial_shapes, shapes_of
from vasa_jax.weights.safetensors_io import load_params
from vasa_jax.weights.tensor_files import flat_state, read_tensors

Flat = Mapping[str, np.ndarray]

FILES = ("judge", "vgg19", "vggface", "arcface")
OWN_LAYERS = (1.0, 1.0, 1.0, 1.0)
VGG19_LAYERS = (0.2,) * 5
VGGFACE_LAYERS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
# Middle of a frame in the project's crop that an ArcFace template shows when the head faces the camera.
ARCFACE_SHARE = 0.64
_EPSILON = 1e-5  # of PyTorch's batch norms


def load_judges(directory: str | Path, dtype: Dtype = jnp.float32) -> Judges:
    """Loads all judges of a directory; InputError when it has none, or a file's keys are not those of its network."""
    folder = Path(directory)
    found = [name for name in FILES if (folder / f"{name}.safetensors").is_file()]
    if not found:
        raise InputError(
            f"config.face.judge: {folder} has none of {', '.join(f'{name}.safetensors' for name in FILES)}; "
            "train one with configs/train_loss_networks.py, or leave it empty"
        )
    params: dict[str, Any] = {}
    perceptual, identity = {}, None
    if "judge" in found:
        own, fields = _own(folder / "judge.safetensors")
        own = jax.device_get(jax.jit(fold_standardisation)(own))
        network, person = PerceptualJudge(**fields, dtype=dtype), IdentityJudge(dtype=dtype)
        params |= {"judge": own["perceptual"], "identity": own["identity"]}

        def own_features(p, image):
            return network.apply({"params": p}, image, method="features")

        def identity(p, image):
            return person.apply({"params": p}, image)

        perceptual["judge"] = FeatureJudge(own_features, OWN_LAYERS)
    for name, layout, read, layers in (
        ("vgg19", VGG19, torchvision_vgg_params, VGG19_LAYERS),
        ("vggface", VGGFACE, vggface_params, VGGFACE_LAYERS),
    ):
        if name in found:
            vgg = VGG(layout, dtype=dtype)
            params[name] = converted(folder / f"{name}.safetensors", read, lambda _, vgg=vgg: vgg)
            perceptual[name] = FeatureJudge(
                _vgg_features(layout, dtype), layers, scales=4, relative=False, faces=layout is VGGFACE
            )
    if "arcface" in found:
        params["identity"] = converted(
            folder / "arcface.safetensors", arcface_params, lambda found: IResNet(depths=iresnet_depths(found))
        )
        network_of_faces = IResNet(depths=iresnet_depths(params["identity"]), dtype=dtype)

        def identity(p, image):
            return network_of_faces.apply({"params": p}, middle(image, ARCFACE_SHARE))

    return Judges(params, perceptual, identity)


def torchvision_vgg_params(flat: Flat, layout: VGGLayout = VGG19) -> dict[str, Any]:
    """Returns parameters of `VGG(layout)` from torchvision's names: a layer's position in `features`, activations and
    poolings counted."""
    params, position = {}, 0
    for stage, depth in enumerate(layout.depths, start=1):
        for i in range(1, depth + 1):
            params[f"conv{stage}_{i}"] = conv_params(flat, f"features.{position}")
            position += 2
        # Behind the taken part of the last stage nothing is read.
        position += 1
    return params


def vggface_params(flat: Flat) -> dict[str, Any]:
    """Returns parameters of `VGG(VGGFACE)` from `convS_I` names."""
    names = [f"conv{s}_{i}" for s, depth in enumerate(VGGFACE.depths, start=1) for i in range(1, depth + 1)]
    return {name: conv_params(flat, name) for name in names}


def arcface_params(flat: Flat) -> dict[str, Any]:
    """Returns parameters of `IResNet` of any depth from insightface's names."""
    params: dict[str, Any] = {
        "conv1": conv_params(flat, "conv1"),
        "bn1": _norm(flat, "bn1"),
        "prelu": {"slope": flat["prelu.weight"]},
        "bn2": _norm(flat, "bn2"),
        "fc": {"kernel": flat["fc.weight"].T, "bias": flat["fc.bias"]},
        "features": _norm(flat, "features"),
    }
    blocks = sorted({tuple(key.split(".")[:2]) for key in flat if key.startswith("layer")})
    for layer, number in blocks:
        at = f"{layer}.{number}"
        block = {name: _norm(flat, f"{at}.{name}") for name in ("bn1", "bn2", "bn3")}
        block |= {name: conv_params(flat, f"{at}.{name}") for name in ("conv1", "conv2")}
        block["prelu"] = {"slope": flat[f"{at}.prelu.weight"]}
        if f"{at}.downsample.0.weight" in flat:
            block |= {"skip": conv_params(flat, f"{at}.downsample.0"), "skip_bn": _norm(flat, f"{at}.downsample.1")}
        params[f"{layer}_{number}"] = block
    return params


def iresnet_depths(params: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the blocks per stage of `arcface_params`' result."""
    return tuple(sum(name.startswith(f"layer{stage}_") for name in params) for stage in range(1, 5))


def middle(image, share: float):
    """Cuts out the central `share` of images (B, n, n, 3) per axis."""
    margin = round(image.shape[1] * (1.0 - share) / 2.0)
    return image[:, margin : image.shape[1] - margin, margin : image.shape[2] - margin]


def _vgg_features(layout: VGGLayout, dtype: Dtype):
    def features(p, image):
        return VGG(layout, dtype=dtype).apply({"params": p}, image)

    return features


def _own(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    def check(shapes: dict[str, tuple[int, ...]], metadata: dict[str, Any]) -> None:
        if "fields" not in metadata:
            raise InputError(f"{path}: not a judge (no fields); export it again")
        check_part("judge", str(path), shapes, metadata)

    params, metadata = load_params(path, check)
    return params, metadata["fields"]


def converted(path: Path, read: Callable, network_of: Callable) -> dict[str, Any]:
    """Returns what `read` makes of a file, safetensors or pickled.

    InputError where these are no finite parameters of the network that `network_of` makes of them.
    """
    remedy = "give the network that weights/loss_networks.py or weights/lpips.py names"
    if path.suffix == ".safetensors":
        flat = traverse_util.flatten_dict(load_params(path)[0], sep=".")
    else:
        flat = flat_state(read_tensors(path))
    try:
        with np.errstate(all="ignore"):
            params = read(flat)
    except KeyError as error:
        raise InputError(f"{path}: the key {error} is missing; {remedy}") from error
    except (ValueError, TypeError) as error:  # tensors of another number of axes
        raise InputError(f"{path}: a tensor of another shape ({error}); {remedy}") from error
    network = network_of(params)
    expected = expected_shapes(lambda: initial_shapes(network, jnp.zeros((1, 112, 112, 3))), str(path))
    check_shapes(str(path), shapes_of(params), expected)
    for name, value in traverse_util.flatten_dict(params, sep=".").items():
        if not np.isfinite(value).all():
            raise InputError(f"{path}: '{name}' is not finite; {remedy}")
    return params


def conv_params(flat: Flat, name: str) -> dict[str, np.ndarray]:
    """Returns kernel (h, w, in, out), and bias where there is one, of a layer in PyTorch's order."""
    layer = {"kernel": flat[f"{name}.weight"].transpose(2, 3, 1, 0)}
    return layer | ({"bias": flat[f"{name}.bias"]} if f"{name}.bias" in flat else {})


def _norm(flat: Flat, name: str) -> dict[str, np.ndarray]:
    scale = flat[f"{name}.weight"] / np.sqrt(flat[f"{name}.running_var"] + _EPSILON)
    return {"scale": scale, "bias": flat[f"{name}.bias"] - flat[f"{name}.running_mean"] * scale}
