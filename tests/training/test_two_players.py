"""Loss weights are arguments of one program; a discriminator has an optimiser of its own."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasa_jax.config import TrainConfig
from vasa_jax.errors import InputError
from vasa_jax.training.checkpoint import CheckpointManager
from vasa_jax.training.optimizer import Schedule, make_discriminator_optimizer, make_optimizer
from vasa_jax.training.tasks.base import Task
from vasa_jax.training.train_step import TrainStep
from vasa_jax.training.trainer import VASATrainer

SETTINGS = TrainConfig(
    steps=6, batch_size=4, learning_rate=0.1, warmup_steps=0, discriminator_learning_rate=0.05, log_every=1,
    evaluate_every=0, save_every=3, clip_norm=0.0,
)  # fmt: skip


class Stream:
    def __init__(self):
        self.step = 0

    def __next__(self):
        self.step += 1
        return {"x": np.full((4, 2), self.step, np.float32)}

    def state(self):
        return {"step": self.step}

    def restore(self, state):
        self.step = state["step"]


class Chase(Task):
    """The player wants to be where the discriminator is; that, from update 2 on, elsewhere by the batch's amount."""

    name = "chase"

    def init(self, key):
        return {"w": jnp.zeros((2, 2))}

    def init_discriminator(self, key):
        return {"c": jnp.array([[1.0, 2.0], [-1.0, 0.5]])}

    def data(self):
        return Stream()

    def loss_weights(self, step):
        return {"near": np.float32(0.5), "away": np.float32(step >= 2)}

    def frozen_params(self):
        return {"scale": np.float32(3.0)}

    def loss(self, params, batch, key, *, weights, frozen, discriminator):
        still = jax.lax.stop_gradient
        near = frozen["scale"] * jnp.square(params["w"] - still(discriminator["c"])).mean()
        away = jnp.square(discriminator["c"] - still(params["w"]) - batch["x"].mean()).mean()
        return weights["near"] * near + weights["away"] * away, {"near": near, "away": away}


def expected_run(steps):
    """The same, each player with gradients of its own part alone."""
    task, player, discriminator = Chase(), make_optimizer(SETTINGS), make_discriminator_optimizer(SETTINGS)
    w, c, schedule = task.init(None), task.init_discriminator(None), Schedule(SETTINGS)
    player_state, discriminator_state = player.init(w), discriminator.init(c)
    for step in range(steps):
        amount = float(step + 1)
        w_gradient = jax.grad(lambda w, c=c: 0.5 * 3.0 * jnp.square(w["w"] - c["c"]).mean())(w)
        c_gradient = jax.grad(lambda c, w=w, a=amount: jnp.square(c["c"] - w["w"] - a).mean())(c)
        norms = {name: optax.tree.norm(gradient) for name, gradient in (("w", w_gradient), ("c", c_gradient))}
        rates = schedule.rates(step)
        updates, player_state = player.update(w_gradient, player_state, w, norm=norms["w"], rate=rates["model"])
        if step >= 2:
            rate = rates["discriminator"]
            moves, discriminator_state = discriminator.update(
                c_gradient, discriminator_state, c, norm=norms["c"], rate=rate
            )
            c = optax.apply_updates(c, moves)
        w = optax.apply_updates(w, updates)
    return w, c, discriminator_state


def test_each_player_follows_its_own_part_and_rests_without_one(tmp_path):
    state = VASATrainer(Chase(), SETTINGS, tmp_path).fit()
    w, c, discriminator_state = expected_run(6)
    np.testing.assert_allclose(state.params["w"], w["w"], rtol=1e-5)
    np.testing.assert_allclose(state.discriminator.params["c"], c["c"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state.discriminator.optimizer), jax.tree.leaves(discriminator_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    norms = [line["discriminator_gradient_norm"] for line in lines]
    assert norms[:2] == [0.0, 0.0] and min(norms[2:]) > 0


def test_a_gan_resumes_bit_for_bit(tmp_path):
    whole = VASATrainer(Chase(), SETTINGS, tmp_path / "whole").fit()
    VASATrainer(Chase(), SETTINGS, tmp_path / "parts").fit()
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "6")
    resumed = VASATrainer(Chase(), SETTINGS, tmp_path / "parts").fit()
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("accumulate", "remat"), [(1, False), (2, False), (1, True)])
def test_runs_of_other_weights_share_one_program(accumulate, remat):
    train_step = TrainStep(Chase(), dataclasses.replace(SETTINGS, accumulate=accumulate, remat=remat))
    results = []
    rates = Schedule(SETTINGS).rates(3)
    for near in (0.0, 0.5, 2.0):
        arguments = {"weights": {"near": np.float32(near), "away": np.float32(0.0)}, "frozen": {"scale": np.float32(1)}}
        state, _ = train_step.update(train_step.new_state(), next(Stream()), rates, arguments)
        results.append(np.asarray(state.params["w"]))
    assert train_step.update._cache_size() == 1
    assert (results[0] == 0).all() and (results[1] != 0).all()


def test_a_gan_begins_with_a_checkpoint_of_its_own_kind(tmp_path):
    class Alone(Chase):
        def init_discriminator(self, key):
            return None

        def loss(self, params, batch, key, *, weights, frozen):
            return weights["near"] * jnp.square(params["w"] - batch["x"].mean()).mean(), {}

    state = VASATrainer(Alone(), SETTINGS, tmp_path).fit()
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    # What checkpoints of other tasks hold must not depend on GANs.
    assert {path[0].name for path, _ in paths} == {"step", "params", "ema", "optimizer"}
    assert [field.name for field in dataclasses.fields(state)] == ["step", "params", "ema", "optimizer"]
    with pytest.raises(InputError, match=r"state/discriminator/optimizer/.* is missing from it"):
        VASATrainer(Chase(), SETTINGS, tmp_path).fit()


def test_checkpoints_from_before_the_discriminators_name_continue(tmp_path):
    whole = VASATrainer(Chase(), SETTINGS, tmp_path / "whole").fit()
    found = CheckpointManager(tmp_path / "whole" / "checkpoints")
    state, data, timer = found.restore(whole, {"step": 0}, {"seconds": 0.0})
    found.close()
    former = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    former["opponent"] = former.pop("discriminator")
    manager = CheckpointManager(tmp_path / "former" / "checkpoints")
    manager.save(6, former, data, timer)
    manager.close()
    resumed = VASATrainer(Chase(), SETTINGS, tmp_path / "former").fit()
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
