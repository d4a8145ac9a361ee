"""Writes judges.npz from PyTorch's own layers, for the parity test of the networks that judge images.

    python tests/golden/make_judges.py

Needs PyTorch. The networks are narrow and have the published names: VGG-19 (torchvision's `features.N`), VGG-16 of
VGGFace (`convS_I`), and ArcFace's IResNet. Weights are drawn by name (tests/helpers/official_state.py), so only some
of the outputs on one image are stored.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import random_state, spread  # noqa: E402

STORED = 300  # about so many numbers of each output
VGG_WIDTHS = (4, 6, 8, 6, 4)
VGG_INPUTS = {
    "vgg19": ((2, 2, 4, 4, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vggface": ((2, 2, 3, 3, 1), (129.1863 / 255, 104.7624 / 255, 93.5940 / 255), (1 / 255,) * 3),
}  # convolutions of each stage as far as relu5_1, mean and deviation of the inputs
ARC_DEPTHS, ARC_WIDTHS, ARC_EMBEDDING = (1, 2, 1, 1), (4, 4, 6, 6), 8


def vgg(kind):
    """Layers under the published names: torchvision counts all of them, VGGFace names convolutions by stage."""
    layers, before = OrderedDict(), 3
    for stage, (depth, width) in enumerate(zip(VGG_INPUTS[kind][0], VGG_WIDTHS), start=1):
        if stage > 1:
            layers[f"{len(layers)}" if kind == "vgg19" else f"pool{stage}"] = nn.MaxPool2d(2, 2)
        for i in range(1, depth + 1):
            layers[f"{len(layers)}" if kind == "vgg19" else f"conv{stage}_{i}"] = nn.Conv2d(before, width, 3, padding=1)
            layers[f"{len(layers)}" if kind == "vgg19" else f"relu{stage}_{i}"] = nn.ReLU()
            before = width
    network = nn.Sequential(layers)
    return nn.Sequential(OrderedDict(features=network)) if kind == "vgg19" else network


class Block(nn.Module):
    """ArcFace's residual block: norm, convolution, norm, PReLU, convolution with the stride, norm."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(before), nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(before, width, 3, 1, 1, bias=False)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x):
        h = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(h)) + self.downsample(x)


class IResNet(nn.Module):
    """ArcFace's residual network, for images of 112 pixels."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, ARC_WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(ARC_WIDTHS[0]), nn.PReLU(ARC_WIDTHS[0])
        before = ARC_WIDTHS[0]
        for stage, (depth, width) in enumerate(zip(ARC_DEPTHS, ARC_WIDTHS), start=1):
            blocks = [Block(before if i == 0 else width, width, 2 if i == 0 else 1) for i in range(depth)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            before = width
        self.bn2, self.fc = nn.BatchNorm2d(before), nn.Linear(before * 7 * 7, ARC_EMBEDDING)
        self.features = nn.BatchNorm1d(ARC_EMBEDDING)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, len(ARC_DEPTHS) + 1):
            x = getattr(self, f"layer{stage}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


def loaded(network):
    """The network in evaluation, in float64, with weights drawn by name."""
    state = random_state({name: tuple(value.shape) for name, value in network.state_dict().items()})
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return network.double().eval()


def image(side):
    pixels = np.random.default_rng(1).random((1, side, side, 3)).astype(np.float32)
    return torch.from_numpy(pixels.astype(np.float64)).permute(0, 3, 1, 2)


def main():
    arrays = {}
    with torch.no_grad():
        for kind, (_, mean, deviation) in VGG_INPUTS.items():
            x = (image(32) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
            network = loaded(vgg(kind))
            convolutions, stage = 0, 1
            for layer in network.features if kind == "vgg19" else network:
                x = layer(x)
                if isinstance(layer, nn.MaxPool2d):
                    convolutions, stage = 0, stage + 1
                elif isinstance(layer, nn.ReLU):
                    convolutions += 1
                    if convolutions == 1:
                        arrays[f"{kind}/relu{stage}_1"] = spread(x[0].permute(1, 2, 0).numpy(), STORED)
        arrays["arcface/embedding"] = loaded(IResNet())((image(112) - 0.5) / 0.5)[0].numpy()
    np.savez_compressed(HERE / "judges.npz", **{name: value.astype(np.float32) for name, value in arrays.items()})


main()
