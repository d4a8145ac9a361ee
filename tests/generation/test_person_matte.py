"""A portrait's person as the network tells it, in the avatar: where the file is, and where it is not."""

import numpy as np
import pytest
from tiny_matte import save_tiny_matte, tiny_matte
from tiny_model import save_tiny_model

from vasa_jax.errors import InputError
from vasa_jax.generation import animator
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.person_matte import PersonMatte
from vasa_jax.weights.parts import MATTE, load_if_there, load_model


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)


def test_shares_have_the_portraits_size_and_lie_between_nobody_and_all():
    read = PersonMatte(tiny_matte())
    for size in (64, 256, 512):
        share = read(picture(size))
        assert share.shape == (size, size) and share.dtype == np.float32
        assert 0.0 <= share.min() < share.max() <= 1.0
    np.testing.assert_array_equal(read(picture(256)), read(picture(256)))


def test_a_portrait_is_told_apart_at_one_size():
    """A picture of even cells, seen at double the size, has the same person."""
    read, cells = PersonMatte(tiny_matte()), np.kron(picture(16), np.ones((16, 16, 1), np.uint8))
    small, large = read(cells), read(np.kron(cells, np.ones((2, 2, 1), np.uint8)))
    error = np.abs(large.reshape(256, 2, 256, 2).mean((1, 3)) - small)
    assert error.mean() < 0.4 * small.std()


@pytest.fixture
def seen(monkeypatch):
    """What the division by colours is given."""
    given = []

    def kept(portrait, matte, pose, trust):
        given.append(matte)
        return matte

    monkeypatch.setattr(animator, "cut_out", kept)
    return given


def test_the_networks_share_is_taken_where_a_model_has_it(tmp_path, seen):
    save_tiny_model(tmp_path)
    portrait = picture(PortraitAnimator.from_checkpoint(tmp_path).image_size)
    PortraitAnimator.from_checkpoint(tmp_path).prepare(portrait)
    assert load_if_there(tmp_path, MATTE) is None and MATTE not in load_model(tmp_path)
    save_tiny_matte(tmp_path)
    for model in (PortraitAnimator.from_checkpoint(tmp_path), VideoGenerator.from_pretrained(tmp_path)):
        model.prepare(portrait)
    without, *found = seen
    for share in found:
        np.testing.assert_array_equal(share, PersonMatte(load_if_there(tmp_path, MATTE))(portrait))
        assert np.abs(share - without).max() > 0.01


def test_a_file_that_is_no_matte_is_named(tmp_path):
    save_tiny_model(tmp_path)
    (tmp_path / "matte.safetensors").write_bytes((tmp_path / "audio.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"matte.safetensors: .*; "):
        load_model(tmp_path)
