"""Rotation is taken out of the dynamics: the projection in closed form, its folding, the job."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from random_params import random_params
from tiny_face import LEAST, SIZE

from vasa_jax.config import PoseErasureConfig, VASAConfig
from vasa_jax.conventions import head_angles
from vasa_jax.errors import InputError
from vasa_jax.evaluation import held_out, probes
from vasa_jax.evaluation.held_out import motions_with_other_poses
from vasa_jax.main import run
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.training.pose_erasure import largest_gain, linear_eraser, without_directions
from vasa_jax.weights.safetensors_io import load_params, save_params


def correlated(rows=400, features=10, seed=0):
    rng = np.random.default_rng(seed)
    concept = rng.normal(size=(rows, 2))
    mixing = rng.normal(size=(features, features))
    x = rng.normal(size=(rows, features)) @ mixing + concept @ rng.normal(size=(2, features)) + 3.0
    return x, concept


def test_an_erased_code_is_uncorrelated_with_the_concept_and_erased_once_for_all():
    x, y = correlated()
    eraser = linear_eraser(x, y)
    left = (x @ eraser - (x @ eraser).mean(0)).T @ (y - y.mean(0)) / len(x)
    assert np.abs(left).max() < 1e-10
    np.testing.assert_allclose(eraser @ eraser, eraser, atol=1e-10)
    assert np.linalg.matrix_rank(eraser) == 8


def test_no_other_such_map_moves_the_code_less():
    """E + N C, for N that takes what E makes to what is uncorrelated with the concept, erases as well (x E N has no
    part of the concept) and moves x more."""
    x, y = correlated()
    x = x - x.mean(0)
    eraser = linear_eraser(x, y)
    moved = np.square(x - x @ eraser).sum()
    for seed in range(3):
        other = eraser @ (np.eye(10) + 0.01 * np.random.default_rng(seed).normal(size=(10, 10)))
        assert np.abs((x @ other).T @ (y - y.mean(0))).max() < 1e-7
        assert np.square(x - x @ other).sum() > moved


def test_what_has_nothing_to_do_with_the_concept_stays():
    rng = np.random.default_rng(1)
    y, free = rng.normal(size=(500, 1)), rng.normal(size=(500, 3))
    free -= y * (y.T @ free) / (y.T @ y)  # exactly uncorrelated in this sample
    free -= free.mean(0)
    y = y - y.mean(0)
    free -= y * (y.T @ free) / (y.T @ y)
    eraser = linear_eraser(np.concatenate([free, y], 1), y)
    np.testing.assert_allclose(eraser, np.diag([1.0, 1.0, 1.0, 0.0]), atol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01])
def test_a_direction_that_hardly_varies_and_goes_with_the_concept_gives_a_large_gain(spread):
    """Both features hold the concept, the second alone holds nothing else: the first loses what the second tells."""
    concept, other = np.random.default_rng(0).normal(size=(2, 500))
    concept, other = (column - column.mean() for column in (concept, other))
    other -= concept * (concept @ other) / (concept @ concept)
    eraser = linear_eraser(np.stack([other + concept, spread * concept], 1), concept[:, None])
    np.testing.assert_allclose(eraser, [[1.0, 0.0], [-1.0 / spread, 0.0]], atol=1e-9)
    np.testing.assert_allclose(largest_gain(eraser), np.hypot(1.0, 1.0 / spread), rtol=1e-9)


def test_a_constant_feature_and_too_few_rows():
    x, y = correlated()
    x[:, 3] = 7.0
    assert np.isfinite(linear_eraser(x, y)).all()
    with pytest.raises(ValueError, match="9 rows of 10 features"):
        linear_eraser(x[:9], y[:9])


def test_folded_networks_make_erased_codes_and_read_every_code_as_erased():
    encoder, decoder = face_codec(LEAST)
    images = jnp.asarray(np.random.default_rng(0).random((2, SIZE, SIZE, 3)), jnp.float32)
    encoder_params = random_params(encoder.init, images)["params"]
    encode = jax.jit(encoder.apply)
    latents = encode({"params": encoder_params}, images)
    params = {"encoder": encoder_params, "decoder": random_params(decoder.init, *latents)["params"]}
    rng = np.random.default_rng(1)
    eraser = linear_eraser(rng.normal(size=(300, 128)), rng.normal(size=(300, 6)))
    folded = without_directions(params, eraser)
    found = encode({"params": folded["encoder"]}, images)
    np.testing.assert_allclose(found.dynamics, latents.dynamics @ eraser, atol=1e-5)

    @jax.jit
    def grid(params, dynamics):
        variables = {"params": params["decoder"]}
        return decoder.apply(variables, latents.identity, latents.pose, dynamics, method="driven_grid")

    np.testing.assert_allclose(grid(folded, latents.dynamics), grid(params, found.dynamics), atol=1e-5)
    np.testing.assert_allclose(grid(folded, found.dynamics), grid(params, found.dynamics), atol=1e-5)
    changed = {
        name for name, leaf in flatten_dict(folded, sep="/").items() if leaf is not flatten_dict(params, sep="/")[name]
    }
    assert len(changed) == 3


def draw(self, identity, motion):
    """In place of the renderer: brightness ramps that turn with the head, and noise."""
    yaw, pitch = (np.asarray(motion[name])[:, None, None] for name in ("yaw", "pitch"))
    x = np.linspace(-1, 1, SIZE)
    turned = np.sin(yaw) * x + np.sin(pitch) * x[:, None]
    ramp = 0.5 + 0.4 * np.tanh(2 * (turned + 0.3 * x * motion["smile"][:, None, None]))
    noise = 10 * np.random.default_rng(int(1e6 * abs(yaw.sum()))).normal(size=(*ramp.shape, 3))
    return {"rgb": np.clip(255 * ramp[..., None] + noise, 0, 255).astype(np.uint8)}


@pytest.mark.long
def test_the_job_writes_a_codec_from_whose_dynamics_rotation_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(held_out.HeldOutHeads, "render", draw)
    params = init_face(jax.random.key(0), LEAST)
    save_params(tmp_path / "in" / "face.safetensors", params, {"fields": LEAST}, np.float32)
    settings = PoseErasureConfig(people=80, stills=8)
    run(VASAConfig(job="erase_pose", checkpoint=str(tmp_path / "in"), pose_erasure=settings), tmp_path / "out")
    before, _ = load_params(tmp_path / "in" / "face.safetensors")
    after, metadata = load_params(tmp_path / "out" / "export" / "face.safetensors")
    assert metadata["fields"] == load_params(tmp_path / "in" / "face.safetensors")[1]["fields"]
    assert metadata["pose_erasure"]["people"] == 80
    encoder, _ = face_codec(LEAST)
    people = held_out.HeldOutHeads(SIZE, 0, 1, 8, "pose erasure")

    @jax.jit
    def dynamics(params, rgb, pose):
        return encoder.apply({"params": params["encoder"]}, rgb, pose, method="encode_dynamics")

    def explained(params):
        """R2 of yaw and pitch by probes that did not see the person."""
        codes, angles = [], []
        for index in range(80):
            motion = motions_with_other_poses(jax.random.fold_in(people.key, index), 8)
            label = people.label(people.identity(index), motion)["pose"]
            rgb = people.render({}, motion)["rgb"] / 255.0
            codes.append(dynamics(params, rgb, label))
            angles.append(head_angles(label)[:, :2])
        codes, angles = np.concatenate(codes), np.concatenate(angles)
        splits = probes.splits_by_block(np.arange(len(codes)) // 8 % 4)
        return probes.r_squared(probes.held_out_predictions(codes, angles, splits), angles)

    assert explained(before).min() > 0.5
    assert explained(after).max() < 0.1


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"config\.pose_erasure\.people: 3 is out of range"):
        run(VASAConfig(job="erase_pose", pose_erasure=PoseErasureConfig(people=3)), tmp_path)
    save_params(tmp_path / "face.safetensors", {"a": np.zeros(3)}, {})
    with pytest.raises(InputError, match="not a codec"):
        run(VASAConfig(job="erase_pose", checkpoint=str(tmp_path)), tmp_path / "out")
