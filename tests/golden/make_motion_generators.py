"""Writes motion_generators.npz: outputs of JoyVASA's and Ditto's official PyTorch code, for the parity tests.

    python tests/golden/make_motion_generators.py JOYVASA DITTO

Checkouts of jdh-algo/JoyVASA and antgroup/ditto-talkinghead. Needs PyTorch, einops and SciPy. Weights and inputs are
drawn by name (tests/helpers/official_state.py), so that only outputs are stored. Each network runs once at its
published widths, and a sequence of windows at narrow ones with its noise given.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from motion_generator_sizes import (  # noqa: E402
    DITTO,
    DITTO_RUNS,
    DITTO_SEQUENCE,
    DITTO_STEPS,
    JOYVASA,
    JOYVASA_SEQUENCE,
    SCHEDULES,
    WINDOWS,
    ditto_faces,
)
from official_state import inputs, random_state, spread  # noqa: E402

SAMPLES = 1200  # numbers kept of a large output


def package(name, folder):
    """A package whose own initialiser, which imports more than is there, is not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def stub(name, **content):
    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


def loaded(module):
    """The module at random weights; tables and schedules stay its own."""
    own = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items() if name not in own}
    state = {name: torch.from_numpy(value) for name, value in random_state(shapes).items()}
    module.load_state_dict(module.state_dict() | state)
    return module.eval()


def drawn(name, *shape):
    return torch.from_numpy(inputs(name, *shape))


class Noise:
    """Stands in the place of torch.randn and randn_like: gives the arrays of a list in turn."""

    def __init__(self, arrays):
        self.arrays = list(arrays)

    def __call__(self, *_, **__):
        return self.arrays.pop(0)


def joyvasa(folder):
    for name in ("jv", "jv.modules", "jv.config"):
        package(name, folder / "src" / name.removeprefix("jv").removeprefix("."))
    encoder = types.SimpleNamespace(feature_extractor=types.SimpleNamespace(_freeze_parameters=lambda: None))
    stub("jv.modules.hubert", HubertModel=types.SimpleNamespace(from_pretrained=lambda _: encoder))
    heads = importlib.import_module("jv.modules.dit_talking_head")
    common = sys.modules["jv.modules.common"]
    heads.enc_dec_mask.__defaults__ = (2, 0, "cpu")  # the mask is made on a GPU otherwise
    found = {"joyvasa/padded": common.pad_audio(torch.arange(64_000.0)[None])[0, [*range(45), *range(-45, 0)]]}
    for steps in SCHEDULES:
        found[f"joyvasa/levels{steps}"] = heads.DiffusionSchedule(steps, "cosine").alpha_bars[1:]

    model = loaded(heads.DitTalkingHead(device="cpu", audio_model="hubert_zh", n_diff_steps=50, **JOYVASA))
    total = JOYVASA["n_prev_motions"] + JOYVASA["n_motions"]
    motion, sound = drawn("joyvasa motion", 2, total, JOYVASA["motion_feat_dim"]), drawn("joyvasa sound", 2, total, 768)
    heard, k = model.audio_feature_map(sound), JOYVASA["n_prev_motions"]
    arguments = (motion[:, k:], heard[:, k:], motion[:, :k], heard[:, :k], torch.tensor([3, 47]))
    sequence = common.PositionalEncoding.forward

    def constant(self, x):
        """As the code stood when the published weights were trained."""
        return self.dropout(x + self.pe[:, x.shape[1], :])

    for name, forward in (("sequence", sequence), ("constant", constant)):
        common.PositionalEncoding.forward = forward
        found[f"joyvasa/network/{name}"] = model.denoising_net(*arguments)[:, k:]

    small = JOYVASA_SEQUENCE
    model = loaded(heads.DitTalkingHead(device="cpu", audio_model="hubert_zh", **small))
    frames, dim, steps = small["n_motions"], small["motion_feat_dim"], small["n_diff_steps"]
    sound = model.audio_feature_map(drawn("joyvasa speech", 1, WINDOWS * frames, 768))
    noise, past, made = drawn("joyvasa noise", 1, frames, dim), (None, None), []
    for i in range(WINDOWS):
        torch.randn_like = Noise(drawn(f"joyvasa step noise {i}", steps, 1, frames, dim))
        part = sound[:, i * frames : (i + 1) * frames]
        motion, noise, _ = model.sample(part, *past, noise, cfg_scale=2.0)
        past = motion[:, -small["n_prev_motions"] :], part[:, -small["n_prev_motions"] :]
        made.append(motion)
    found["joyvasa/sequence"] = torch.cat(made, 1)
    return found


def ditto(folder):
    package("dt", folder / "core")
    for name in ("models", "models.modules", "models.modules.lmdm_modules", "atomic_components", "utils"):
        package(f"dt.{name}", folder / "core" / name.replace(".", "/"))
    network = importlib.import_module("dt.models.modules.LMDM")
    decoder = sys.modules["dt.models.modules.lmdm_modules.model"].MotionDecoder
    stub("dt.models.lmdm", LMDM=None)
    stub("dt.models.stitch_network", StitchNetwork=lambda: lambda source, driven: driven)
    windows = importlib.import_module("dt.atomic_components.audio2motion")
    stitch = importlib.import_module("dt.atomic_components.motion_stitch")

    model = loaded(decoder(**DITTO))
    frames, dim = DITTO["seq_len"], DITTO["nfeats"]
    conditions = drawn("ditto conditions", 1, frames, DITTO["cond_feature_dim"])
    found = {"ditto/network": model.guided_forward(
        drawn("ditto motion", 1, frames, dim), drawn("ditto start", 1, dim), conditions, torch.tensor([613]), 2.0
    )}  # fmt: skip

    frames, steps, randn = DITTO_SEQUENCE["seq_len"], DITTO_STEPS, torch.randn
    for name, how in DITTO_RUNS.items():
        torch.randn = randn
        diffusion = network.LMDM(device="cpu")
        diffusion.model = loaded(decoder(**DITTO_SEQUENCE))
        motion = windows.Audio2Motion.__new__(windows.Audio2Motion)

        class Sampler:
            seq_frames = frames

            def setup(self, steps, diffusion=diffusion):
                torch.randn = Noise(drawn("ditto step noise", steps - 1, 1, frames, dim))
                diffusion.setup(steps)

            def __call__(self, start, conditions, steps, diffusion=diffusion, made=[]):  # noqa: B006
                torch.randn = Noise([drawn(f"ditto noise {len(made)}", 1, frames, dim)])
                made.append(steps)
                return diffusion.ddim_sample(torch.tensor(start), torch.tensor(conditions), steps).numpy()

        motion.lmdm = Sampler()
        source = {"scale": np.float32([[1.3]])} | {
            part: inputs(f"ditto source {part}", 1, size)
            for part, size in (("pitch", 66), ("yaw", 66), ("roll", 66), ("t", 3), ("exp", 63))
        }
        motion.setup(source, sampling_timesteps=steps, **how)
        known = drawn("ditto speech", 37, DITTO_SEQUENCE["cond_feature_dim"]).numpy()
        result = None
        for start in range(0, len(known), motion.valid_clip_len):
            part = known[start : start + frames]
            part = np.concatenate([part, np.repeat(part[-1:], frames - len(part), 0)])
            result = motion(part[None], result)
        # As its pipeline ends a video that is made at once.
        result = motion._smo(result[:, : len(known)], 0, len(known))
        found[f"ditto/sequence/{name}"] = torch.from_numpy(result)

    portrait, faces = ditto_faces()
    mixed = stitch.MotionStitch(stitch_network_cfg={})
    own = {part: value[None] for part, value in portrait.items()}
    mixed.setup(x_s_info=own)
    made = []
    for i in range(len(faces["exp"])):
        face = {part: value[i : i + 1].copy() for part, value in faces.items()}
        made.append(mixed({part: value.copy() for part, value in own.items()}, face)[1][0])
    eyes = importlib.import_module("dt.utils.eye_info").EyeAttrUtilsByMP(inputs("ditto mesh", 1, 478, 3))
    emotions = importlib.import_module("dt.atomic_components.condition_handler")._get_emo_avg
    return found | {
        "ditto/keypoints": torch.from_numpy(np.stack(made)),
        "ditto/eyes": torch.from_numpy(np.concatenate([eyes.LR_open().reshape(-1), eyes.LR_ball_move().reshape(-1)])),
        "ditto/happy": torch.from_numpy(emotions(3)),
    }


@torch.no_grad()
def main(joyvasa_folder, ditto_folder):
    found = joyvasa(Path(joyvasa_folder).resolve()) | ditto(Path(ditto_folder).resolve())
    arrays = {}
    for name, value in found.items():
        value = value.detach().double().numpy()
        print(name, value.shape, f"standard deviation {value.std():.3g}")
        arrays[name] = spread(value, SAMPLES).astype(np.float32)
    np.savez_compressed(HERE / "motion_generators.npz", **arrays)


main(*sys.argv[1:])
