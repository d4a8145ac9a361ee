"""The GAN of stage 1: who learns from what, the squares that discriminators of eyes and mouth see, what is off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax import losses
from vasa_jax.config import FaceConfig
from vasa_jax.config.face import ADVERSARIAL
from vasa_jax.errors import InputError
from vasa_jax.losses import VASALoss
from vasa_jax.models.discriminator import PatchDiscriminator
from vasa_jax.training.tasks.face_gan import Discriminators, cut, play

N, ROWS, EYE, MOUTH = 32, 4, 2, 1  # pixels, images, segments
ALL = dict.fromkeys((*ADVERSARIAL, "feature_matching"), 1.0)
WHOLE = dict.fromkeys(("adversarial", "feature_matching"), 1.0)


def images(number):
    return jax.random.uniform(jax.random.key(number), (ROWS, N, N, 3))


def make(widths=(4, 4), size=N, **settings):
    face = FaceConfig(discriminator_widths=widths, **settings)
    return Discriminators(face, size, VASALoss(face, mouth_segments=(MOUTH,), eye_segments=(EYE,)))


def segmentation():
    """Eyes in the middle, at the left edge, at the lower right corner, nowhere; mouths beside them."""
    found = np.zeros((ROWS, N, N), np.uint8)
    for row, (y, x) in enumerate(((12, 17), (20, 1), (30, 30))):
        found[row, y - 1 : y + 2, x - 1 : x + 2] = EYE
    found[:, 10, 8] = MOUTH
    return jnp.asarray(found)


CORNERS = {"eyes": [(4, 10), (12, 0), (16, 16)], "mouth": [(6, 4)] * ROWS}  # of squares of 16 and of 8 pixels


@pytest.mark.parametrize("name", ["adversarial", "adversarial_mouth"])
def test_players_do_not_move_each_other(name):
    network = PatchDiscriminator((4, 4), scales=1)
    params = jax.jit(network.initial, static_argnums=1)(jax.random.key(0), N)
    image, target = images(1), images(2)

    @jax.jit
    def gradients(params, image, weight):
        """Gradients of the decoder's terms, of the discriminator's loss and of its penalty to (parameters, image)."""
        weights = {**dict.fromkeys(ALL, weight), "gradient_penalty": 1.0}

        def terms(params, image):
            found, loss = play(network, params, image, target, weights, name=name)
            penalty = found.pop("gradient_penalty")
            return jnp.stack([sum(found.values()), loss, penalty])

        return jax.jacrev(terms, (0, 1))(params, image)

    of_params, of_image = gradients(params, image, jnp.float32(1))
    assert all((leaf[0] == 0).all() for leaf in jax.tree.leaves(of_params))
    for part in (1, 2):
        assert any((leaf[part] != 0).any() for leaf in jax.tree.leaves(of_params))
    assert (of_image[1:] == 0).all() and (of_image[0] != 0).any()
    of_params, _ = gradients(params, image, jnp.float32(0))  # before `gan_from` the discriminator does not learn
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_params))


def test_pairs_without_weight_play_no_part():
    network = PatchDiscriminator((4, 4), scales=2)
    params = jax.jit(network.initial, static_argnums=1)(jax.random.key(0), N)
    image, target, weights = images(1), images(2), {**WHOLE, "gradient_penalty": 1.0}
    run = jax.jit(lambda *x: play(network, params, *x[:2], weights, *x[2:]))
    some = run(image, target, jnp.array([1.0, 0.0, 1.0, 0.0]))
    alone = run(image[::2], target[::2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), some, alone)
    whole = run(image, target)[0]
    for name in ("feature_matching", "gradient_penalty"):
        assert abs(some[0][name] / whole[name] - 1) > 1e-3


def test_what_is_off_leaves_the_program_as_it_is():
    """Without regions and penalty the program is that of one discriminator's hinge terms, operation by operation."""
    discriminators, network = make(**WHOLE), PatchDiscriminator((4, 4))
    params = jax.jit(discriminators.initial)(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, jax.jit(lambda k: network.initial(k, N))(jax.random.key(0)))

    def plain(params, image, target, segmentation, weights):
        learning = {"params": params}
        fixed, still = jax.lax.stop_gradient(learning), jax.lax.stop_gradient
        scores, features = network.apply(fixed, image)
        _, true_features = network.apply(fixed, target)
        real, _ = network.apply(learning, target)
        fake, _ = network.apply(learning, still(image))
        terms = {
            "adversarial": losses.generator_hinge(scores),
            "feature_matching": losses.feature_matching(true_features, features),
        }
        on = jnp.asarray(weights["adversarial"] + weights["feature_matching"] > 0, jnp.float32)
        return terms, on * losses.discriminator_hinge(real, fake)

    given = params, images(1), images(2), segmentation(), {name: jnp.float32(x) for name, x in WHOLE.items()}
    programs = [
        jax.jit(lambda *x, f=f: f(*x)).lower(*given).as_text()  # the function's own name is not in it
        for f in (plain, discriminators.terms)
    ]
    assert programs[0] == programs[1]


@pytest.mark.parametrize("region", CORNERS)
def test_a_region_is_judged_by_the_pixels_around_it_alone(region):
    name, side = f"adversarial_{region}", {"eyes": N // 2, "mouth": N // 4}[region]
    discriminators, network = make(**{name: 1.0}, gradient_penalty=1.0), PatchDiscriminator((4, 4))
    params = jax.jit(discriminators.initial)(jax.random.key(0))
    assert params.keys() == {region}
    corners, weights = CORNERS[region], {name: 1.0, "gradient_penalty": 1.0}
    target = images(2)

    @jax.jit
    def run(image):
        terms, vjp = jax.vjp(lambda x: discriminators.terms(params, x, target, segmentation(), weights), image)
        return terms, vjp(jax.tree.map(jnp.ones_like, terms))[0]

    found, slope = run(images(1))
    squares = [
        jnp.stack([x[row, y : y + side, z : z + side] for row, (y, z) in enumerate(corners)])
        for x in (images(1), target)
    ]
    expected = jax.jit(lambda a, b: play(network, params[region], a, b, weights, None, name))(*squares)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), found, expected)
    outside = np.ones((ROWS, N, N), bool)
    for row, (y, x) in enumerate(corners):
        outside[row, y : y + side, x : x + side] = False
    slope = np.asarray(slope)
    # A row without the region has no weight.
    assert (slope[outside] == 0).all() and all((slope[row] != 0).any() == (row < len(corners)) for row in range(ROWS))


def test_all_three_play_side_by_side():
    """Terms and losses are those of each alone, and the penalty is their sum; weights of pairs count in all."""
    weights, rows = {**ALL, "gradient_penalty": 1.0}, jnp.array([1.0, 0.5, 0.0, 1.0])
    given = images(1), images(2), segmentation(), weights, rows
    together = make(**ALL, gradient_penalty=1.0)
    params = jax.jit(together.initial)(jax.random.key(0))
    terms, loss = jax.jit(lambda p: together.terms(p, *given))(params)
    assert terms.keys() == weights.keys()
    total, penalty = 0.0, 0.0
    for settings in (WHOLE, {"adversarial_eyes": 1.0}, {"adversarial_mouth": 1.0}):
        alone = make(**settings, gradient_penalty=1.0)
        own = jax.jit(alone.initial)(jax.random.key(0))
        for name, tree in own.items():
            jax.tree.map(np.testing.assert_array_equal, tree, params[name])
        found, learning = jax.jit(lambda p, alone=alone: alone.terms(p, *given))(own)
        penalty, total = penalty + found.pop("gradient_penalty"), total + learning
        for name, value in found.items():
            np.testing.assert_allclose(terms[name], value, rtol=1e-5)
    np.testing.assert_allclose((terms["gradient_penalty"], loss), (penalty, total), rtol=1e-5)


def test_nobody_plays_where_no_target_shows_the_region():
    discriminators = make(adversarial_eyes=1.0, gradient_penalty=1.0)
    params = jax.jit(discriminators.initial)(jax.random.key(0))
    weights = {"adversarial_eyes": 1.0, "gradient_penalty": 1.0}
    nothing = jnp.zeros((ROWS, N, N), jnp.uint8)

    @jax.jit
    def run(params):
        terms, loss = discriminators.terms(params, images(1), images(2), nothing, weights)
        return sum(terms.values()) + loss

    value, slope = jax.value_and_grad(run)(params)
    assert value == 0 and all((leaf == 0).all() for leaf in jax.tree.leaves(slope))


def test_squares_are_cut_pixel_for_pixel():
    image = images(3)
    found = cut(image, jnp.array([(0, 0), (3, 5), (28, 28), (28, 0)]), 4)
    expected = [image[0, :4, :4], image[1, 3:7, 5:9], image[2, 28:, 28:], image[3, 28:, :4]]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_without_weights_there_is_no_discriminator():
    assert make().initial(jax.random.key(0)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adversarial_mouth": 1.0}, r"config\.face\.adversarial_mouth: 8 pixels a side cannot be halved 4 times"),
        (WHOLE | {"size": 40}, r"config\.face\.adversarial: 40 pixels a side cannot be halved 4 times; give fewer"),
    ],
)
def test_a_side_that_cannot_be_halved_is_one_line(settings, message):
    with pytest.raises(InputError, match=message):
        make((4, 4, 4, 4), **settings)
