"""Sizes and inputs of the motion generators' parity tests, shared with what writes their references."""

import numpy as np
from official_state import inputs

# As the official classes call them.
JOYVASA = {"motion_feat_dim": 73, "n_motions": 100, "n_prev_motions": 10, "feature_dim": 256}
JOYVASA_SEQUENCE = {
    "motion_feat_dim": 73, "n_motions": 20, "n_prev_motions": 4, "feature_dim": 32, "n_diff_steps": 10,
}  # fmt: skip
WINDOWS = 3
SCHEDULES = (10, 50, 500)  # steps; in the last the smallest beta is reached
DITTO = {
    "nfeats": 265, "seq_len": 80, "latent_dim": 512, "ff_size": 1024, "num_layers": 8, "num_heads": 8,
    "cond_feature_dim": 1103,
}  # fmt: skip
DITTO_SEQUENCE = DITTO | {"seq_len": 20, "latent_dim": 32, "ff_size": 64, "cond_feature_dim": 24}
DITTO_STEPS = 5
# Settings of windows: of a video made at once, and those that its streams have.
DITTO_RUNS = {
    "offline": {"overlap_v2": 5},
    "stream": {"overlap_v2": 14, "fix_kp_cond": 1, "fix_kp_cond_dim": (0, 202), "online_mode": True},
}


def ditto_faces():
    """(portrait, faces): of one face and of 8 frames what LivePortrait's motion extractor says, float64."""
    sizes = {"scale": 1, "pitch": 66, "yaw": 66, "roll": 66, "t": 3, "exp": 63}

    def face(name, count):
        read = {part: inputs(f"{name} {part}", count, size).astype(np.float64) for part, size in sizes.items()}
        read["scale"] = 1.3 + 0.1 * read["scale"]
        return read | {"exp": 0.05 * read["exp"], "t": 0.1 * read["t"]}

    portrait = {part: value[0] for part, value in face("ditto portrait", 1).items()}
    return portrait | {"kp": 0.3 * inputs("ditto kp", 63).astype(np.float64)}, face("ditto face", 8)
