"""A Whisper encoder of random numbers in Hugging Face's names, for two seconds of sound."""

import numpy as np

WIDTH, LAYERS, MELS, POSITIONS = 128, 2, 80, 100


def hf_state(positions: int = POSITIONS) -> dict[str, np.ndarray]:
    """Returns tensors by name; `positions` is half of the mel steps that it hears."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (WIDTH, MELS, 3), "conv1.bias": (WIDTH,), "conv2.weight": (WIDTH, WIDTH, 3),
        "conv2.bias": (WIDTH,), "embed_positions.weight": (positions, WIDTH),
        "layer_norm.weight": (WIDTH,), "layer_norm.bias": (WIDTH,),
    }  # fmt: skip
    for layer in (f"layers.{number}." for number in range(LAYERS)):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{layer}self_attn.{name}.weight"] = (WIDTH, WIDTH)
            if name != "k_proj":
                shapes[f"{layer}self_attn.{name}.bias"] = (WIDTH,)
        shapes |= {f"{layer}fc1.weight": (4 * WIDTH, WIDTH), f"{layer}fc1.bias": (4 * WIDTH,)}
        shapes |= {f"{layer}fc2.weight": (WIDTH, 4 * WIDTH), f"{layer}fc2.bias": (WIDTH,)}
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}{norm}.weight": (WIDTH,), f"{layer}{norm}.bias": (WIDTH,)}
    return {
        f"model.encoder.{name}": (rng.normal(size=shape) * 0.1 + (name.endswith("norm.weight"))).astype(np.float32)
        for name, shape in shapes.items()
    }
