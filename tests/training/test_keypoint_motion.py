"""Our transformer on the motion of a keypoint codec: extracted, trained, and at work with the usual commands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shrunk import shrunk
from tiny_extraction import PREVIOUS, WINDOW, extraction_config, fake_make
from tiny_keypoint import FIELDS, random_variables

from vasa_jax.corpus.clip_set import FRAMES, ClipSet
from vasa_jax.errors import InputError
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.main import run
from vasa_jax.models.keypoint_face import exported
from vasa_jax.training.jobs import train
from vasa_jax.training.tasks import motion_data
from vasa_jax.training.tasks.motion_data import MotionExtractor
from vasa_jax.training.tasks.stored_motion import StoredMotion
from vasa_jax.weights.networks import check_model
from vasa_jax.weights.safetensors_io import save_params

pytestmark = pytest.mark.long
WIDTH = 9 + 3 * FIELDS["decoder"]["keypoints"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keypoint_motion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClipSet, "make", fake_make)
        patch.setattr(motion_data, "HELD_OUT_CLIPS", 2)

        def motion(extractor, params, key, curves):
            """The codec's own encoder on noise in the place of rendered frames, 4 of them repeated."""
            side = extractor._encoder.image_size
            frames = jax.random.uniform(key, (4, side, side, 3))
            pose, dynamics = extractor._encoder.apply({"params": params["encoder"]}, frames, method="encode_motion")
            return jnp.tile(jnp.concatenate([pose, dynamics], -1), (FRAMES // 4, 1))

        patch.setattr(MotionExtractor, "_motion", motion)
        config = extraction_config(folder / "parts")
        save_params(folder / "parts" / "face.safetensors", exported(random_variables()), {"fields": FIELDS}, np.float32)
        run(config, folder / "set")
        settings = {"variant": "motion_tiny", "face": folder / "parts", "set": folder / "set", "window": WINDOW,
                    "previous": PREVIOUS, "instrument": folder / "parts"}  # fmt: skip
        train(shrunk("train_motion", *(f"--config.motion.{k}={v}" for k, v in settings.items())), folder / "run")
    for part in ("face", "audio"):
        (folder / "run" / "export" / f"{part}.safetensors").symlink_to(folder / "parts" / f"{part}.safetensors")
    return folder


def test_the_set_has_the_codecs_numbers(trained):
    stored = StoredMotion(trained / "set")
    assert stored.motion_dim == WIDTH and stored("train").motion.shape == (5, FRAMES, WIDTH)


def test_trained_weights_move_the_codec(trained):
    generator = VideoGenerator.from_pretrained(trained / "run" / "export", decode_batch=2, mark=False)
    avatar = generator.prepare(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    sound = np.random.default_rng(1).normal(size=640 * 5).astype(np.float32)
    motion = generator.motion(sound, avatar, steps=2)
    assert motion.shape == (5, WIDTH)
    np.testing.assert_allclose(motion[:, 6].mean(), avatar.motion[6], atol=1.0)  # around the portrait's own place
    frames = np.concatenate(list(generator.render(avatar, motion)))
    assert frames.shape == (5, 64, 64, 3)


def test_parts_that_do_not_belong_together_are_refused():
    decoder = FIELDS["decoder"] | {"keypoints": 7}
    parts = {"face": ({}, {"fields": FIELDS | {"decoder": decoder}}), "motion": ({}, {"fields": {"motion_dim": WIDTH}})}
    with pytest.raises(InputError, match=r"a: face\.safetensors is moved by 21 numbers, motion\.safetensors gives 15"):
        check_model(parts, "a")
