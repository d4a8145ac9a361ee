"""Writes wav2vec2.json and wav2vec2.npz from the public PyTorch classes, for the parity test of the audio encoder.

    python tests/golden/make_wav2vec2.py

Needs PyTorch and transformers. Weights are drawn by name (tests/helpers/official_state.py), so only the tables of names
and shapes and the outputs on one sound are stored.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import inputs, random_state  # noqa: E402

SAMPLES = 4000
LAYOUTS = {
    "base": {"do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False},
    "large": {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
}


def main():
    tables, arrays = {}, {}
    sound = inputs("sound", 2, SAMPLES)
    standard = (sound - sound.mean(1, keepdims=True)) / np.sqrt(sound.var(1, keepdims=True) + 1e-7)
    for kind in ("Wav2Vec2", "Hubert"):
        for layout, fields in LAYOUTS.items():
            config = getattr(transformers, f"{kind}Config")(
                hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=24, conv_dim=(16,) * 7,
                num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4, **fields,
            )  # fmt: skip
            model = getattr(transformers, f"{kind}Model")(config).eval()
            shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
            state = {name: torch.from_numpy(value) for name, value in random_state(shapes).items()}
            model.load_state_dict(state)
            name = f"{kind.lower()}_{layout}"
            tables[name] = {key: "x".join(map(str, shape)) for key, shape in shapes.items()}
            with torch.no_grad():
                model = model.double()
                double = torch.from_numpy(standard.astype(np.float64))
                arrays[f"{name}/features"] = model.feature_extractor(double).transpose(1, 2).numpy().astype(np.float32)
                arrays[f"{name}/output"] = model(double).last_hidden_state.numpy().astype(np.float32)
    (HERE / "wav2vec2.json").write_text(json.dumps(tables, indent=0) + "\n")
    np.savez_compressed(HERE / "wav2vec2.npz", **arrays)


main()
