"""Writes driving.npz: keypoints as LivePortrait's own pipeline drives them, for the tests of our rules.

    python tests/golden/make_driving.py LIVEPORTRAIT

LIVEPORTRAIT: a checkout of KwaiVGI/LivePortrait. Needs PyTorch, OpenCV, SciPy and PyYAML. The pipeline runs as it is,
with retargeting on and off, on pictures and videos in the portrait's place. Around it stand stubs: of files, of the
cropper, whose landmarks are drawn, and of the networks: motions are drawn, retargeting and stitching are linear maps.
"""

import copy
import importlib
import itertools
import sys
import types
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from official_state import inputs, spread  # noqa: E402

FRAMES = 2
ADJUSTED = ((0, 0, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 0), (1, 1, 1))  # eyes, lips, stitching
MODES = ("relative", "absolute")
CASES = [(*chosen, *adjusted, "") for *chosen, adjusted in itertools.product(("image", "video"), MODES, ADJUSTED)]
# The eyes of a source video as in its first frame, where they are open or closed; but not beside retargeting.
STEADY = ((0, 0, 0), (0, 0, 1), (0, 1, 1))
CASES += [("video", mode, *adjusted, eyes) for mode in MODES for adjusted in STEADY for eyes in ("open", "closed")]
CLOSED = 0.05  # height of closed eyes over that of open ones
MULTIPLIER = 1.3
SAMPLES = 40  # numbers kept of a case
WIDTHS = {"stitching": (126, 65), "lip": (65, 63), "eye": (66, 63)}


def stub(name, **content):
    """A module that takes any name, in the place of one that needs more than is there."""
    module = types.ModuleType(name)
    module.__dict__.update(content)
    module.__getattr__ = lambda _: lambda *args, **kwargs: None
    sys.modules[name] = module


def drawn_faces(name, count):
    """What the motion extractor says of frames: angles in degrees."""
    angles = inputs(f"{name}.angles", count, 3, scale=10.0)
    return [
        {
            "pitch": angles[i : i + 1, :1], "yaw": angles[i : i + 1, 1:2], "roll": angles[i : i + 1, 2:],
            "t": inputs(f"{name}.t.{i}", 1, 3, scale=0.1), "exp": inputs(f"{name}.exp.{i}", 1, 21, 3, scale=0.05),
            "scale": 1.3 + inputs(f"{name}.scale.{i}", 1, 1, scale=0.1),
            "kp": inputs(f"{name}.kp", 1, 21, 3, scale=0.3) + inputs(f"{name}.kp.{i}", 1, 21, 3, scale=0.01),
        }
        for i in range(count)
    ]  # fmt: skip


def load_pipeline(folder):
    sys.path.insert(0, str(folder))
    stub("rich.progress", track=lambda frames, **_: frames)
    stub("rich")
    for name in ("rprint", "cropper", "video"):
        stub(f"src.utils.{name}")
    stub("src.config.argument_config")
    stub("src.utils.io", load_image_rgb=lambda _: np.zeros((8, 8, 3)), resize_to_limit=lambda image, *_: image)
    # Without smoothing, which is another's Kalman filter.
    smooth = lambda values, shape, *_: [torch.tensor(value.reshape(shape[-2:])) for value in values]  # noqa: E731
    stub("src.utils.filter", smooth=smooth)
    import src.live_portrait_pipeline as pipeline

    pipeline.load_video = lambda _: [np.zeros((8, 8, 3))] * FRAMES
    pipeline.get_fps = lambda _: 25
    return pipeline


def with_closed_eyes(landmarks):
    """Landmarks whose eyes, both, are nearly closed: lower lids beside the upper ones."""
    landmarks = landmarks.copy()
    for upper, lower in ((6, 18), (30, 42)):
        landmarks[lower] = landmarks[upper] + CLOSED * (landmarks[lower] - landmarks[upper])
    return landmarks


def run(pipeline, case, source, template, landmarks):
    """Keypoints that one case gives to the warping network."""
    from src.config.inference_config import InferenceConfig

    kind, mode, eyes, lips, stitching, steady = case
    shown = []

    class Wrapper(pipeline.LivePortraitWrapper):
        def __init__(self):
            self.inference_cfg = InferenceConfig(
                flag_eye_retargeting=bool(eyes), flag_lip_retargeting=bool(lips), flag_stitching=bool(stitching),
                flag_relative_motion=mode == "relative", driving_option="expression-friendly",
                driving_multiplier=MULTIPLIER, flag_pasteback=False, flag_source_video_eye_retargeting=bool(steady),
            )  # fmt: skip
            self.device = "cpu"
            self.stitching_retargeting_module = {
                name: lambda x, name=name, size=size: x @ torch.tensor(inputs(name, *size, scale=0.02))
                for name, size in WIDTHS.items()
            }

        prepare_source = extract_feature_3d = lambda self, image: image

        def prepare_videos(self, images):
            return np.arange(len(images))

        def get_kp_info(self, image):
            number = int(image) if np.ndim(image) == 0 else 0
            return {name: torch.tensor(value) for name, value in source[number].items()}

        def warp_decode(self, features, kp_source, kp_driving):
            shown.append(kp_driving.numpy()[0].copy())
            return {"out": None}

        def parse_output(self, out):
            return [out]

    made = pipeline.LivePortraitPipeline.__new__(pipeline.LivePortraitPipeline)
    made.live_portrait_wrapper = Wrapper()
    made.cropper = types.SimpleNamespace(
        crop_cfg=None,
        crop_source_image=lambda *_: {"lmk_crop": landmarks[0], "img_crop_256x256": np.zeros((4, 4))},
        crop_source_video=lambda *_: {
            "frame_crop_lst": [None] * FRAMES, "lmk_crop_lst": landmarks, "M_c2o_lst": [None] * FRAMES,
        },
    )  # fmt: skip
    pipeline.load = lambda _: copy.deepcopy(template)  # the pipeline changes it
    suffix = "png" if kind == "image" else "mp4"
    arguments = types.SimpleNamespace(
        source=f"a.{suffix}", driving="a.pkl", output_dir=".", flag_crop_driving_video=False, audio_priority="source"
    )
    with torch.no_grad():
        made.execute(arguments)
    return np.stack(shown)


def main(folder):
    pipeline = load_pipeline(Path(folder).resolve())
    rotation = pipeline.get_rotation_matrix

    def vectors(faces):
        """Our motion vectors: the first rows of R, which is that of row vectors, log scale, t, displacements."""
        rows = []
        for face in faces:
            turn = rotation(*(torch.tensor(face[name]) for name in ("pitch", "yaw", "roll"))).numpy()[0]
            rows.append([*turn[0], *turn[1], np.log(face["scale"].item()), *face["t"][0, :2], *face["exp"].ravel()])
        return np.array(rows, np.float32)

    source, driver = drawn_faces("source", FRAMES), drawn_faces("driver", FRAMES)
    landmarks = [inputs(f"landmarks.{i}", 203, 2) + np.float32(4.0) for i in range(FRAMES)]
    openness = np.abs(inputs("driver.openness", FRAMES, 3, scale=0.3))
    template = {
        "n_frames": FRAMES, "output_fps": 25, "c_eyes_lst": [row[None, :2] for row in openness],
        "c_lip_lst": [row[None, 2:] for row in openness],
        "motion": [
            {"R": rotation(*(torch.tensor(face[name]) for name in ("pitch", "yaw", "roll"))).numpy()}
            | {name: face[name] for name in ("scale", "exp", "t")}
            for face in driver
        ],
    }  # fmt: skip
    wrapper = pipeline.LivePortraitWrapper.__new__(pipeline.LivePortraitWrapper)
    eyes, lips = wrapper.calc_ratio(landmarks)
    closed = [with_closed_eyes(landmarks[0]), *landmarks[1:]]
    found = {
        "source": vectors(source), "driver": vectors(driver), "driver.openness": openness,
        "canonical": np.concatenate([face["kp"] for face in source]),
        "source.openness": np.concatenate([np.concatenate(eyes), np.concatenate(lips)], 1),
    }  # fmt: skip
    neutral = importlib.import_module("src.config.inference_config").load_lip_array()
    found["neutral"] = np.float32(neutral).reshape(21, 3)
    found["closed.openness"] = found["source.openness"].copy()
    found["closed.openness"][0, :2] = wrapper.calc_ratio(closed[:1])[0][0][0]
    found["cases"] = np.array([".".join(map(str, case)) for case in CASES])
    made = [run(pipeline, case, source, template, closed if case[-1] == "closed" else landmarks) for case in CASES]
    made = np.stack(made)
    found["keypoints"] = np.stack([spread(keypoints, SAMPLES) for keypoints in made])
    np.savez_compressed(HERE / "driving.npz", **found)
    print(f"driving.npz: {len(CASES)} cases, {(HERE / 'driving.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
