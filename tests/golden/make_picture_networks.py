"""Writes picture_networks.npz: outputs and tensors' names of the published PyTorch classes that FID and AED stand on.

    python tests/golden/make_picture_networks.py FID DEEP3D

Checkouts of mseitzer/pytorch-fid and sicxu/Deep3DFaceRecon_pytorch. Needs PyTorch and torchvision. Weights are drawn by
name (tests/helpers/official_state.py), so that only outputs are stored. Inception gets small pictures.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import FACE_MODEL_INPUT, INCEPTION_INPUT, inputs, random_state  # noqa: E402


def shapes_of(model):
    state = model.state_dict()
    return {name: tuple(v.shape) for name, v in state.items() if not name.endswith("num_batches_tracked")}


def torch_state(shapes):
    return {name: torch.from_numpy(value) for name, value in random_state(shapes).items()}


def inception(folder):
    """The network with its last layer, whose names the file has, and FID's part of it."""
    sys.path.insert(0, str(Path(folder) / "src"))
    module, whole = importlib.import_module("pytorch_fid.inception"), []

    class Drawn(dict):
        """In the place of the download: the tensors of whatever network is filled with it."""

    def load(self, state, strict=True):
        if isinstance(state, Drawn):
            whole.append(shapes_of(self))
            state = torch_state(whole[-1])
        return torch.nn.Module.load_state_dict(self, state, strict=False)

    importlib.import_module("torchvision").models.Inception3.load_state_dict = load
    module.load_state_dict_from_url = lambda *_, **__: Drawn()
    return module.InceptionV3(resize_input=False, normalize_input=False).double().eval(), whole[0]


def face_model(folder):
    """The reconstruction network; what else its module imports is not needed."""
    for name, path in (("d3", Path(folder)), ("d3.models", Path(folder) / "models")):
        sys.modules[name] = package = types.ModuleType(name)
        package.__path__ = [str(path)]
    for name, content in (("kornia", {}), ("kornia.geometry", {"warp_affine": None}), ("d3.models.arcface_torch", {}),
                          ("d3.models.arcface_torch.backbones", {"get_model": None})):  # fmt: skip
        sys.modules[name] = types.SimpleNamespace(**content, __path__=[])
    network = importlib.import_module("d3.models.networks").define_net_recon("resnet50")
    shapes = shapes_of(network)
    network.load_state_dict(torch_state(shapes), strict=False)
    return network.double().eval(), shapes


@torch.no_grad()
def main(fid_folder, deep3d_folder):
    arrays = {}
    made = {"inception": (inception(fid_folder), INCEPTION_INPUT),
            "face_model": (face_model(deep3d_folder), FACE_MODEL_INPUT)}  # fmt: skip
    for name, ((network, shapes), shape) in made.items():
        found = network(torch.from_numpy(inputs(name, *shape).astype(np.float64)).permute(0, 3, 1, 2))
        found = (found[0] if isinstance(found, list) else found).flatten(1)
        print(name, tuple(found.shape), "standard deviation", float(found.std()), len(shapes), "tensors")
        arrays[name] = found.numpy().astype(np.float32)
        arrays[f"{name}/keys"] = np.array([f"{key} {'x'.join(map(str, shape))}" for key, shape in shapes.items()])
    np.savez_compressed(HERE / "picture_networks.npz", **arrays)


main(*sys.argv[1:])
