"""The loop: bitwise resume, preemption, checkpoints, accumulation, averaging, logs, non-finite losses."""

import dataclasses
import gc
import json
import os
import shutil
import signal
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from regression import SETTINGS, Regression, Stream

import vasa_jax
from vasa_jax.errors import InputError, NonFiniteError
from vasa_jax.training import cost
from vasa_jax.training.checkpoint import CheckpointManager
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.preemption import Preempted
from vasa_jax.training.train_step import TrainStep
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.weights.safetensors_io import load_params


def equal(a, b):
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def logged_losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_resume_is_bitwise_equal(tmp_path):
    whole = VASATrainer(Regression(), SETTINGS, tmp_path / "whole").fit()
    with pytest.raises(Preempted) as stop:
        VASATrainer(Regression(stop_at=6), SETTINGS, tmp_path / "parts").fit()
    assert stop.value.code == 75
    resumed = VASATrainer(Regression(), SETTINGS, tmp_path / "parts").fit()
    assert int(resumed.step) == 12
    assert equal(whole, resumed)
    exports = [load_params(tmp_path / run / "export" / "regression.safetensors") for run in ("whole", "parts")]
    assert equal(exports[0][0], exports[1][0])
    assert exports[0][1] == {"variant": "regression", "step": 12, "version": vasa_jax.__version__}
    losses = [logged_losses(tmp_path / run) for run in ("whole", "parts")]
    assert losses[0] == losses[1] and len(losses[0]) == 6


@pytest.mark.long
def test_training_reduces_the_loss_and_logs_it(tmp_path):
    VASATrainer(Regression(), dataclasses.replace(SETTINGS, steps=200, log_every=10), tmp_path).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 20
    assert losses[-1] < 0.01 < losses[0]
    assert list((tmp_path / "pictures").glob("flat-*.png"))


def test_finished_run_changes_nothing(tmp_path):
    first = VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    again = VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    assert equal(first, again)


def test_checkpoints_rotate(tmp_path):
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert kept == ["12", "8"]


def test_accumulation_equals_one_large_batch(tmp_path):
    class Plain(Regression):
        def loss(self, params, batch, key):
            loss = jnp.square(batch["x"] @ params["w"] + params["b"] - batch["y"]).mean()
            return loss, {}

    one = VASATrainer(Plain(), SETTINGS, tmp_path / "one").fit()
    four = VASATrainer(Plain(), dataclasses.replace(SETTINGS, accumulate=4), tmp_path / "four").fit()
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_average_follows_its_closed_form():
    train_step = TrainStep(Regression(), dataclasses.replace(SETTINGS, ema_decay=0.5))
    state, stream, schedule = train_step.new_state(), Stream(), Schedule(SETTINGS)
    expected = np.asarray(state.params["w"], np.float64)
    for step in range(5):
        state, _ = train_step.update(state, next(stream), schedule.rates(step), {})
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * np.asarray(state.params["w"], np.float64)
    np.testing.assert_allclose(state.ema["w"], expected, rtol=1e-5)


def test_non_finite_loss_stops_the_run(tmp_path):
    # The batch is named that made the loss so, not the one of the line that tells.
    with pytest.raises(NonFiniteError, match=r"the loss is nan at step 3 \(batch at data position step 2\)"):
        VASATrainer(Regression(bad_at=3), dataclasses.replace(SETTINGS, log_every=4), tmp_path).fit()
    assert not (tmp_path / "export").exists()


def test_checkpoint_of_another_model_is_refused(tmp_path):
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    fault = r"checkpoints/12: the checkpoint does not fit this run \(state/ema/b has shape \(1,\) there, \(2,\) here\)"
    with pytest.raises(InputError, match=fault):
        VASATrainer(Regression(width=2), SETTINGS, tmp_path).fit()


def test_training_starts_from_an_export(tmp_path):
    first = VASATrainer(Regression(), SETTINGS, tmp_path / "first").fit()
    settings = dataclasses.replace(SETTINGS, init_from=str(tmp_path / "first" / "export"))
    start = VASATrainer(Regression(), settings, tmp_path / "second").initial_state()
    for a, b in zip(jax.tree.leaves(first.ema), jax.tree.leaves(start.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2)
    assert int(start.step) == 0


class Drawless(Regression):
    """Whose parameters have shapes, and must never be drawn."""

    def init(self, key):
        def draw(shape):
            raise AssertionError(f"{shape} is drawn")

        shapes = jax.eval_shape(super().init, key)
        return jax.tree.map(lambda x: jax.pure_callback(draw, x, x.shape), shapes)


def test_no_parameter_is_drawn_where_an_export_has_them_all(tmp_path):
    """Compiling the draw of a large network takes a minute on a GPU."""
    first = VASATrainer(Regression(), SETTINGS, tmp_path / "first").fit()
    settings = dataclasses.replace(SETTINGS, init_from=str(tmp_path / "first" / "checkpoints"))
    start = VASATrainer(Drawless(), settings, tmp_path / "second").initial_state()
    assert equal(first.ema, start.params) and equal(start.params, start.ema)
    places = [{x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)} for tree in (start.params, start.ema)]
    assert not places[0] & places[1]  # an update gives both away
    with pytest.raises(Exception, match="is drawn"):
        jax.block_until_ready(VASATrainer(Drawless(), SETTINGS, tmp_path / "third").initial_state())


class Judged(Regression):
    """Evaluations whose figures are given in advance."""

    def __init__(self, scores, stop=False):
        super().__init__()
        self.scores, self.stop = list(scores), stop

    def evaluate(self, params):
        if self.stop:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the evaluation went on")
        return {"score": self.scores.pop(0)}


BEST = dataclasses.replace(SETTINGS, steps=10, evaluate_every=2, save_every=2, best_metric="score")


def test_best_checkpoint_is_kept_and_restored(tmp_path):
    trainer = VASATrainer(Judged([0.1, 0.9, 0.3, 0.2, 0.4]), BEST, tmp_path)
    state = trainer.fit()
    folder = tmp_path / "checkpoints"
    assert sorted(int(path.name) for path in folder.iterdir() if path.is_dir()) == [4, 8, 10]
    manager = CheckpointManager(folder, 2, "score")
    assert (manager.latest_step(), manager.best_step()) == (10, 4)
    for which, step in (("latest", 10), ("best", 4)):
        restored, data, timer = manager.restore(state, {"step": 0}, {"seconds": 0.0}, which)
        assert (int(restored.step), data) == (step, {"step": step})
        assert timer["seconds"] > 0
        assert equal(restored.ema, manager.restore_average(which))
    manager.close()
    lowest = CheckpointManager(folder, 2, "score", best_is_lowest=True)
    assert lowest.best_step() == 8
    lowest.close()
    with pytest.raises(InputError, match="no best checkpoint; name the metric"):
        CheckpointManager(folder, 2, "other").restore(state, {"step": 0}, {"seconds": 0.0}, "best")


def test_sigterm_stops_an_evaluation(tmp_path):
    with pytest.raises(Preempted) as stop:
        VASATrainer(Judged([], stop=True), BEST, tmp_path / "run").fit()
    assert stop.value.code == 75
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.is_dir()] == ["2"]
    resumed = VASATrainer(Judged([0.0] * 9), BEST, tmp_path / "run").fit()
    whole = VASATrainer(Judged([0.0] * 9), BEST, tmp_path / "whole").fit()
    assert equal(whole, resumed)


@pytest.mark.parametrize("how", ["shorten", "overwrite", "remove"])
def test_damaged_checkpoint_is_refused(tmp_path, how):
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    damage(tmp_path / "checkpoints" / "12" / "train", how)
    with pytest.raises(InputError, match=r"checkpoints/12: the checkpoint cannot be read .*; delete this") as told:
        VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    assert "\n" not in str(told.value)
    # What the message advises works.
    shutil.rmtree(tmp_path / "checkpoints" / "12")
    assert int(VASATrainer(Regression(), SETTINGS, tmp_path).fit().step) == 12


def damage(folder, how):
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "d"]
    assert files
    for path in files:
        content = path.read_bytes()
        if how == "remove":
            path.unlink()
        elif how == "shorten":
            path.write_bytes(content[: len(content) // 2])
        else:
            path.write_bytes(bytes(255 - byte for byte in content))


def test_fine_tuning_takes_what_fits(tmp_path, capsys):
    class Wider(Regression):
        def init(self, key):
            return {**super().init(key), "extra": jnp.ones((3,))}

    VASATrainer(Regression(), SETTINGS, tmp_path / "first").fit()
    initial = str(tmp_path / "first" / "checkpoints")
    settings = dataclasses.replace(SETTINGS, init_from=initial)
    with pytest.raises(InputError, match=r"the parameters do not fit this model \(extra is missing from it\)"):
        VASATrainer(Wider(), settings, tmp_path / "second").initial_state()
    settings = dataclasses.replace(settings, init_partial=True)
    start = VASATrainer(Wider(), settings, tmp_path / "second").initial_state()
    manager = CheckpointManager(initial)
    average = manager.restore_average()
    manager.close()
    assert equal(average, {name: start.params[name] for name in average})
    assert equal(start.params["extra"], jnp.ones((3,)))
    assert "1 arrays start afresh: extra" in capsys.readouterr().out
    with pytest.raises(InputError, match="holds neither regression"):
        VASATrainer(Wider(), dataclasses.replace(settings, init_from=str(tmp_path)), tmp_path).initial_state()


def test_log_has_norms_rates_and_the_use_of_the_hardware(tmp_path, monkeypatch):
    monkeypatch.setitem(cost.PEAK_TFLOPS, "cpu", 1e-3)
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    names = {
        "gradient_norm", "update_norm", "parameter_norm", "learning_rate", "step_seconds", "data_wait",
        "examples_per_second_per_chip", "model_flop_utilisation",
    }  # fmt: skip
    assert names <= line.keys()
    assert line["model_flop_utilisation"] > 0
    assert line["examples_per_second_per_chip"] == pytest.approx(8 / line["step_seconds"])


def test_flop_of_an_update_are_those_of_its_products():
    def double_product(a, b):
        return a @ b @ b

    a, b = jnp.ones((32, 64)), jnp.ones((64, 64))
    traced = jax.jit(double_product).trace(a, b)
    once = cost.update_cost(traced, traced.lower().compile(), 2)
    assert once.flop == 2 * 2 * 32 * 64 * 64
    assert once.utilisation(1e-6, "NVIDIA H200") == pytest.approx(once.flop / (1e-6 * 2 * 989e12))
    assert once.utilisation(1.0, "abacus") is None
    assert cost.peak_flops("TPU v5 lite") == 197e12
    assert cost.peak_flops("TPU v5p") == 459e12


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA H100 NVL", 835.0), ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0), ("NVIDIA L40", 181.0), ("NVIDIA A100-SXM4-80GB", 312.0), ("nvidia h200", 989.0),
        ("NVIDIA A1000", None), ("NVIDIA GH200 480GB", None), ("NVIDIA L400", None), ("TPU v50", None),
    ],
)  # fmt: skip
def test_devices_are_known_by_whole_words(kind, tflops):
    assert cost.peak_flops(kind) == (None if tflops is None else tflops * 1e12)


def test_offline_log_of_weights_and_biases(tmp_path):
    pytest.importorskip("wandb")
    VASATrainer(Regression(), dataclasses.replace(SETTINGS, wandb="offline"), tmp_path).fit()
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))


def test_frozen_parameters_keep_their_values_to_the_bit(tmp_path):
    settings = dataclasses.replace(SETTINGS, frozen=("^w$",), weight_decay=0.5)
    start = VASATrainer(Regression(), settings, tmp_path / "start").initial_state()
    end = VASATrainer(Regression(), settings, tmp_path / "run").fit()
    assert bool(jnp.array_equal(start.params["w"], end.params["w"]))
    assert not bool(jnp.array_equal(start.params["b"], end.params["b"]))


def test_parameters_frozen_half_way_keep_their_average_from_there(tmp_path):
    settings = dataclasses.replace(SETTINGS, frozen=("^w$",), frozen_from=0.5, steps=20, save_every=0)
    settings = dataclasses.replace(settings, weight_decay=0.0)  # what will be frozen never decays
    exports = []

    class Watched(VASATrainer):
        def export(self, state):
            path = super().export(state)
            exports.append((int(state.step), jax.device_get(load_params(path)[0])))
            return path

    end = Watched(Regression(), settings, tmp_path).fit()
    (middle, frozen), (last, final) = exports
    assert (middle, last) == (10, 20)
    np.testing.assert_array_equal(frozen["w"], final["w"])
    np.testing.assert_array_equal(frozen["w"], end.params["w"])
    assert (frozen["b"] != final["b"]).all()
    # until then they learn as anything else does
    free = dataclasses.replace(settings, frozen=(), frozen_from=0.0)
    whole = VASATrainer(Regression(stop_at=9), free, tmp_path / "free")
    with pytest.raises(Preempted):
        whole.fit()
    state = CheckpointManager(tmp_path / "free" / "checkpoints", 1).restore_average("latest")
    np.testing.assert_allclose(state["w"], frozen["w"], rtol=1e-6)


@pytest.mark.parametrize(("pattern", "fault"), [("nothing", "names no parameter"), ("(", "is no regex")])
def test_frozen_rejects_what_means_nothing(tmp_path, pattern, fault):
    with pytest.raises(InputError, match=fault):
        VASATrainer(Regression(), dataclasses.replace(SETTINGS, frozen=(pattern,)), tmp_path).fit()


def test_a_trainer_that_is_gone_leaves_no_task_behind(tmp_path):
    """Compiled programs belong to their trainer: sweeps and notebooks make many."""
    task = Regression()
    VASATrainer(task, dataclasses.replace(SETTINGS, steps=2), tmp_path).fit()
    alive = weakref.ref(task)
    del task
    gc.collect()
    assert alive() is None
