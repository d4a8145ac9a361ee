"""The render cache: pairs match, and the stream is a pure function of seed and step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.config import CorpusConfig
from vasa_jax.corpus import render_cache
from vasa_jax.corpus.performance.muscles import POSE_FIELDS
from vasa_jax.corpus.render_cache import LANDMARK_FIELDS, RenderCache
from vasa_jax.errors import InputError
from vasa_jax.rng import named_key

CORPUS = CorpusConfig(groups=6, chunk=2, identities=3, motions=4, drivers=2, supersample=1, style=0.0)


@pytest.fixture(autouse=True)
def _numbers_for_pictures(monkeypatch):
    """Pictures whose pixels say which group, identity and motion they show: rendering is tested elsewhere."""

    def render_groups(key, groups, identities, motions, size, supersample, poses=1):
        group = jax.random.randint(key, (groups, 1, 1), 0, 250)
        shape = (groups, identities, motions)
        identity = jnp.broadcast_to(jnp.arange(identities)[None, :, None], shape)
        motion = jnp.broadcast_to(jnp.arange(motions)[None, None, :], shape)
        numbers = jnp.stack([jnp.broadcast_to(group, shape), identity, motion], -1).astype(jnp.uint8)
        rgb = jnp.broadcast_to(numbers[..., None, None, :], (*shape, size, size, 3))
        return {
            "rgb": rgb,
            "segmentation": rgb[..., 2],
            "background": rgb[:, :, 0],
            "pose": jnp.broadcast_to(motion[..., None], (*shape, 9)).astype(jnp.float32),
            "landmarks": jnp.stack([identity, motion], -1)[..., None, :].astype(jnp.float32),
            "rest": identity[:, :, :1].astype(jnp.float32),
            "expression": motion[..., None].astype(jnp.float32),
        }

    monkeypatch.setattr(render_cache, "render_groups", render_groups)


def make(corpus=CORPUS, recipe="counterfactual", seed=0):
    return RenderCache(corpus, 4, 64, recipe, seed, "test")


def same(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_target_is_the_sources_identity_in_the_drivers_motion():
    batch = {name: np.asarray(value) for name, value in next(make()).items()}
    source, driver, target = (batch[name][:, 0, 0] for name in ("source", "driver", "target"))
    assert (len(source), len(driver), len(target)) == (32, 64, 64)
    np.testing.assert_array_equal(batch["background"][:, 0, 0, 1], source[:, 1])
    np.testing.assert_array_equal(batch["source_pose"][:, 0], source[:, 2])
    source = np.repeat(source, 2, 0)
    np.testing.assert_array_equal(target[:, 0], source[:, 0])  # group
    np.testing.assert_array_equal(target[:, 0], driver[:, 0])
    np.testing.assert_array_equal(target[:, 1], source[:, 1])  # identity
    np.testing.assert_array_equal(target[:, 2], driver[:, 2])  # motion
    assert (source[:, 2] != driver[:, 2]).all()
    np.testing.assert_array_equal(batch["same_identity"], source[:, 1] == driver[:, 1])
    assert 0 < batch["same_identity"].sum() < 64
    np.testing.assert_array_equal(batch["segmentation"][:, 0, 0], target[:, 2])
    np.testing.assert_array_equal(batch["driver_pose"][:, 0], driver[:, 2])
    assert (driver[0::2, 2] != driver[1::2, 2]).all()  # two drivers of one source never show the same motion


def test_images_have_their_landmarks_where_they_are_asked_for():
    corpus = dataclasses.replace(CORPUS, motions=8, poses=2)
    batch, plain = next(RenderCache(corpus, 4, 64, "counterfactual", 0, "test", landmarks=True)), next(make(corpus))
    for name in ("source", "driver", "target"):
        shown = batch[name][:, 0, 0, 1:]  # identity, motion
        np.testing.assert_array_equal(batch[f"{name}_landmarks"][:, 0], shown)
        np.testing.assert_array_equal(batch[f"{name}_rest"][:, 0], shown[:, 0])
        np.testing.assert_array_equal(batch[f"{name}_expression"][:, 0], shown[:, 1])
    added = {f"{image}_{name}" for image in ("source", "driver", "target") for name in LANDMARK_FIELDS}
    assert batch.keys() - plain.keys() == added | {"source_segmentation"} and same(plain, batch)


def test_targets_have_the_drivers_face_in_a_pose_of_their_own():
    corpus = dataclasses.replace(CORPUS, motions=9, poses=3)
    batch = {name: np.asarray(value) for name, value in next(make(corpus)).items()}
    source, driver, target = (batch[name][:, 0, 0].astype(int) for name in ("source", "driver", "target"))
    source = np.repeat(source, 2, 0)
    np.testing.assert_array_equal(target[:, :2], source[:, :2])  # group and identity
    np.testing.assert_array_equal(target[:, 2] // 3, driver[:, 2] // 3)
    assert (source[:, 2] // 3 != driver[:, 2] // 3).all() and (driver[0::2, 2] // 3 != driver[1::2, 2] // 3).all()
    assert 0.4 < (target[:, 2] != driver[:, 2]).mean() < 0.9  # a third meets by chance
    np.testing.assert_array_equal(batch["target_pose"][:, 0], target[:, 2])
    np.testing.assert_array_equal(batch["segmentation"][:, 0, 0], target[:, 2])
    own = next(make(corpus, "self"))
    np.testing.assert_array_equal(own["target"], own["driver"])


def test_a_face_is_rendered_in_several_poses(monkeypatch):
    monkeypatch.undo()
    shown = {}

    def render(identity, motion, size, supersample):
        shown.update(motion)
        frames = jnp.zeros((len(motion["yaw"]), size, size))
        rgb = jnp.zeros((*frames.shape, 3))
        return {"rgb": rgb, "background": rgb, "segmentation": frames, "landmarks": jnp.zeros((len(rgb), 5, 3))}

    monkeypatch.setattr(render_cache, "render", render)
    monkeypatch.setattr(render_cache, "sample_identity", lambda key: {"age": jax.random.uniform(key)})
    monkeypatch.setattr(render_cache, "labels", lambda identity, motion: {"pose": jnp.zeros((len(motion["yaw"]), 9))})
    points = jnp.zeros((5, 3))
    monkeypatch.setattr(
        render_cache, "canonical_landmarks", lambda identity, motion: points + motion["jaw"][:, None, None]
    )
    group = render_cache.render_groups(jax.random.key(0), 2, 2, 6, 8, 1, 3)
    jaw = np.asarray(shown["jaw"]).reshape(2, 2, 6)
    moved = np.asarray(group["rest"])[:, :, None] + group["expression"]
    np.testing.assert_allclose(moved, np.broadcast_to(jaw[..., None, None], moved.shape), atol=1e-6)
    for name, value in shown.items():
        value = np.asarray(value).reshape(2, 2, 2, 3)  # group, identity, face, pose
        np.testing.assert_array_equal(value[:, 0], value[:, 1])
        if name in POSE_FIELDS:
            assert len(np.unique(value)) == 12, name
        else:
            np.testing.assert_array_equal(value, np.broadcast_to(value[..., :1], value.shape))
    assert len(np.unique(shown["jaw"])) == 4


def test_a_share_of_the_pairs_is_in_the_sources_own_motion():
    stream = RenderCache(CORPUS, 4, 64, "self", 0, "test", same_frame=0.2)
    still = []
    for _ in range(20):
        batch = {name: np.asarray(value) for name, value in next(stream).items()}
        own = np.repeat(batch["source"], 2, 0) == batch["target"]
        still.append(own.all((1, 2, 3)))
        np.testing.assert_array_equal(np.repeat(batch["source_pose"], 2, 0)[still[-1]], batch["driver_pose"][still[-1]])
        np.testing.assert_array_equal(batch["driver"], batch["target"])
    still = np.concatenate(still)
    assert abs(still.mean() - 0.2) < 0.04
    assert not still[0::2].any()  # the last driver of a source only
    plain = next(make(recipe="self"))
    assert (np.repeat(np.asarray(plain["source"]), 2, 0) != plain["target"]).any((1, 2, 3)).all()


def test_recipe_self_pairs_one_identity():
    assert np.asarray(next(make(recipe="self"))["same_identity"]).all()


@pytest.mark.parametrize("refresh", [1, 3, 0])
@pytest.mark.parametrize("stop", [1, 2, 5, 9])
def test_stream_continues_after_restore(refresh, stop):
    corpus = dataclasses.replace(CORPUS, refresh=refresh)
    whole = make(corpus)
    batches = [next(whole) for _ in range(stop + 3)]
    first = make(corpus)
    for _ in range(stop):
        next(first)
    resumed = make(corpus)
    resumed.restore(first.state())
    for expected in batches[stop:]:
        assert same(next(resumed), expected)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"corpus": dataclasses.replace(CORPUS, refresh=3)}, "refresh 3, this run has 1"),
        ({"corpus": dataclasses.replace(CORPUS, style=0.25)}, "another style"),
        ({"corpus": dataclasses.replace(CORPUS, supersample=3)}, "supersample 3"),
        ({"recipe": "self"}, "another recipe, this run has counterfactual"),
        ({"seed": 1}, "seed 1, this run has 0"),
    ],
)
def test_a_position_of_other_data_is_refused_by_name(change, fault):
    state = make(**change).state()
    assert all(isinstance(value, int) for value in state.values())
    with pytest.raises(InputError, match=f"saved position is of {fault}"):
        make().restore(state)
    make().restore({"step": 3})  # as earlier versions kept it


def test_groups_are_replaced_in_turn():
    stream = make()
    seen = []
    for _ in range(12):
        seen.append(set(np.unique(np.asarray(next(stream)["source"])[..., 0])))
    assert len(set().union(*seen)) > 12  # of 6 groups, 2 are new at each step
    slow = make(dataclasses.replace(CORPUS, refresh=4))
    batches = [next(slow) for _ in range(12)]
    renewed = [set(np.unique(np.asarray(batch["source"])[..., 0])) for batch in batches]
    assert 6 < len(set().union(*renewed)) <= 12  # three renewals of two groups
    still = make(dataclasses.replace(CORPUS, refresh=0))
    assert len(set().union(*(set(np.unique(np.asarray(next(still)["source"])[..., 0])) for _ in range(12)))) <= 6


def test_seeds_and_names_give_other_streams():
    assert not same(next(make(seed=0)), next(make(seed=1)))
    assert not jnp.array_equal(jax.random.key_data(named_key(0, "ab")), jax.random.key_data(named_key(0, "ba")))
