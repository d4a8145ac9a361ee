"""The codec's loss, with a codec of a few products in the place of the networks: who is decoded with whose latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stub_face import JUDGES, PARAMS, Decoder, Encoder, N, use_stub

from vasa_jax import losses
from vasa_jax.config import CorpusConfig, FaceConfig
from vasa_jax.models.discriminator import PatchDiscriminator
from vasa_jax.training.augmentation import random_warp
from vasa_jax.training.tasks import face, face_forward
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.tasks.face_pairs import composited, mirrored, prepared, to_float

BATCH = 4


@pytest.fixture
def make(monkeypatch):
    """A task with the codec above, without random colours."""
    use_stub(monkeypatch)
    none = face_forward.sample_colour_transform
    monkeypatch.setattr(face_forward, "sample_colour_transform", lambda key, count, share: none(key, count, 0.0))
    monkeypatch.setattr(face, "load_judges", lambda directory, dtype: JUDGES)

    def make(**settings):
        settings = {"recipe": "self", "dynamics_noise": 0.0, "discriminator_widths": (4, 4), **settings}
        return FaceTask(FaceConfig(variant="face_least", **settings), CorpusConfig(), BATCH, "float32", 0)

    return make


def pairs(drivers=1, **changes):
    """A batch in the bank's form: noise, every picture in a colour of its own."""

    def pictures(number, count):
        noise, tint = jax.random.split(jax.random.fold_in(jax.random.key(5), number))
        image = jax.random.randint(noise, (count, N, N, 3), 0, 256)
        return (image * jax.random.uniform(tint, (count, 1, 1, 3))).astype(jnp.uint8)

    sources = BATCH // drivers
    driver = pictures(0, BATCH)
    batch = {
        "source": pictures(1, sources),
        "background": pictures(2, sources),
        "source_pose": jax.random.normal(jax.random.key(6), (sources, 9)),
        "person": jnp.arange(sources),
        "driver": driver,
        "driver_pose": jax.random.normal(jax.random.key(7), (BATCH, 9)),
        "target": driver,
        "target_pose": jax.random.normal(jax.random.key(9), (BATCH, 9)),
        "segmentation": jax.random.randint(jax.random.key(8), (BATCH, N, N), 0, 7).astype(jnp.uint8),
        "same_identity": jnp.ones(BATCH, bool),
        "same_pose": jnp.ones(BATCH, bool),
    }
    return {**batch, **changes}


def clean(image):
    """A float picture as the identity colour transform leaves it."""
    return jnp.maximum(to_float(image), 1e-4)


def decode(appearance_of, identity_of, pose_of, dynamics_of, background):
    """D(V, id, pose, dyn), each latent of its own picture, over a background; by the formulas above."""
    encoder, motion = Encoder(), {"params": PARAMS["encoder"]}
    own = encoder.apply(motion, appearance_of, method="encode_motion")
    appearance, _ = encoder.apply({"params": None}, appearance_of, *own, method="encode_appearance")
    _, identity = encoder.apply({"params": None}, identity_of, *own, method="encode_appearance")
    pose, _ = encoder.apply(motion, pose_of, method="encode_motion")
    _, dynamics = encoder.apply(motion, dynamics_of, method="encode_motion")
    rgb, matte, _ = Decoder().apply({"params": PARAMS["decoder"]}, appearance, identity, pose, dynamics)
    return matte * rgb + (1 - matte) * background


def test_pairwise_transfer_gives_i_the_pose_of_j_and_j_the_dynamics_of_i(make):
    task, batch = make(pairwise_transfer=1.0, loss_networks="somewhere"), pairs(drivers=2)
    total, terms = jax.jit(task.loss)(PARAMS, batch, jax.random.key(0))
    source, target, background = clean(batch["source"]), clean(batch["target"])[::2], clean(batch["background"])
    a = decode(source, source, target, source, background)
    b = decode(target, target, target, source, background)
    structure = jax.jit(losses.structure_loss)(a, b)
    expected = jnp.abs(a - b).mean() + structure + JUDGES.perceptual_loss(JUDGES.params, a, b)
    np.testing.assert_allclose(terms["pairwise_transfer"], expected, rtol=1e-3)
    assert expected > 0.05
    without, _ = jax.jit(make(loss_networks="somewhere").loss)(PARAMS, batch, jax.random.key(0))
    np.testing.assert_allclose(total - without, terms["pairwise_transfer"], rtol=1e-3)


def test_faces_are_compared_where_the_label_says_they_are(make):
    task = make(face_perceptual=2.0, loss_networks="somewhere")
    batch = shards_batch()
    total, terms = jax.jit(task.loss)(PARAMS, batch, jax.random.key(0))
    both = prepared(batch)
    target = jnp.maximum(both["target"], 1e-4)
    pose, _ = Encoder().apply({"params": PARAMS["encoder"]}, jnp.maximum(both["driver"], 1e-4), method="encode_motion")
    target_pose, _ = Encoder().apply({"params": PARAMS["encoder"]}, target, method="encode_motion")
    where = jnp.where(batch["valid_pose"][:, None], batch["driver_pose"], target_pose)
    source = jnp.maximum(both["source"], 1e-4)
    own, code = Encoder().apply({"params": PARAMS["encoder"]}, source, method="encode_motion")
    latents = Encoder().apply({"params": PARAMS["encoder"]}, source, own, code, method="encode_appearance")
    driver_dynamics = Encoder().apply({"params": PARAMS["encoder"]}, jnp.maximum(both["driver"], 1e-4),
                                      method="encode_motion")[1]  # fmt: skip
    rgb, matte, _ = Decoder().apply({"params": PARAMS["decoder"]}, *latents, pose, driver_dynamics)
    picture = composited(rgb, matte, both["background"], batch["valid_matte"])
    expected = JUDGES.face_loss(JUDGES.params, picture, target, where)
    np.testing.assert_allclose(terms["face_perceptual"], expected, rtol=1e-3)
    other = JUDGES.face_loss(JUDGES.params, picture, target, batch["driver_pose"])
    assert abs(other - expected) > 1e-2 * expected
    without, _ = jax.jit(make(loss_networks="somewhere").loss)(PARAMS, batch, jax.random.key(0))
    np.testing.assert_allclose(total - without, 2.0 * expected, rtol=1e-2)
    assert make(face_perceptual=1.0).notes()[0].startswith("config.face.face_perceptual: off, no judge")


def test_identity_is_asked_for_under_the_next_persons_motion(make):
    task, batch = make(cross_identity=2.0, loss_networks="somewhere"), pairs(person=jnp.array([5, 7, 7, 8]))
    _, terms = jax.jit(task.loss)(PARAMS, batch, jax.random.key(0))
    source, driver, background = (clean(batch[name]) for name in ("source", "driver", "background"))
    stranger = jnp.roll(driver, -1, 0)
    crossed = decode(source, source, stranger, stranger, background)
    # Row 1 is followed by another picture of the same person.
    valid = jnp.array([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(
        terms["cross_identity"], JUDGES.identity_loss(JUDGES.params, crossed, source, valid), rtol=1e-3
    )
    pooled = make(cross_identity=2.0, loss_networks="somewhere", pose_pool=1.0)
    _, terms = jax.jit(pooled.loss)(PARAMS, batch, jax.random.key(0))
    crossed = decode(source, source, jnp.roll(driver, -2, 0), stranger, background)
    np.testing.assert_allclose(
        terms["cross_identity"], JUDGES.identity_loss(JUDGES.params, crossed, source, valid), rtol=1e-3
    )


def test_rendered_cross_identity_pairs_are_judged_as_they_are(make):
    task = make(cross_identity=2.0, loss_networks="somewhere", recipe="counterfactual")
    same_pose = jnp.array([False, False, True, False])
    other_person = jnp.array([False, True, False, False])
    batch = pairs(target=pairs()["driver"][::-1], same_identity=other_person, same_pose=same_pose)
    _, terms = jax.jit(task.loss)(PARAMS, batch, jax.random.key(0))
    source, driver, target, background = (clean(batch[n]) for n in ("source", "driver", "target", "background"))
    # The pose to be shown is the driver's, or the target's own.
    shown = jnp.where(same_pose[:, None, None, None], driver, target)
    picture = decode(source, source, shown, driver, background)
    valid = jnp.array([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(
        terms["cross_identity"], JUDGES.identity_loss(JUDGES.params, picture, source, valid), rtol=1e-3
    )


def test_every_term_has_a_logged_weight_and_none_leaves_it_out(make):
    task = make(loss_networks="somewhere", pairwise_transfer=0.0, perceptual=3.0, adversarial=1.0,
                feature_matching=40.0, adversarial_eyes=2.0, adversarial_mouth=0.5, gradient_penalty=10.0, gan_from=5,
                transfer_from=2)  # fmt: skip
    critic = jax.jit(task.init_discriminator)(jax.random.key(0))
    batch = pairs()
    weights = task.loss_weights(5)
    assert weights.keys() == {
        "l1", "mse", "ssim", "gradient", "matte", "pose", "contrast", "latent_agreement", "latent_l2",
        "pairwise_transfer",
        "perceptual", "adversarial", "adversarial_eyes", "adversarial_mouth", "feature_matching", "gradient_penalty",
    }  # fmt: skip
    assert weights["perceptual"] == 3 and weights["adversarial"] == 1 and weights["pairwise_transfer"] == 0
    early = task.loss_weights(1)
    assert early.keys() == weights.keys()
    game = (name for name in weights if "adversarial" in name or name in ("feature_matching", "gradient_penalty"))
    assert early["perceptual"] == 0 and early["l1"] == 1 and not any(early[name] for name in game)
    total, terms = jax.jit(task.loss)(PARAMS, batch, jax.random.key(0), weights=weights, discriminator=critic)
    expected = sum(terms[name] * terms[f"weight/{name}"] for name in weights) + terms["discriminator"]
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert all(terms[f"weight/{name}"] == value for name, value in weights.items())
    assert make().init_discriminator(jax.random.key(0)) is None
    off = make(perceptual=1.0, cross_identity=1.0)
    assert "perceptual" not in off.loss_weights(0) and "cross_identity" not in off.loss_weights(0)
    assert [note.split(":")[0] for note in off.notes()] == ["config.face.perceptual", "config.face.cross_identity"]
    assert task.notes() == []


def test_players_of_the_game_get_gradients_of_their_own_part_only(make):
    task, network = make(adversarial=1.0, feature_matching=40.0, gan_from=5), PatchDiscriminator((4, 4))
    batch = pairs()
    critic = jax.jit(task.init_discriminator)(jax.random.key(1))

    def loss(players, weights):
        return task.loss(players[0], batch, jax.random.key(0), weights=weights, discriminator=players[1])[0]

    gradients = jax.jit(jax.grad(loss))
    on, critic_on = gradients((PARAMS, critic), task.loss_weights(5))
    off, critic_off = gradients((PARAMS, critic), task.loss_weights(4))
    assert all((x == 0).all() for x in jax.tree.leaves(critic_off))
    assert all((x != 0).any() for x in jax.tree.leaves(critic_on))
    alone = jax.jit(jax.grad(lambda p: make().loss(p, batch, jax.random.key(0))[0]))(PARAMS)
    for a, b in zip(jax.tree.leaves(off), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    def players_part(p):
        game = losses.generator_hinge, losses.feature_matching
        source, background = clean(batch["source"]), clean(batch["background"])
        driver, target = clean(batch["driver"]), clean(batch["target"])
        encoder, motion = Encoder(), {"params": p["encoder"]}
        own = encoder.apply(motion, source, method="encode_motion")
        latents = encoder.apply(motion, source, jax.lax.stop_gradient(own[0]), own[1], method="encode_appearance")
        pose, dynamics = encoder.apply(motion, driver, method="encode_motion")
        rgb, matte, _ = Decoder().apply({"params": p["decoder"]}, *latents, jax.lax.stop_gradient(pose), dynamics)
        scores, features = network.apply({"params": critic}, matte * rgb + (1 - matte) * background)
        return game[0](scores) + 40.0 * game[1](network.apply({"params": critic}, target)[1], features)

    def critics_part(c):
        source, background = clean(batch["source"]), clean(batch["background"])
        driver, target = clean(batch["driver"]), clean(batch["target"])
        picture = decode(source, source, driver, driver, background)
        return losses.discriminator_hinge(*(network.apply({"params": c}, x)[0] for x in (target, picture)))

    for a, b in zip(jax.tree.leaves(critic_on), jax.tree.leaves(jax.jit(jax.grad(critics_part))(critic)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-5)
    expected = jax.jit(jax.grad(players_part))(PARAMS)
    for a, b, c in zip(*map(jax.tree.leaves, (on, off, expected)), strict=True):
        np.testing.assert_allclose(a - b, c, rtol=1e-2, atol=1e-4)


def shards_batch(**changes):
    keys = jax.random.split(jax.random.key(3), 8)
    batch = {
        "source": jax.random.randint(keys[0], (BATCH, N, N, 3), 0, 255).astype(jnp.uint8),
        "driver": jax.random.randint(keys[1], (BATCH, N, N, 3), 0, 255).astype(jnp.uint8),
        "source_matte": jax.random.randint(keys[2], (BATCH, N, N), 0, 255).astype(jnp.uint8),
        "driver_matte": jax.random.randint(keys[3], (BATCH, N, N), 0, 255).astype(jnp.uint8),
        "source_pose": jax.random.normal(keys[4], (BATCH, 9)),
        "driver_pose": jax.random.normal(keys[5], (BATCH, 9)),
        "segmentation": jax.random.randint(keys[6], (BATCH, N, N), 0, 3).astype(jnp.uint8),
        "valid_pose": jnp.array([True, False, True, False]),
        "valid_matte": jnp.array([True, True, False, False]),
        "person": jnp.arange(BATCH),
    }
    return {**batch, **changes}


def test_shards_show_heads_on_one_colour_where_they_have_a_matte():
    batch = shards_batch()
    pairs = prepared(batch)
    matte = batch["source_matte"][0].astype(jnp.float32)[..., None] / 255
    behind = (to_float(batch["source"][0]) * (1 - matte)).sum((0, 1)) / (1 - matte).sum()
    np.testing.assert_allclose(pairs["background"][0], jnp.broadcast_to(behind, (N, N, 3)), rtol=1e-4)
    front = batch["driver_matte"][0].astype(jnp.float32)[..., None] / 255
    expected = front * to_float(batch["driver"][0]) + (1 - front) * behind
    np.testing.assert_allclose(pairs["target"][0], expected, rtol=1e-4)
    np.testing.assert_allclose(pairs["target"][2], to_float(batch["driver"][2]))


def test_absent_labels_change_nothing(make):
    task, batch = make(pairwise_transfer=1.0), shards_batch()
    program = jax.jit(task.loss)

    def value(batch):
        return program(PARAMS, batch, jax.random.key(0))[0]

    base = value(batch)
    for name, valid in (("source_pose", "valid_pose"), ("driver_pose", "valid_pose"), ("driver_matte", "valid_matte")):
        absent, present = (
            {**batch, name: jnp.where((batch[valid] == known).reshape(-1, *[1] * (batch[name].ndim - 1)),
                                      jnp.roll(batch[name], 1, 0), batch[name])}
            for known in (False, True)
        )  # fmt: skip
        np.testing.assert_array_equal(value(absent), base, err_msg=name)
        assert value(present) != base, name


def test_poses_without_a_label_learn_from_the_picture_and_others_as_much_as_is_asked_for(make):
    def gradient_of(share):
        task = make(pose=0.0, pairwise_transfer=1.0, pose_from_image=share)
        program = jax.jit(jax.value_and_grad(lambda p, batch: task.loss(p, batch, jax.random.key(0))[0]))

        def gradient(valid):
            loss, found = program(PARAMS, shards_batch(valid_pose=jnp.full(BATCH, valid)))
            return loss, found["encoder"]["pose_net"]["factor"]

        return gradient

    without = gradient_of(0.0)
    (loss, still), (unlabelled_loss, full) = without(True), without(False)
    same_loss, half = gradient_of(0.5)(True)
    assert still == 0 and full != 0
    np.testing.assert_allclose([same_loss, unlabelled_loss], loss, rtol=1e-5)
    np.testing.assert_allclose(half, 0.5 * full, rtol=5e-4)


def test_mirrored_pairs_are_those_of_a_mirrored_world():
    from vasa_jax.models.geometry import image_from_canonical, pixel_grid

    batch = prepared(shards_batch())
    both = mirrored(batch, jax.random.key(0), 1.0)
    np.testing.assert_array_equal(both["source"], batch["source"][:, :, ::-1])
    np.testing.assert_array_equal(both["segmentation"], batch["segmentation"][:, :, ::-1])
    flip, points = jnp.array([-1.0, 1.0, 1.0]), pixel_grid(3, 3, 3)[None]
    moved = image_from_canonical(points * flip, both["driver_pose"])
    np.testing.assert_allclose(moved, image_from_canonical(points, batch["driver_pose"]) * flip, atol=1e-4)
    same = mirrored(batch, jax.random.key(0), 0.0)
    assert all(jnp.array_equal(same[name], batch[name]) for name in batch)
    some = mirrored(batch, jax.random.key(1), 0.5)["source"]
    kinds = [bool(jnp.array_equal(a, b)) for a, b in zip(some, batch["source"])]
    assert True in kinds and False in kinds


def test_warped_crops_keep_their_border_and_follow_their_strength():
    crop = jax.random.uniform(jax.random.key(0), (2, 24, 24, 3))
    np.testing.assert_allclose(random_warp(crop, jax.random.key(1), 0.0), crop, atol=1e-5)
    ramp = jnp.broadcast_to(jnp.linspace(0, 1, 24)[None, None, :, None], (2, 24, 24, 3))
    moved = jnp.abs(random_warp(ramp, jax.random.key(1), 0.3) - ramp)
    assert 0.005 < moved[:, 6:-6, 6:-6].mean() < 0.06
    assert moved[:, 0].max() < moved.max() / 2
    assert not jnp.allclose(moved[0], moved[1])
