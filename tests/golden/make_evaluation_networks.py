"""Writes evaluation_networks.npz: outputs of the published PyTorch classes, for the parity tests of SyncNet and I3D.

    python tests/golden/make_evaluation_networks.py SYNCNET I3D

Checkouts of joonson/syncnet_python and piergiaj/pytorch-i3d. Needs PyTorch. Weights are drawn by name
(tests/helpers/official_state.py), so that only outputs are stored. I3D gets small pictures, and poolings to match.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import I3D_INPUT, inputs, random_state  # noqa: E402

EPSILON = 1e-5  # TATS, whose weights are meant, has changed it from 1e-3


def loaded(model):
    state = random_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model.double().eval()


@torch.no_grad()
def main(syncnet_folder, i3d_folder):
    sys.path[:0] = [syncnet_folder, i3d_folder]
    syncnet = loaded(importlib.import_module("SyncNetModel").S())
    frames = torch.from_numpy(inputs("syncnet frames", 2, 5, 224, 224, 3).astype(np.float64)).permute(0, 4, 1, 2, 3)
    sound = torch.from_numpy(inputs("syncnet sound", 2, 20, 13).astype(np.float64)).permute(0, 2, 1)[:, None]
    i3d = importlib.import_module("pytorch_i3d").InceptionI3d(400, in_channels=3)
    for module in i3d.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.eps = EPSILON
    i3d = loaded(i3d)
    videos = torch.from_numpy(inputs("i3d", *I3D_INPUT).astype(np.float64)).permute(0, 4, 1, 2, 3)
    side = -(-I3D_INPUT[2] // 32)
    i3d.avg_pool = torch.nn.AvgPool3d((2, side, side), (1, 1, 1))
    arrays = {"syncnet/lip": syncnet.forward_lip(frames), "syncnet/aud": syncnet.forward_aud(sound),
              "i3d": i3d(videos).mean(2)}  # fmt: skip
    for name, value in arrays.items():
        print(name, tuple(value.shape), "standard deviation", float(value.std()))
    np.savez_compressed(
        HERE / "evaluation_networks.npz", **{name: value.numpy().astype(np.float32) for name, value in arrays.items()}
    )


main(*sys.argv[1:])
