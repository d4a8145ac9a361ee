"""Writes open_keys.json: names and shapes of the tensors of open motion generators and judges.

    python tests/golden/make_open_keys.py JOYVASA DITTO SYNCNET I3D

Checkouts of jdh-algo/JoyVASA, antgroup/ditto-talkinghead, joonson/syncnet_python and piergiaj/pytorch-i3d. Needs
PyTorch and einops. JoyVASA's audio encoder is left out: it is a HuBERT in the naming of Hugging Face.
"""

import importlib
import json
import sys
import types
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent


def table(module):
    """{name: shape as text} without what counts batches."""
    return {
        name: "x".join(map(str, value.shape))
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def package(name, folder):
    """A package whose own initialiser, which imports more than is there, is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def joyvasa(folder):
    for name in ("jv", "jv.modules", "jv.config"):
        package(name, folder / "src" / name.removeprefix("jv").removeprefix("."))
    heads = importlib.import_module("jv.modules.dit_talking_head")
    # A stub in the place of the encoder, which the constructor would download.
    hubert = types.ModuleType("jv.modules.hubert")
    hubert.HubertModel = types.SimpleNamespace(
        from_pretrained=lambda _: types.SimpleNamespace(
            feature_extractor=types.SimpleNamespace(_freeze_parameters=lambda: None)
        )
    )
    sys.modules["jv.modules.hubert"] = hubert
    # The released configuration; the masks are made on a GPU otherwise.
    heads.enc_dec_mask.__defaults__ = (2, 0, "cpu")
    return table(heads.DitTalkingHead(
        device="cpu", motion_feat_dim=73, n_motions=100, n_prev_motions=10, feature_dim=256, n_diff_steps=50,
        audio_model="hubert_zh",
    ))  # fmt: skip


def ditto(folder):
    package("dt", folder / "core/models/modules/lmdm_modules")
    model = importlib.import_module("dt.model")
    return table(model.MotionDecoder(
        nfeats=265, seq_len=80, latent_dim=512, ff_size=1024, num_layers=8, num_heads=8, cond_feature_dim=1103,
    ))  # fmt: skip


def main(joyvasa_folder, ditto_folder, syncnet_folder, i3d_folder):
    sys.path[:0] = [syncnet_folder, i3d_folder]
    tables = {
        "joyvasa": joyvasa(Path(joyvasa_folder).resolve()),
        "ditto": ditto(Path(ditto_folder).resolve()),
        "syncnet": table(importlib.import_module("SyncNetModel").S()),
        "i3d": table(importlib.import_module("pytorch_i3d").InceptionI3d(400, in_channels=3)),
    }
    (HERE / "open_keys.json").write_text(json.dumps(tables, indent=0) + "\n")
    for name, keys in tables.items():
        print(f"{name}: {len(keys)} keys")


if __name__ == "__main__":
    torch.manual_seed(0)
    main(*sys.argv[1:])
