"""Writes face_vid2vid.npz: face-vid2vid's detectors at random weights, for the tests of their import.

    python tests/golden/make_face_vid2vid.py FACE_VID2VID

FACE_VID2VID: a checkout of zhengkw18/face-vid2vid. Needs PyTorch. Stored are the key tables of the checkpoint's two
networks at full and at narrow widths, and their outputs; weights and pictures are drawn by name.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import inputs, random_state  # noqa: E402

NARROW = {
    "ckd": {"down_seq": [3, 8, 8, 12, 16, 24], "up_seq": [24, 16, 12, 8, 8, 6], "K": 5, "D": 8},
    "hpe_ede": {"n_filters": [8, 16, 24, 32, 48], "n_blocks": [1, 2, 1, 1], "K": 5},
}


def drawn(name, module):
    """The module at random weights, in evaluation mode; and its key table under the names in a checkpoint."""
    shapes = {f"{name}.{key}": list(value.shape) for key, value in module.state_dict().items()}
    state = {key.removeprefix(f"{name}."): torch.tensor(value) for key, value in random_state(shapes).items()}
    module.load_state_dict(state)
    return module.eval(), shapes


def outputs(models, utils, settings, side):
    """Key table, and what both networks say of two pictures; posed: keypoints as face-vid2vid turns and moves them."""
    with torch.no_grad():
        detector, keys = drawn("ckd", models.CKD(**settings["ckd"]))
        estimator, more = drawn("hpe_ede", models.HPE_EDE(**settings["hpe_ede"]))
        image = torch.tensor(inputs("face", 2, 3, side, side)).sigmoid()
        keypoints = detector(image)
        yaw, pitch, roll, shift, expression = estimator(image)
        posed, _ = utils.transform_kp(keypoints, yaw, pitch, roll, shift, expression)
    found = {"keypoints": keypoints, "expression": expression, "t": shift, "posed": posed}
    found |= {"angles": torch.stack([pitch, yaw, roll], -1)}
    return keys | more, {name: value.numpy() for name, value in found.items()}


def main(folder):
    sys.path.insert(0, folder)
    torch.Tensor.cuda = lambda self, *_, **__: self  # the modules put constants on a GPU
    models, utils = importlib.import_module("models"), importlib.import_module("utils")
    content = {}
    for kind, settings, side in (("published", {"ckd": {}, "hpe_ede": {}}, 256), ("narrow", NARROW, 128)):
        keys, found = outputs(models, utils, settings, side)
        table = {name: "x".join(map(str, shape)) for name, shape in keys.items()}
        content[f"{kind}.keys"] = np.array(json.dumps(table))
        content |= {f"{kind}.{name}": value for name, value in found.items()}
        print(f"{kind}: {len(keys)} keys, {sum(int(np.prod(shape)) for shape in keys.values()):,} numbers")
        for name, value in found.items():
            print(f"  {name}: {value.shape}, deviation {value.std():.3g}")
    np.savez_compressed(HERE / "face_vid2vid.npz", **content)
    print(f"face_vid2vid.npz: {(HERE / 'face_vid2vid.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
