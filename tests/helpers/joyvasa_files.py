"""JoyVASA's files at small sizes and random weights, in the layouts of their publisher."""

import argparse
import pickle
from pathlib import PurePosixPath

import numpy as np
from official_state import random_state
from public_encoders import public_state, random_encoder
from torch_files import tensors, write_zip

from vasa_jax.diffusion import VASADiffusion
from vasa_jax.weights.motion_generators import SMALLEST_BETA
from vasa_jax.weights.published_tables import joyvasa_table

SIZES = {"exp": 63, "scale": 1, "t": 3, "pitch": 1, "yaw": 1, "roll": 1}  # of the statistics


def joyvasa_state(motion=7, window=8, previous=3, width=8, steps=5):
    """Its tensors, in the shapes that its table asks of them; the audio encoder's too."""
    told = {
        "start_motion_feat": (1, previous, motion), "audio_feature_map.weight": (width, 64),
        "diffusion_sched.betas": (steps + 1,), "denoising_net.alignment_mask": (previous + window,) * 2,
    }  # fmt: skip
    state = random_state(joyvasa_table({name: np.broadcast_to(np.float32(0), shape) for name, shape in told.items()}))
    levels = VASADiffusion(steps, smallest_beta=SMALLEST_BETA).levels
    state["diffusion_sched.alpha_bars"] = np.append(1.0, levels).astype(np.float32)
    state["denoising_net.alignment_mask"] = ~np.eye(previous + window, dtype=bool)
    return state | public_state(random_encoder("base"), prefix="audio_encoder.")


def joyvasa_template():
    """Statistics: an expression within a few hundredths, angles within 10 degrees, a scale from 1.1 to 1.7."""
    kinds = {"mean": 0.0, "std": 0.02, "min": -10.0, "max": 10.0}
    template = {
        f"{kind}_{name}": np.full(size, value, np.float32)
        for name, size in SIZES.items()
        for kind, value in kinds.items()
    }
    template |= {"min_scale": np.float32([1.1]), "max_scale": np.float32([1.7])}
    return template | {"min_t": np.full(3, -0.1, np.float32), "max_t": np.full(3, 0.1, np.float32)}


def write_joyvasa(folder, **sizes):
    """Writes both files; returns the state."""
    folder.mkdir(parents=True, exist_ok=True)
    state = joyvasa_state(**sizes)
    settings = argparse.Namespace(n_layers=6, data=PurePosixPath("/data"))
    content = {"args": settings, "model": tensors(state), "iter": 1}
    write_zip(folder / "motion_generator_hubert_chinese.pt", content, prefix="motion_generator")
    (folder / "motion_template.pkl").write_bytes(pickle.dumps(joyvasa_template()))
    return state
