"""What a resumed run finds: its metrics, its log, its data; and what it refuses."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from regression import SETTINGS, Regression

import vasa_jax
from vasa_jax.errors import InputError, NonFiniteError
from vasa_jax.training.checkpoint import CheckpointManager
from vasa_jax.training.logger import TrainingLogger, cut_lines
from vasa_jax.training.preemption import Preempted
from vasa_jax.training.trainer import VASATrainer
from vasa_jax.weights.safetensors_io import load_params


def lines_of(workdir):
    """The steps of training lines and of evaluation lines; any line that is not JSON raises."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    training = [line["step"] for line in lines if "loss" in line]
    return training, [line["step"] for line in lines if any(name.startswith("eval/") for name in line)]


class Scored(Regression):
    """Evaluations that give the next of some scores; SIGTERM comes during the evaluation number `stop_in`."""

    def __init__(self, scores, stop_in=None, **options):
        super().__init__(**options)
        self.scores, self.stop_in, self.count = list(scores), stop_in, 0

    def evaluate(self, params):
        self.count += 1
        if self.count == self.stop_in:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the evaluation went on")
        return {"score": self.scores.pop(0)}


BEST = dataclasses.replace(SETTINGS, steps=10, evaluate_every=2, save_every=2, best_metric="score")


def test_a_checkpoint_without_metrics_gets_them_when_its_step_is_evaluated(tmp_path):
    """Else the best checkpoint could be lost: here it is the one that SIGTERM left without."""
    with pytest.raises(Preempted):
        VASATrainer(Scored([0.1], stop_in=2), BEST, tmp_path).fit()
    manager = CheckpointManager(tmp_path / "checkpoints", 2, "score")
    assert manager.latest_step() == 4 and not manager.evaluated(4) and manager.evaluated(2)
    manager.close()
    VASATrainer(Scored([0.9, 0.3, 0.2, 0.4]), BEST, tmp_path).fit()
    manager = CheckpointManager(tmp_path / "checkpoints", 2, "score")
    assert manager.evaluated(4) and manager.best_step() == 4
    manager.close()
    assert lines_of(tmp_path) == ([2, 4, 6, 8, 10], [2, 4, 6, 8, 10])


def test_an_evaluated_checkpoint_is_neither_evaluated_nor_written_again(tmp_path):
    VASATrainer(Scored([0.1, 0.2, 0.3, 0.4, 0.5]), BEST, tmp_path).fit()
    written = (tmp_path / "checkpoints" / "10" / "_CHECKPOINT_METADATA").stat().st_mtime_ns
    VASATrainer(Scored([]), BEST, tmp_path).fit()
    assert (tmp_path / "checkpoints" / "10" / "_CHECKPOINT_METADATA").stat().st_mtime_ns == written
    assert lines_of(tmp_path) == ([2, 4, 6, 8, 10], [2, 4, 6, 8, 10])


@pytest.mark.parametrize("stop_at", [3, 4, 5, 7])
def test_each_step_is_in_the_log_once_after_a_notice(tmp_path, stop_at):
    with pytest.raises(Preempted):
        VASATrainer(Regression(stop_at=stop_at), SETTINGS, tmp_path).fit()
    VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    assert lines_of(tmp_path) == ([2, 4, 6, 8, 10, 12], [6, 12])


@pytest.mark.parametrize("lost", [1, 2])
def test_each_step_is_in_the_log_once_after_a_hard_kill(tmp_path, lost):
    """The newest checkpoints are gone, the log went on, and its last line is torn."""
    whole = VASATrainer(Regression(), dataclasses.replace(SETTINGS, keep=9), tmp_path).fit()
    for step in (12, 8)[:lost]:
        shutil.rmtree(tmp_path / "checkpoints" / str(step))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    again = VASATrainer(Regression(), SETTINGS, tmp_path).fit()
    assert lines_of(tmp_path) == ([2, 4, 6, 8, 10, 12], [6, 12])
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_log_without_a_checkpoint_starts_afresh(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss": 1.0}\n')
    VASATrainer(Regression(), dataclasses.replace(SETTINGS, steps=2), tmp_path).fit()
    assert lines_of(tmp_path) == ([2], [2])


def test_only_later_and_torn_lines_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 3}\nnoise\n{"step": 2, "x": null}\n{"step": 2')
    cut_lines(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2, "x": null}\n'
    cut_lines(tmp_path / "none", 2)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_null_in_the_log(tmp_path, value):
    logger = TrainingLogger(tmp_path, 1)
    logger.scalars(1, {"score": value, "other": 2.0})
    logger.close()
    (line,) = (json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert line["score"] is None and line["other"] == 2.0


def test_the_log_of_a_broken_run_is_json(tmp_path):
    with pytest.raises(NonFiniteError):
        VASATrainer(Regression(bad_at=3), SETTINGS, tmp_path).fit()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text and '"loss": null' in text


class FromData(Regression):
    """With settings that decide its data."""

    def __init__(self, clips=7, frames=(4, 10)):
        super().__init__()
        self.settings = {"corpus.clips": clips, "motion.live_frames": frames}

    def data_settings(self):
        return self.settings


SHORT = dataclasses.replace(SETTINGS, steps=4)


@pytest.mark.parametrize(
    ("task", "seed", "changes", "fault"),
    [
        (FromData(clips=8), 0, {}, r"config\.corpus\.clips is 7 there, 8 here"),
        (FromData(frames=(4, 9)), 0, {}, r"config\.motion\.live_frames is \[4, 10\] there, \(4, 9\) here"),
        (FromData(), 1, {}, r"config\.seed is 0 there, 1 here"),
        (FromData(), 0, {"batch_size": 16}, r"config\.train\.batch_size is 8 there, 16 here"),
    ],
)
def test_a_position_in_other_data_is_refused_by_name(tmp_path, task, seed, changes, fault):
    files = {"config.json": "first"}
    VASATrainer(FromData(), SHORT, tmp_path, files=files).fit()
    longer = dataclasses.replace(SHORT, steps=8, **changes)
    with pytest.raises(InputError, match=rf"checkpoints/4: the checkpoint does not fit this run \({fault}\)") as told:
        VASATrainer(task, longer, tmp_path, seed, files={"config.json": "second"}).fit()
    assert "\n" not in str(told.value)
    assert (tmp_path / "config.json").read_text() == "first", "what is refused changes nothing"
    # The same settings, and more steps, go on.
    assert int(VASATrainer(FromData(), dataclasses.replace(SHORT, steps=6), tmp_path).fit().step) == 6


def test_a_checkpoint_that_knows_no_settings_is_accepted(tmp_path):
    state = VASATrainer(FromData(), SHORT, tmp_path / "first").fit()
    manager = CheckpointManager(tmp_path / "second" / "checkpoints")
    manager.save(4, state, {"step": 4}, {"seconds": 1.0})
    manager.close()
    assert int(VASATrainer(FromData(clips=9), SETTINGS, tmp_path / "second").fit().step) == 12


def test_checkpoint_and_export_say_what_made_them(tmp_path):
    files = {"config.json": json.dumps({"train": {"steps": 4}})}
    VASATrainer(FromData(), SHORT, tmp_path, files=files).fit()
    manager = CheckpointManager(tmp_path / "checkpoints")
    origin = manager.origin(manager.latest_step())
    manager.close()
    assert origin["version"] == vasa_jax.__version__ and origin["files"] == files
    assert origin["settings"]["corpus.clips"] == 7
    _, metadata = load_params(tmp_path / "export" / "regression.safetensors")
    assert (metadata["version"], metadata["step"]) == (vasa_jax.__version__, 4)


@pytest.mark.parametrize(("precision", "exact"), [("float32", True), ("bfloat16", False), ("int8", False)])
def test_a_run_that_starts_from_an_export_loses_nothing_unless_it_was_made_to_ship(tmp_path, precision, exact):
    settings = dataclasses.replace(SHORT, export_precision=precision)
    first = VASATrainer(Regression(), settings, tmp_path / "first").fit()
    exported, _ = load_params(tmp_path / "first" / "export" / "regression.safetensors")
    assert bool((exported["w"] == first.ema["w"]).all()) == exact
    settings = dataclasses.replace(settings, init_from=str(tmp_path / "first" / "export"))
    start = VASATrainer(Regression(), settings, tmp_path / "second").initial_state()
    assert bool((start.params["w"] == first.ema["w"]).all()) == exact
    step = float(np.abs(first.ema["w"]).max()) / 127.0  # of int8, which is the coarsest
    np.testing.assert_allclose(start.params["w"], first.ema["w"], atol=0.51 * step)


def test_a_checkpoint_comes_before_the_initial_parameters(tmp_path):
    """Order of precedence: a resumed run does not even read them."""
    VASATrainer(Regression(), SHORT, tmp_path / "first").fit()
    settings = dataclasses.replace(SHORT, init_from=str(tmp_path / "first" / "export"))
    VASATrainer(Regression(), settings, tmp_path / "second").fit()
    shutil.rmtree(tmp_path / "first")
    assert int(VASATrainer(Regression(), dataclasses.replace(settings, steps=6), tmp_path / "second").fit().step) == 6


def test_a_run_describes_its_parameters_and_writes_a_profile(tmp_path, capsys):
    VASATrainer(Regression(), dataclasses.replace(SETTINGS, profile=2), tmp_path).fit()
    table = (tmp_path / "parameters.txt").read_text()
    assert "| w " in table and "(3, 1)" in table
    assert "regression: 4 parameters" in capsys.readouterr().out
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


def test_a_hidden_copy_in_an_update_is_refused(tmp_path):
    """The loop runs under a transfer guard: what the host hands to an update it must hand over knowingly."""

    class Careless(VASATrainer):
        def _take_step(self, run, logger):
            super()._take_step(run, logger)
            jnp.add(np.float32(1.0), np.ones(3, np.float32))  # as a careless line in the loop would

    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        Careless(Regression(), SETTINGS, tmp_path).fit()
