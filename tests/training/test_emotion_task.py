"""The reader of emotions: its data are what they say, it trains and exports, and reads videos frame by frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_heads import pose
from random_params import random_params
from shrunk import shrunk

from vasa_jax.config import CorpusConfig
from vasa_jax.conventions import EMOTIONS, rotation_matrices
from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.errors import InputError
from vasa_jax.evaluation import face_readings
from vasa_jax.evaluation.face_readings import EmotionReader, Measurements, named_feeling
from vasa_jax.evaluation.held_out import HeldOutSet
from vasa_jax.generation.controls import parse_emotion
from vasa_jax.models.emotion_probe import CENTRE
from vasa_jax.models.face_probe import SIZE
from vasa_jax.training.jobs import train
from vasa_jax.training.tasks import emotion
from vasa_jax.training.tasks.emotion import EmotionSettings, EmotionTask
from vasa_jax.weights import parts
from vasa_jax.weights.safetensors_io import save_params

CLIPS, FRAMES = 8, 5


def numbered_clips(corpus, count, split, seed):
    """Clip i shows emotion i, and is i in its motion's first column."""
    motion = np.zeros((CLIPS, FRAMES, len(MOTION_NAMES)), np.float32)
    motion[:, :, 0] = np.arange(CLIPS)[:, None]
    none = np.zeros((CLIPS, 0))
    return ClipSet(none, none, none, none, motion, none, none, np.eye(8, dtype=np.float32)[:CLIPS])


def even_frames(identity, motion, size, supersample):
    """Pictures as bright as the clip's number says."""
    count = len(motion[MOTION_NAMES[0]])
    bright = motion[MOTION_NAMES[0]][:, None, None, None] / CLIPS
    return {"rgb": jnp.broadcast_to(bright, (count, size, size, 3)), "landmarks": jnp.zeros((count, 84, 3))}


@pytest.fixture
def fake_corpus(monkeypatch):
    monkeypatch.setattr(ClipSet, "make", staticmethod(numbered_clips))
    monkeypatch.setattr(emotion, "render", even_frames)
    upright = jnp.asarray(pose(), jnp.float32)
    monkeypatch.setattr(emotion, "labels", lambda who, how: {"pose": jnp.tile(upright, (len(how["yaw"]), 1))})
    yield
    jax.clear_caches()  # the compiled batches hold the fakes


@pytest.mark.long
def test_frames_come_with_their_clips_emotion(fake_corpus):
    data = EmotionTask(EmotionSettings(), CorpusConfig(), 16, seed=1).data()
    first, state = next(data), data.state()
    second = next(data)
    for batch in (first, second):
        number = np.rint(np.asarray(batch["image"])[:, 0, 0, 0] * CLIPS).astype(int)
        np.testing.assert_array_equal(np.asarray(batch["emotion"]), np.eye(8)[number])
        assert len(set(number)) > 2
    resumed = EmotionTask(EmotionSettings(), CorpusConfig(), 16, seed=1).data()
    resumed.restore(state)
    again = next(resumed)
    np.testing.assert_array_equal(again["emotion"], second["emotion"])
    assert not np.array_equal(first["emotion"], second["emotion"])


@pytest.mark.long
def test_it_trains_and_exports_a_reader(fake_corpus, tmp_path, monkeypatch):
    train(shrunk("train_emotion"), tmp_path)
    _ship_from(monkeypatch, tmp_path / "nowhere")
    assert EmotionReader.find(tmp_path) is None
    reader = EmotionReader.find(tmp_path / "export")
    assert reader.source == str(tmp_path / "export")
    assert set(reader.training_metrics) == {
        f"{prefix}{name}"
        for prefix in ("", "soft_")
        for name in ("frame_accuracy", "clip_accuracy", "share_mae")
    }
    save_params(tmp_path / "other" / "emotion.safetensors", {"w": np.zeros(2, np.float32)}, {})
    with pytest.raises(InputError, match=r"other/emotion\.safetensors: not a reader of emotions"):
        EmotionReader.find(tmp_path / "other")
    _ship_from(monkeypatch, tmp_path / "export")
    assert EmotionReader.find(tmp_path / "elsewhere").source == EmotionReader.find().source == "the shipped one"


def _ship_from(monkeypatch, folder):
    """Makes `folder` the one of the shipped weights, in both modules that look there."""
    monkeypatch.setattr(parts, "SHIPPED", folder)
    monkeypatch.setattr(face_readings, "SHIPPED", folder)


def test_a_batch_spreads_over_devices(fake_corpus):
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((1,), ("data",))
    task = EmotionTask(EmotionSettings(), CorpusConfig(), 4, seed=1)
    sharded = next(task.data(NamedSharding(mesh, PartitionSpec("data"))))
    np.testing.assert_array_equal(sharded["emotion"], next(task.data())["emotion"])

    class Three(NamedSharding):
        num_devices = 3

    with pytest.raises(InputError, match="choose a multiple of 3"):
        task.data(Three(mesh, PartitionSpec("data")))


def test_figures_of_a_reader_that_knows(fake_corpus, monkeypatch):
    def knows(network, params, image, centre, pose):
        """Right about all but clip 0, whose frames it takes for clip 1's, but one."""
        number = np.rint(np.asarray(image)[:, 0, 0, 0] * CLIPS).astype(int)
        number[:3] = 1
        return np.eye(8)[number]

    monkeypatch.setattr(emotion, "_shares", knows)
    monkeypatch.setattr(emotion, "degrade", lambda image, key, share: image)
    figures = EmotionTask(EmotionSettings(held_out_frames=4), CorpusConfig(), 4).evaluate({})
    assert figures["clip_accuracy"] == figures["soft_clip_accuracy"] == 6 / 7  # one of the clips is neutral
    assert figures["frame_accuracy"] == 25 / 28
    assert figures["share_mae"] == pytest.approx(2 * 0.75 / 64)


def test_the_loss_is_the_cross_entropy_of_the_shares():
    task = EmotionTask(EmotionSettings(degrade=0.0), CorpusConfig(), 2)
    params = random_params(task.init)
    params["emotion"] = {"kernel": np.zeros((64, 8), np.float32), "bias": np.arange(8, dtype=np.float32)}
    wanted = np.array([[0.0, 0, 0, 0, 0.3, 0.7, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1.0]], np.float32)
    batch = {
        "image": jnp.ones((2, SIZE, SIZE, 3)), "centre": jnp.zeros((2, 2)),
        "pose": jnp.tile(jnp.asarray(pose(), jnp.float32), (2, 1)), "emotion": jnp.asarray(wanted),
    }  # fmt: skip
    loss, terms = jax.jit(task.loss)(params, batch, jax.random.key(0))
    log_shares = np.arange(8) - np.log(np.exp(np.arange(8)).sum())
    assert float(loss) == pytest.approx(-(wanted * log_shares).sum(-1).mean(), rel=1e-5)
    assert float(terms["frame_accuracy"]) == 0.5


def test_roll_turns_the_pose_in_the_image():
    poses = np.stack([pose(yaw=20.0, pitch=-10.0, roll=5.0), pose()])
    turned = emotion._rolled(jnp.asarray(poses), jnp.radians(jnp.array([30.0, -40.0])))
    for before, after, angle in zip(rotation_matrices(poses), rotation_matrices(np.asarray(turned)), (30.0, -40.0)):
        np.testing.assert_allclose(after, rotation_matrices(pose(roll=angle)[None])[0] @ before, atol=1e-6)


def test_each_frame_is_read_alone_at_any_size():
    params = random_params(EmotionTask(EmotionSettings(), CorpusConfig(), 2).init)
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    points = ("chin", *CENTRE)
    landmarks = np.random.default_rng(1).uniform(-0.3, 0.3, (3, len(points), 2))
    none = np.zeros(3)
    reading = Measurements(none, none, none, np.stack([pose(roll=angle) for angle in (0, 10, 20)]), landmarks, none)
    reader = EmotionReader(params, batch_size=2)
    together = reader.read(frames, reading, points)
    np.testing.assert_allclose(together.sum(-1), 1.0, atol=1e-5)
    for row in range(3):
        alone = reader.read(frames[row : row + 1], reading[row : row + 1], points)
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4
    shares = np.zeros((2, 8))
    shares[:, EMOTIONS.index("neutral")] = 0.7
    shares[0, EMOTIONS.index("fear")], shares[1, EMOTIONS.index("anger")] = 0.3, 0.2
    assert named_feeling(shares) == "fear"


def test_true_performance_of_an_emotion(monkeypatch):
    held_out = HeldOutSet(1, 4.0, 0.1, 32, supersample=1, speech="shipped")
    calm, startled = (held_out.performance(0, parse_emotion(name)) for name in ("neutral", "surprise:0.9"))
    for name, most in (("wide", 0.9), ("brow_out", 0.9)):  # the strength breathes, and brows have a limit
        assert 0.6 * most < (startled[name] - calm[name]).mean() < 1.1 * most
    np.testing.assert_allclose(startled["tongue"], calm["tongue"], atol=1e-6)  # the same take of the same speech
    np.testing.assert_array_equal(startled["yaw"], calm["yaw"])
    assert EMOTIONS[int(parse_emotion("surprise:0.9").argmax())] == "surprise"
