"""Writes keypoint_keys.json and keypoint.npz from the official PyTorch modules, for the tests of the keypoint codec.

    python tests/golden/make_keypoint.py LIVEPORTRAIT

LIVEPORTRAIT: a checkout of KwaiVGI/LivePortrait. Needs PyTorch and what LivePortrait imports.
Only key tables and small samples of outputs at random weights are stored. References are float64 where memory allows.
Beside each module at its full width, a narrow codec is run from two pictures to the driven one by the official wrapper.
"""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import inputs, random_state, spread  # noqa: E402

SAMPLES = 2000  # numbers kept of a large output
SMALL = {
    "appearance_feature_extractor": {
        "image_channel": 3, "block_expansion": 8, "num_down_blocks": 2, "max_features": 32, "reshape_channel": 4,
        "reshape_depth": 8, "num_resblocks": 2,
    },
    "motion_extractor": {"depths": [1, 1, 2, 1], "dims": [8, 12, 16, 24], "num_kp": 5},
    "warping_module": {
        "num_kp": 5, "block_expansion": 8, "max_features": 32, "num_down_blocks": 2, "reshape_channel": 4,
        "estimate_occlusion_map": True,
        "dense_motion_params": {
            "block_expansion": 4, "max_features": 16, "num_blocks": 3, "reshape_depth": 8, "compress": 2,
        },
    },
    "spade_generator": {
        "upscale": 2, "block_expansion": 8, "max_features": 32, "num_down_blocks": 2, "out_channels": 16,
    },
    "stitching_retargeting_module": {
        "stitching": {"input_size": 30, "hidden_sizes": [128, 128, 64], "output_size": 17},
        "lip": {"input_size": 17, "hidden_sizes": [128, 128, 64], "output_size": 15},
        "eye": {"input_size": 18, "hidden_sizes": [256, 256, 128, 128, 64], "output_size": 15},
    },
}  # fmt: skip
STITCHING = {"stitching": "retarget_shoulder", "lip": "retarget_mouth", "eye": "retarget_eye"}


def sampled(tensor):
    """About SAMPLES numbers of a channels-first array, evenly spread over all of its axes, and its shape."""
    values = tensor.detach().double().numpy()
    return spread(values, SAMPLES).astype(np.float32), np.array(values.shape)


def load(module, prefix=""):
    """The module at random weights, float64, in evaluation mode; and its key table."""
    shapes = {prefix + name: list(value.shape) for name, value in module.state_dict().items()}
    state = {name.removeprefix(prefix): torch.tensor(value) for name, value in random_state(shapes).items()}
    module.load_state_dict(state)
    return module.eval().double(), shapes


def live_portrait(folder):
    """Key tables and outputs of the five files' modules."""
    sys.path.insert(0, str(folder))
    modules = {name: importlib.import_module(f"src.modules.{name}") for name in (
        "appearance_feature_extractor", "motion_extractor", "warping_network", "spade_generator",
        "stitching_retargeting_network", "util")}  # fmt: skip
    fields = yaml.safe_load((folder / "src/config/models.yaml").read_text())["model_params"]
    keys, found = {}, {}

    def keep(name, value):
        found[name], found[f"{name}.shape"] = sampled(value)

    with torch.no_grad():
        network = modules["appearance_feature_extractor"].AppearanceFeatureExtractor(
            **fields["appearance_feature_extractor_params"]
        )
        network, keys["appearance_feature_extractor"] = load(network)
        image = torch.tensor(inputs("image", 2, 3, 32, 40)).double().sigmoid()
        keep("appearance", network(image))

        network = modules["motion_extractor"].MotionExtractor(**fields["motion_extractor_params"])
        network, keys["motion_extractor"] = load(network)
        motion = network(torch.tensor(inputs("face", 2, 3, 64, 96)).double().sigmoid())
        for name, value in motion.items():
            keep(f"motion.{name}", value)
        camera = importlib.import_module("src.utils.camera")
        angles = [camera.headpose_pred_to_degree(2.0 * motion[name]) for name in ("pitch", "yaw", "roll")]
        rotation = camera.get_rotation_matrix(*angles)
        keep("degrees", torch.stack(angles, -1))
        keep("rotation", rotation)
        # Equation 2 of the paper as the official wrapper applies it; the wrapper itself needs a GPU's libraries.
        posed = motion["kp"].view(2, 21, 3) @ rotation + motion["exp"].view(2, 21, 3)
        posed = posed * motion["scale"][..., None]
        posed[:, :, :2] += motion["t"][:, None, :2]
        keep("posed", posed)

        network = modules["warping_network"].WarpingNetwork(**fields["warping_module_params"])
        # The mask's convolution takes more memory than a workstation has in float64.
        network, keys["warping_module"] = load(network)
        network = network.float()
        source = torch.tensor(inputs("source", 1, 21, 3, scale=0.3))
        driven = source + torch.tensor(inputs("driven", 1, 21, 3, scale=0.15))
        volume = torch.tensor(inputs("volume", 1, 32, 16, 32, 32, scale=0.5))
        for name, value in network(volume, kp_driving=driven, kp_source=source).items():
            keep(f"warp.{name}", value)

        network = modules["spade_generator"].SPADEDecoder(**fields["spade_generator_params"])
        network, keys["spade_generator"] = load(network)
        features = torch.tensor(inputs("features", 1, 256, 8, 8, scale=0.5)).double()
        hidden = {}
        handle = network.conv_img.register_forward_pre_hook(lambda _, values: hidden.update(x=values[0]))
        keep("generator", network(features))
        keep("generator.hidden", hidden["x"])
        handle.remove()
        keep("generator.contrast", network(20.0 * features))

        keys["stitching_retargeting_module"] = {}
        for name, widths in fields["stitching_retargeting_module_params"].items():
            network = modules["stitching_retargeting_network"].StitchingRetargetingNetwork(**widths)
            network, shapes = load(network, f"{STITCHING[name]}.module.")
            keys["stitching_retargeting_module"] |= shapes
            keep(name, network(torch.tensor(inputs(name, 3, widths["input_size"])).double()))
    return keys, found


def narrow_chain():
    """Key tables of a narrow codec, and its pictures: portrait and driving picture in, driven and stitched out."""
    from src.live_portrait_wrapper import LivePortraitWrapper
    from src.modules import (
        appearance_feature_extractor,
        convnextv2,
        motion_extractor,
        spade_generator,
        stitching_retargeting_network,
        warping_network,
    )

    class Narrow(LivePortraitWrapper):
        def __init__(self, networks):
            self.__dict__ |= networks

    keys, networks = {}, {}

    def add(name, network):
        networks[name], keys[name] = load(network)
        return networks[name]

    features = add("appearance_feature_extractor", appearance_feature_extractor.AppearanceFeatureExtractor(
        **SMALL["appearance_feature_extractor"]))  # fmt: skip
    motion_extractor.model_dict["narrow"] = convnextv2.ConvNeXtV2
    motion = add("motion_extractor", motion_extractor.MotionExtractor(backbone="narrow", **SMALL["motion_extractor"]))
    warp = add("warping_module", warping_network.WarpingNetwork(**SMALL["warping_module"]))
    generator = add("spade_generator", spade_generator.SPADEDecoder(**SMALL["spade_generator"]))
    small, shapes = {}, {}
    for name, widths in SMALL["stitching_retargeting_module"].items():
        network = stitching_retargeting_network.StitchingRetargetingNetwork(**widths)
        small[name], table = load(network, f"{STITCHING[name]}.module.")
        shapes |= table
    keys["stitching_retargeting_module"] = shapes
    wrapper = Narrow({"stitching_retargeting_module": small})

    found = {}
    with torch.no_grad():
        images = torch.tensor(inputs("chain", 3, 3, 128, 128)).double().sigmoid()
        images = torch.nn.functional.avg_pool2d(images, 2)
        portrait, driving = motion(images[:1]), motion(images[1:])
        source = wrapper.transform_keypoint(portrait)
        moved = wrapper.transform_keypoint(driving | {"kp": portrait["kp"].expand(2, -1)})
        source = source.expand(2, -1, -1)
        volume = features(images[:1]).expand(2, -1, -1, -1, -1)
        for name, driven in (("driven", moved), ("stitched", wrapper.stitching(source, moved))):
            picture = generator(warp(volume, kp_driving=driven, kp_source=source)["out"])
            found[f"chain.{name}.keypoints"], found[f"chain.{name}.keypoints.shape"] = sampled(driven)
            found[f"chain.{name}"], found[f"chain.{name}.shape"] = sampled(picture)
        for name, ratios in (("lip", 2), ("eye", 3)):
            openness = torch.tensor(inputs(f"{name}.openness", 2, ratios)).double().sigmoid()
            moved = getattr(wrapper, f"retarget_{name}")(source, openness)
            found[f"chain.{name}"], found[f"chain.{name}.shape"] = sampled(moved)
    return keys, found


def main(live_portrait_folder):
    keys, found = live_portrait(Path(live_portrait_folder).resolve())
    narrow, chain = narrow_chain()
    found |= chain
    tables = {
        part: {
            name: " ".join("x".join(map(str, of[part][name])) for of in (keys, narrow) if name in of[part])
            for name in table
        }
        for part, table in keys.items()
    }  # of the narrow networks, whose names are among the published, the second shape
    (HERE / "keypoint_keys.json").write_text(json.dumps(tables, indent=0) + "\n")
    np.savez_compressed(HERE / "keypoint.npz", **found)
    for name, table in keys.items():
        print(f"{name}: {len(table)} keys, {sum(int(np.prod(shape)) for shape in table.values()):,} numbers")
    for path in ("keypoint_keys.json", "keypoint.npz"):
        print(f"{path}: {(HERE / path).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
