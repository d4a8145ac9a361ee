"""Motion sets in files and windows that follow one another: the numbers made on the fly, and the model's own past."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from tiny_extraction import PREVIOUS, WINDOW, extraction_config, fake_make, fake_motion

from vasa_jax.config import MotionConfig, VASAConfig
from vasa_jax.conventions import HISTORY, TAIL
from vasa_jax.corpus.clip_set import FRAMES, ClipSet
from vasa_jax.errors import InputError
from vasa_jax.generation.speech_features import SpeechFeatures
from vasa_jax.main import run
from vasa_jax.training.tasks import motion_data, stored_motion
from vasa_jax.training.tasks.motion import MotionTask
from vasa_jax.training.tasks.motion_data import MotionExtractor, MotionSet, RenderedMotion
from vasa_jax.training.tasks.motion_windows import MotionWindows
from vasa_jax.training.tasks.stored_motion import MotionRecord, StoredMotion
from vasa_jax.weights.parts import load_part


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(ClipSet, "make", fake_make)
    monkeypatch.setattr(MotionExtractor, "_motion", fake_motion)
    monkeypatch.setattr(motion_data, "HELD_OUT_CLIPS", 2)
    return extraction_config(tmp_path / "parts")


def assert_equal(a: MotionSet, b: MotionSet):
    for field in dataclasses.fields(MotionSet):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if one is other is None:
            continue
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, field.name)


def test_a_stored_set_is_the_one_made_on_the_fly(config, tmp_path):
    run(config, tmp_path / "set")
    stored, rendered = StoredMotion(tmp_path / "set"), RenderedMotion(config.motion, config.corpus, jnp.float32, 0)
    assert stored.audio_dim == rendered.audio_dim
    for split, count in (("train", 5), ("heldout", 2)):
        one, other = stored(split), rendered(split)
        assert one.motion.shape == (count, FRAMES, 137)
        assert_equal(one, other)
    found, expected = stored.statistics(stored("train")), rendered.statistics(rendered("train"))
    for name in ("mean", "std"):
        np.testing.assert_array_equal(found[name], expected[name])
    # and so are the batches that the transformer is trained on
    tasks = [
        MotionTask(motion, config.corpus, 4, "float32", 0)
        for motion in (config.motion, dataclasses.replace(config.motion, set=str(tmp_path / "set"), face="", audio=""))
    ]
    batches = [next(task.data()) for task in tasks]
    jax.tree.map(np.testing.assert_array_equal, *batches)


def test_an_interrupted_extraction_goes_on(config, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    extracted = stored_motion._extracted
    numbers = []

    def counted(extractor, clips, shard, *rest):
        for record in extracted(extractor, clips, shard, *rest):
            numbers.append(record.clip_id)
            if len(numbers) == 4:
                raise Stopped
            yield record

    monkeypatch.setattr(stored_motion, "_extracted", counted)
    with pytest.raises(Stopped):
        run(config, tmp_path / "set")
    with pytest.raises(InputError, match="run the command that writes the data again"):
        StoredMotion(tmp_path / "set")
    run(config, tmp_path / "set")
    assert len(numbers) == 4 + 2 + 1 + 2, "the first shard is kept, the second one is made anew"
    whole = tmp_path / "whole"
    run(config, whole)
    for split in ("train", "heldout"):
        assert_equal(StoredMotion(tmp_path / "set")(split), StoredMotion(whole)(split))
    run(config, whole)
    assert len(numbers) == 9 + 7, "a finished set is not touched"
    with pytest.raises(InputError, match="made with other settings"):
        run(dataclasses.replace(config, seed=1), whole)


def test_other_data_is_no_motion_set(tmp_path, config):
    run(config, tmp_path / "set")
    manifest = tmp_path / "set" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(stored_motion.KIND, "something else"))
    with pytest.raises(InputError, match="holds no motion set"):
        StoredMotion(tmp_path / "set")
    with pytest.raises(InputError, match="no motion record"):
        MotionRecord.from_bytes(b"\x0a\x00")


# two unrolled windows


def numbered(count=3):
    """Motion and audio whose values say which clip and frame they are."""
    frame = np.arange(FRAMES, dtype=np.float32)
    motion = np.stack([1000.0 * clip + np.repeat(frame[:, None], 137, 1) for clip in range(count)])
    audio = np.stack([[np.repeat(frame[:, None], 32, 1)] * 2 for _ in range(count)])
    return MotionSet(
        jnp.asarray(motion), jnp.asarray(audio, jnp.float16), jnp.zeros((count, 2)), jnp.ones((count,)),
        jnp.zeros((count, 8)), jnp.asarray(np.stack([frame] * count)),
    )  # fmt: skip


@pytest.mark.parametrize("window", [30, 100])
def test_the_next_window_follows_after_the_hop(window):
    batch = next(MotionWindows(numbered(), 0.0, 1.0, window, 10, 256, 0, unrolled=True))
    batch = {name: np.asarray(value) for name, value in batch.items()}
    start, hop = batch["motion"][:, 0, 0] % 1000, batch["hop"]
    np.testing.assert_array_equal(batch["motion"][:, 0, 0] // 1000, batch["next_motion"][:, 0, 0] // 1000)
    np.testing.assert_array_equal(batch["next_motion"][..., 0] % 1000, (start + hop)[:, None] + np.arange(window))
    np.testing.assert_array_equal(batch["next_audio"][..., 0], (start + hop)[:, None] + np.arange(window))
    np.testing.assert_array_equal(batch["next_blinks"], (start + hop)[:, None] + np.arange(window))
    np.testing.assert_array_equal(batch["next_prev_audio"][..., 0], (start + hop)[:, None] + np.arange(-10, 0))
    np.testing.assert_array_equal(batch["prev_mask"], start > 0)
    assert hop.min() >= 10 and hop.max() <= window and len(set(hop)) > 15
    assert (start + hop + window).max() <= FRAMES
    assert (start > 0).mean() > 0.3


def test_clips_too_short_for_two_windows_are_refused():
    with pytest.raises(InputError, match=r"choose config\.motion\.window up to 190"):
        MotionWindows(numbered(), 0.0, 1.0, 195, 10, 4, 0, unrolled=True)


@pytest.fixture
def unrolled_task(config, tmp_path):
    run(config, tmp_path / "set")

    def make(**changes):
        motion = dataclasses.replace(config.motion, set=str(tmp_path / "set"), **changes)
        return MotionTask(motion, config.corpus, 8, "float32", 0)

    return make


def test_the_second_window_continues_the_models_own_first(unrolled_task, monkeypatch):
    task = unrolled_task(unrolled=True, truncate=0.5, drop_previous=0.0, drop_condition=0.0, velocity=1.0)
    batch = next(task.data())
    calls = []

    def apply(params, noisy, t, conditions):
        calls.append(jax.tree.map(np.asarray, conditions))
        return params * jnp.ones_like(noisy) * jnp.arange(WINDOW)[:, None]  # frame i is i

    monkeypatch.setattr(task, "_apply", apply)
    loss, terms = task.loss(jnp.float32(1.0), batch, jax.random.key(0))
    first, second = calls
    hop = np.asarray(batch["hop"])
    np.testing.assert_array_equal(second.prev_motion[..., 0], hop[:, None] + np.arange(-PREVIOUS, 0))
    np.testing.assert_array_equal(second.prev_audio, batch["next_prev_audio"])
    np.testing.assert_array_equal(second.audio, batch["next_audio"])
    assert second.prev_mask.all()
    heard = first.audio_mask.sum(1)
    assert (heard >= hop).all() and (heard < WINDOW).any()
    np.testing.assert_allclose(
        loss,
        0.5 * sum(
            weight * terms[prefix + name]
            for prefix in ("", "next_")
            for name, weight in (("pose", 3), ("dynamics", 1), ("pose_velocity", 3), ("dynamics_velocity", 1))
        ),
        rtol=1e-5,
    )  # fmt: skip
    # the seam is judged against the error that X_pre has already
    truth, before = np.asarray(batch["next_motion"]), np.asarray(batch["motion"])[np.arange(8), hop - 1]
    error = np.concatenate([(hop[:, None] - 1.0 - before)[:, None], np.arange(WINDOW)[:, None] - truth], 1)
    square = np.square(np.diff(error, axis=1))
    np.testing.assert_allclose(terms["next_pose_velocity"], square[..., :9].mean(), rtol=1e-4)
    # the prediction is given to the second window, not trained through it
    gradient = jax.grad(lambda p: task.loss(p, batch, jax.random.key(0))[0])(jnp.float32(1.0))
    assert np.isfinite(gradient) and gradient != 0.0


@pytest.mark.long
def test_unrolled_training_has_gradients(unrolled_task):
    task = unrolled_task(unrolled=True)
    batch, key = next(task.data()), jax.random.key(1)
    params = random_params(lambda key: task.init(key))
    gradient = jax.jit(jax.grad(task.loss, has_aux=True))(params, batch, key)[0]
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    plain = unrolled_task()
    terms = jax.eval_shape(plain.loss, params, next(plain.data()), key)[1]
    assert not [name for name in terms if name.startswith("next_")]


# sound heard as a stream hears it


@pytest.mark.long
def test_live_examples_hear_what_a_stream_hears(config):
    """Half of the batch: features of a hop and of its history, as generation computes them; the rest is unchanged."""
    motion = dataclasses.replace(config.motion, live=0.5, live_frames=(3, 8))
    task, plain = (MotionTask(m, config.corpus, 8, "float32", 0) for m in (motion, config.motion))
    batch, usual = (jax.tree.map(np.asarray, next(t.data())) for t in (task, plain))
    assert batch["heard"].tolist() == [3, 3, 8, 8, 12, 12, 12, 12]
    for name in usual:
        np.testing.assert_array_equal(batch[name][4:], usual[name][4:])
    np.testing.assert_array_equal(batch["motion"], usual["motion"])
    # find each live example's place in the clips, and let a stream's encoder hear it
    params, metadata = load_part(motion.audio, "audio")
    features = SpeechFeatures(params, metadata["fields"])
    clips = ClipSet.make(config.corpus, config.corpus.clips, "train", 0)
    known = RenderedMotion(config.motion, config.corpus, jnp.float32, 0)("train")
    whole = np.asarray(known.audio, np.float32)
    for row in range(4):
        frames = batch["heard"][row]
        places = [
            (clip, voice, start)
            for clip, voice in np.ndindex(whole.shape[:2])
            for start in range(FRAMES - WINDOW + 1)
            if np.array_equal(whole[clip, voice, start : start + WINDOW], usual["audio"][row])
        ]
        ((clip, voice, start),) = places
        sound = np.pad(clips.samples[clip, voice].astype(np.float32) / 32767.0, (HISTORY * 640, 0))
        heard = features.recent(sound[None, start * 640 : (start + HISTORY + frames) * 640 + TAIL])[0]
        np.testing.assert_allclose(batch["audio"][row, :frames], heard[HISTORY:], atol=1e-5)
        np.testing.assert_allclose(batch["prev_audio"][row], heard[HISTORY - PREVIOUS : HISTORY], atol=1e-5)
    masks = []

    def apply(params, noisy, t, conditions):
        masks.append(np.asarray(conditions.audio_mask))
        return jnp.zeros_like(noisy)

    task._apply = apply
    task.loss(None, batch, jax.random.key(0))
    assert (masks[0].sum(1) <= batch["heard"]).all() and (masks[0].sum(1) == batch["heard"])[:4].any()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"live": 0.5, "set": "somewhere"}, "a stored set has no sound"),
        ({"live": 0.5, "unrolled": True}, "turn one of them off"),
        ({"live": 0.5, "live_frames": ()}, "live_frames: empty"),
        ({"live_frames": (0,)}, "live_frames: 0 is out of range"),
    ],
)
def test_settings_that_do_not_go_together(changes, fault):
    with pytest.raises(InputError, match=fault):
        VASAConfig(motion=MotionConfig(**changes)).validate()
