import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_heads import FakeInstrument, N, PerfectGenerator, StillGenerator, fake_render, pose, use_fake_heads
from PIL import Image

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import head_angles
from vasa_jax.errors import InputError
from vasa_jax.evaluation import held_out, measures, sheets
from vasa_jax.evaluation.evaluator import EvaluationSettings, Evaluator, evaluate
from vasa_jax.evaluation.figures import label_figures
from vasa_jax.evaluation.instrument import (
    SIZE,
    Anchors,
    FaceInstrument,
    Instrument,
    Measurements,
    instrument_errors,
    patch_grid,
    soft_argmax,
)
from vasa_jax.training.tasks import face_probe
from vasa_jax.training.tasks.face_probe import InstrumentSettings, InstrumentTask, degrade, identity_loss
from vasa_jax.weights.safetensors_io import save_params

# Measures -----------------------------------------------------------------------------------------------------------


def test_pearson_closed_forms():
    assert measures.pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert measures.pearson([1, 2, 3], [6, 4, 2]) == pytest.approx(-1.0)
    assert measures.pearson([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)


def test_pearson_of_a_still_track_is_zero():
    moving = np.sin(np.arange(50))
    still = np.full(50, 0.1, np.float32) + np.float32(1e-8) * np.arange(50, dtype=np.float32)
    assert measures.pearson(still, moving) == 0.0
    assert measures.pearson(moving, still) == 0.0
    with pytest.raises(ValueError, match="one length"):
        measures.pearson([1, 2], [1, 2, 3])


def test_pooled_pearson_counts_differences_between_clips():
    flat = [(np.array([0.0, 0.0]), np.array([0.0, 0.0])), (np.array([1.0, 1.0]), np.array([1.0, 1.0]))]
    assert [measures.pearson(x, y) for x, y in flat] == [0.0, 0.0]
    assert measures.pooled_pearson(flat) == pytest.approx(1.0)


@pytest.mark.parametrize("delay", [3, -4, 0])
def test_best_offset_finds_the_delay(delay):
    source = np.random.default_rng(0).standard_normal(120)
    reference, track = source[20:100], source[20 - delay : 100 - delay]
    offset, r = measures.best_offset(track, reference)
    assert offset == delay
    assert r == pytest.approx(1.0)


def test_best_offset_of_a_still_track():
    assert measures.best_offset(np.ones(30), np.sin(np.arange(30))) == (0, 0.0)


def test_euler_angles_round_trip():
    angles = np.array([[20.0, -10.0, 5.0], [-40.0, 15.0, -30.0]])
    poses = np.stack([pose(*row) for row in angles])
    np.testing.assert_allclose(head_angles(poses), angles, atol=1e-9)


def test_offset_curve_and_its_peak():
    source = np.random.default_rng(0).standard_normal(60)
    curve = measures.offset_correlations(source[3:43], source[5:45], limit=4)
    assert curve.shape == (9,)
    assert curve[4 + 2] == pytest.approx(1.0)
    assert curve[4] == pytest.approx(measures.pearson(source[3:43], source[5:45]))
    assert measures.peak_offset(curve) == (2, pytest.approx(1.0))
    assert measures.peak_offset(np.array([1.0, 0.2, 0.5, 1.0, 1.0])) == (1, 1.0)  # the nearest to 0
    assert measures.offset_correlations(source[:4], source[:4]).shape == (3,)


def test_diversity_of_independent_and_equal_takes():
    wave = np.sin(np.arange(100) * 2 * np.pi / 25)
    first, second = (np.stack([pose(yaw=sign * 10 * v + 20) for v in wave]) for sign in (1, -1))
    moved = np.stack([pose(yaw=10 * v - 20) for v in wave])  # the same about another direction
    assert measures.head_diversity(np.stack([first, first])) == pytest.approx(0.0, abs=1e-9)
    assert measures.head_diversity(np.stack([first, moved])) == pytest.approx(0.0, abs=1e-9)
    # 20 sin between the two: 2 (10 sin)^2 is the variance of two values, on one of the three angles.
    smooth = measures.smooth(10 * wave)
    expected = np.sqrt(2 * np.mean((smooth - smooth.mean()) ** 2) / 3)
    assert measures.head_diversity(np.stack([first, second])) == pytest.approx(expected, rel=1e-6)
    assert measures.mutual_correlation(np.stack([wave, -wave, 2 * wave])) == pytest.approx(-1 / 3)


def test_pose_audio_correlation():
    rng = np.random.default_rng(0)
    level = measures.smooth(rng.standard_normal(300), 25)
    speed = 1.0 + level - level.min()
    turning = np.stack([pose(yaw=angle) for angle in 0.2 * (np.cumsum(speed) - speed.sum() / 2)])
    assert measures.pose_audio_correlation(turning, level) > 0.95
    assert measures.pose_audio_correlation(turning, -level) < -0.95
    assert abs(measures.pose_audio_correlation(turning, measures.smooth(rng.standard_normal(300), 25))) < 0.5
    assert measures.pose_audio_correlation(turning[:1], level[:1]) == 0.0


def test_lip_shape_is_that_of_the_frontal_face_in_any_pose():
    # Eyes at (+-0.3, -0.2), a mouth 0.24 wide and 0.12 high, all in one plane.
    face = np.array([[-0.12, 0.3], [0.12, 0.3], [0.0, 0.24], [0.0, 0.36], [-0.3, -0.2], [0.3, -0.2]])
    turned = np.stack([pose(yaw=25.0, pitch=-15.0, roll=20.0), pose()])
    turned[:, 6:] = [[np.log(1.3), 0.1, -0.2], [0.0, 0.0, 0.0]]
    plane = turned[:, [0, 1, 3, 4]].reshape(-1, 2, 2).transpose(0, 2, 1) * np.exp(turned[:, 6])[:, None, None]
    seen = np.einsum("tij,lj->tli", plane, face) + turned[:, None, 7:]
    shape = measures.lip_shape(seen, turned, (0, 1, 2, 3), (4,), (5,))
    np.testing.assert_allclose(shape, [[0.4, 0.2]] * 2, atol=1e-9)


def test_head_motion_is_the_mean_over_the_three_angles():
    turning = np.stack([pose(yaw=2.0 * i, roll=1.0 * i) for i in range(10)])
    assert measures.head_motion(turning) == pytest.approx((2.0 + 0.0 + 1.0) / 3.0)
    assert measures.head_motion(turning[:1]) == 0.0


def test_head_correlation_is_the_mean_over_the_three_angles():
    turning = np.stack([pose(yaw=0.1 * k) for k in range(5)])
    nodding = np.stack([pose(pitch=0.1 * k) for k in range(5)])
    assert measures.head_correlation(turning, turning) == pytest.approx(1 / 3)
    assert measures.head_correlation(turning[::-1], turning) == pytest.approx(-1 / 3)
    assert measures.head_correlation(turning, nodding) == 0.0


def test_rotation_error():
    assert measures.rotation_error_degrees(pose(roll=30.0), pose()) == pytest.approx(30.0)
    assert measures.rotation_error_degrees(pose(yaw=25.0), pose(yaw=25.0)) == pytest.approx(0.0, abs=1e-5)


def test_smooth():
    impulse = np.zeros(9)
    impulse[4] = 1.0
    np.testing.assert_allclose(measures.smooth(impulse)[2:7], np.array([1, 2, 3, 2, 1]) / 9.0)
    np.testing.assert_allclose(measures.smooth(np.full((7, 2), 3.0)), 3.0)
    with pytest.raises(ValueError, match="odd"):
        measures.smooth(impulse, 4)


def test_blinks_with_noise_at_the_threshold():
    opening = np.ones((50, 2))
    opening[10:13] = 0.1
    opening[30:36, :] = np.array([0.3, 0.4, 0.3, 0.38, 0.2, 0.5])[:, None]  # one slow blink that trembles
    assert measures.blinks(opening) == [(10, 12), (30, 34)]
    assert measures.blinks_per_minute(opening) == pytest.approx(60.0)  # 2 in 2 s
    assert measures.blinks_per_minute(np.zeros((0, 2))) == 0.0


def test_closure():
    closed, open_ = measures.closure([0.01, 0.03, 0.2, 0.4], [0.0, 0.0, 0.3, 0.3])
    assert (closed, open_) == (pytest.approx(0.02), pytest.approx(0.3))
    assert math.isnan(measures.closure([0.1], [0.3])[0])


def test_cosine_and_verification():
    assert measures.cosine([1.0, 0.0], [1.0, 1.0]) == pytest.approx(math.sqrt(0.5))
    assert measures.verification_auc([0.9, 0.8], [0.1, 0.2]) == 1.0
    assert measures.verification_auc([0.5], [0.5]) == 0.5
    assert measures.verification_auc([0.3], [0.1, 0.2, 0.4, 0.5]) == 0.5


def test_psnr():
    picture = np.zeros((4, 4, 3))
    assert measures.psnr(picture + 0.1, picture) == pytest.approx(20.0)
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    assert measures.psnr(picture + 0.1 * mask[..., None], picture, ~mask) == pytest.approx(100.0)


# Instrument ---------------------------------------------------------------------------------------------------------

POINTS = ("a", "b", "c", "d")
ANCHORS = Anchors(mouth=(0, 1), left_eye=(2,), right_eye=(3,))


def random_params(init):
    """Parameters of the right shapes without compiling their initialisation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def params():
    return random_params(
        lambda key: FaceInstrument(len(POINTS), ANCHORS).init(key, jnp.zeros((1, SIZE, SIZE, 3)))["params"]
    )


def test_soft_argmax_of_a_sharp_peak():
    heat = np.zeros((1, 8, 16, 1), np.float32)
    heat[0, 6, 3] = 50.0
    np.testing.assert_allclose(soft_argmax(heat)[0, 0], 1.1 * np.array([7 / 16 - 1, 13 / 8 - 1]), atol=1e-5)


def test_patch_grid_follows_scale_and_roll():
    centre = jnp.array([[0.2, -0.1]])
    upright = jnp.asarray(pose())[None].at[0, 6].set(jnp.log(2.0))
    grid = patch_grid(centre, upright, half=0.25, pixels=4)
    np.testing.assert_allclose(grid[0, 0, 3], [0.2 + 0.375, -0.1 - 0.375], atol=1e-6)
    mirrored = patch_grid(centre, upright, half=0.25, pixels=4, mirror=True)
    np.testing.assert_allclose(mirrored, grid[:, :, ::-1], atol=1e-6)
    # A quarter turn takes the patch's right to the image's bottom.
    turned = patch_grid(centre, jnp.asarray(pose(roll=90.0))[None], half=0.5, pixels=2)
    np.testing.assert_allclose(turned[0, 0, 1] - turned[0, 0, 0], [0.0, 0.5], atol=1e-6)


def test_instrument_measures_each_frame_alone(params, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    instrument = Instrument(params, POINTS, ANCHORS, batch_size=2)
    together = instrument.measure(frames)
    assert together.landmarks.shape == (3, 4, 2)
    assert together.pose.shape == (3, 9)
    np.testing.assert_allclose(np.linalg.norm(together.embedding, axis=-1), 1.0, atol=1e-5)
    for i in range(3):
        alone = instrument.measure(frames[i : i + 1])
        for name in ("mouth", "lids", "gaze", "pose", "landmarks", "embedding"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=2e-4)
    with pytest.raises(ValueError, match="square"):
        instrument.measure(frames[:, :50])

    path = tmp_path / "instrument.safetensors"
    metadata = {
        "anchors": {"mouth": [0, 1], "left_eye": [2], "right_eye": [3]},
        "points": POINTS,
        "errors": {"mouth_r": 0.5},
    }
    save_params(path, params, metadata)
    loaded = Instrument.from_pretrained(tmp_path, batch_size=2)
    assert (loaded.points, loaded.training_errors) == (POINTS, {"mouth_r": 0.5})
    np.testing.assert_allclose(loaded.measure(frames).landmarks, together.landmarks, atol=0.02)
    save_params(path, params, {"points": POINTS})
    with pytest.raises(InputError, match="not an instrument"):
        Instrument.from_pretrained(tmp_path)


def test_instrument_is_small():
    shapes = jax.eval_shape(InstrumentTask(InstrumentSettings()).init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) <= 280_000


def test_errors_of_a_perfect_instrument():
    rng = np.random.default_rng(0)
    person = np.array([0, 0, 1, 1])
    truth = {
        "mouth": rng.random(4), "lids": np.ones((4, 2)), "gaze": rng.random((4, 2)),
        "pose": np.stack([pose(yaw=5.0 * i) for i in range(4)]), "landmarks": rng.random((4, 6, 2)), "person": person,
    }  # fmt: skip
    perfect = Measurements(embedding=np.eye(2)[person], **{k: v for k, v in truth.items() if k != "person"})
    figures = instrument_errors(perfect, truth)
    assert figures["mouth_r"] == pytest.approx(1.0)
    assert (figures["identity_auc"], figures["identity_same"], figures["identity_different"]) == (1.0, 1.0, 0.0)
    for name in ("mouth_mae", "lids_mae", "gaze_mae_degrees", "distance_error", "landmark_error_pixels"):
        assert figures[name] == 0.0
    moved = dict(truth, landmarks=truth["landmarks"] + np.array([2.0 / SIZE, 0.0]))
    assert instrument_errors(perfect, moved)["landmark_error_pixels"] == pytest.approx(1.0)


# Its training -------------------------------------------------------------------------------------------------------


def test_identity_loss_closed_form():
    person = jnp.array([0, 0, 1, 1])
    loss = identity_loss(jnp.eye(2)[person], person, temperature=1.0)
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 2.0)), rel=1e-5)


def test_degrade_changes_only_its_share():
    frames = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    key = jax.random.key(1)
    np.testing.assert_array_equal(degrade(frames, key, 0.0), frames)
    changed = degrade(frames, key, 1.0)
    assert changed.shape == frames.shape
    assert np.isfinite(changed).all()
    assert np.abs(changed - frames).mean((1, 2, 3)).min() > 1e-3


def fake_batch(key, identities=2, motions=2, supersample=1):
    """What render_batch returns, of noise."""
    count = identities * motions
    keys = iter(jax.random.split(key, 6))
    return {
        "image": jax.random.uniform(next(keys), (count, SIZE, SIZE, 3)),
        "mouth": jax.random.uniform(next(keys), (count,)),
        "lids": jax.random.uniform(next(keys), (count, 2), minval=0.5),
        "gaze": 10.0 * jax.random.normal(next(keys), (count, 2)),
        "pose": jnp.tile(jnp.asarray(pose(), jnp.float32), (count, 1)),
        "landmarks": jax.random.uniform(next(keys), (count, len(face_probe.POINTS), 2)),
        "person": jnp.repeat(jnp.arange(identities), motions),
    }


@pytest.mark.slow
def test_every_parameter_learns():
    task = InstrumentTask(InstrumentSettings())
    parameters = random_params(task.init)
    (loss, terms), grads = jax.jit(jax.value_and_grad(task.loss, has_aux=True))(
        parameters, fake_batch(jax.random.key(1)), jax.random.key(2)
    )
    assert float(loss) == pytest.approx(sum(float(term) for term in terms.values()), rel=1e-5)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, jax.tree_util.keystr(path)


def test_data_continues_where_it_stopped(monkeypatch):
    monkeypatch.setattr(face_probe, "compiled_render_batch", fake_batch)
    settings = InstrumentSettings(identities=2, motions=2)
    data = InstrumentTask(settings, seed=1).data()
    next(data)
    state = data.state()
    expected = next(data)
    resumed = InstrumentTask(settings, seed=1).data()
    resumed.restore(state)
    np.testing.assert_array_equal(next(resumed)["mouth"], expected["mouth"])
    other = InstrumentTask(settings, seed=2).data()
    other.restore(state)
    assert not np.array_equal(next(other)["mouth"], expected["mouth"])


@pytest.mark.slow
def test_render_batch_labels_and_people():
    batch = jax.jit(lambda key: face_probe.render_batch(key, 2, 2, 1))(jax.random.key(0))
    assert batch["image"].shape == (4, SIZE, SIZE, 3)
    assert batch["landmarks"].shape == (4, len(face_probe.POINTS), 2)
    np.testing.assert_array_equal(batch["person"], [0, 0, 1, 1])
    assert float(batch["image"].min()) >= 0.0 and float(batch["image"].max()) <= 1.0


# Evaluator ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def fake_corpus(monkeypatch):
    use_fake_heads(monkeypatch)


SETTINGS = EvaluationSettings(heads=3, seconds=2.0, rendered_seconds=1.0, codec_frames=3, supersample=1)


def test_report_of_a_perfect_generator(fake_corpus, tmp_path, capsys):
    report = Evaluator(PerfectGenerator(), SETTINGS, FakeInstrument()).run(tmp_path)
    table = report["table"]
    assert table["mouth_r"]["generated"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert table["mouth_r"]["truth"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert table["mouth_r"]["second"]["mean"] == pytest.approx(1.0, abs=1e-6)  # half as wide, in time
    assert table["mouth_r"]["constant"]["mean"] == 0.0
    assert abs(table["mouth_r"]["shuffled"]["mean"]) < 0.9
    assert table["mouth_r_pooled"]["generated"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert table["mouth_offset"]["generated"]["mean"] == 0.0
    assert table["mouth_mae"]["generated"]["mean"] < 1 / 255
    assert table["mouth_mae"]["second"]["mean"] > 0.1
    assert table["identity"]["generated"]["mean"] == pytest.approx(1.0)
    # The instrument sees the lips' height follow the jaw and no change of width: r is 1 and 0.
    assert table["lip_shape_r"]["generated"]["mean"] == pytest.approx(0.5, abs=1e-3)
    assert table["lip_shape_mae"]["generated"]["mean"] < 1 / 255
    assert table["lip_shape_mae"]["second"]["mean"] > 0.05
    assert table["pose_audio_r"]["generated"]["mean"] == 0.0
    # Yaw turns by 1/49 rad per frame in the labels; the instrument sees a still head.
    assert table["head_motion"]["labels"]["mean"] == pytest.approx(math.degrees(1 / 49) / 3, rel=0.05)
    assert table["head_motion_ratio"]["generated"]["mean"] == table["head_r"]["generated"]["mean"] == 0.0
    assert table["head_r"]["second"]["mean"] == pytest.approx(1 / 3, abs=1e-6)  # yaw alone moves, and in both takes
    assert report["set"] == "vasa_jax.heldout.1"
    assert report["codec"]["same"]["psnr"]["mean"] > 45
    assert report["codec"]["same"]["mouth_r_pooled"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert report["codec"]["portrait"]["psnr"]["mean"] < 15
    assert report["instrument"]["frames"] == 75
    assert report["instrument"]["talking"]["mouth_mae"] < 1 / 255
    assert [head["text"] for head in report["heads"]] == ["a text"] * 3  # the silent clip was passed over

    text = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.index("The instrument's own errors") < text.index("Generated videos") < text.index("codec alone")
    assert "0.6 is reached" in text
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["table"]["mouth_r"]["generated"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert stored["heads"][0]["truth"]["mouth_r"] == pytest.approx(1.0, abs=1e-4)
    sheet = Image.open(tmp_path / "sheets" / "head_00.png")
    assert sheet.size == (9 * sheets.TILE, 2 * sheets.TILE + 150)
    assert Image.open(tmp_path / "sheets" / "codec.png").size == (4 * sheets.TILE, 3 * sheets.TILE)
    assert not list(tmp_path.rglob("*.part"))


def test_report_of_a_still_generator(fake_corpus, tmp_path, capsys):
    report = Evaluator(StillGenerator(), SETTINGS, FakeInstrument()).run(tmp_path)
    assert report["table"]["mouth_r"]["generated"]["mean"] == 0.0
    assert "0.6 is not reached" in capsys.readouterr().out


def test_evaluate_without_a_model_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        evaluate(VASAConfig(job="evaluate", checkpoint=str(tmp_path / "nowhere")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_second_take_is_a_ceiling_for_lips_and_leaves_heads_open(monkeypatch):
    monkeypatch.setattr(held_out, "render", fake_render)
    heads = held_out.HeldOutSet(3, 5.0, 0.1, N, supersample=1, speech="shipped")
    figures = [label_figures(head.second, head, face_probe.POINTS) for head in (heads[0], heads[1], heads[2])]
    assert min(row["mouth_r"] for row in figures) >= 0.95
    assert abs(np.mean([row["head_r"] for row in figures])) <= 0.5
    assert all(row["mouth_offset"] == 0 for row in figures)


def test_held_out_set_is_a_function_of_its_seed(fake_corpus):
    first, again = (held_out.HeldOutSet(2, 2.0, 1.0, N, seed=0, supersample=1)[1] for _ in range(2))
    other = held_out.HeldOutSet(2, 2.0, 1.0, N, seed=1, supersample=1)[1]
    np.testing.assert_array_equal(first.frames, again.frames)
    assert first.identity["skull_w"] != other.identity["skull_w"]
    assert (first.window.start, first.window.stop) == (12, 37)
    np.testing.assert_allclose(first.in_window("mouth"), first.motion["jaw"][12:37])


def test_sheets(tmp_path):
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    sheet = sheets.grid([[red, red], [red]], tile=16)
    assert sheet.shape == (32, 32, 3)
    assert (sheet[:16, 16:] == red[0, 0]).all() and (sheet[16:, 16:] == 255).all()
    plot = sheets.curves({"a": np.zeros(50), "b": np.ones(50)}, title="caf\u00e9 \u4f60" * 60, width=300)
    assert plot.shape == (150, 300, 3)
    blue_rows = np.nonzero((plot == sheets.COLOURS[1]).all(-1).sum(1) > 200)[0]
    assert blue_rows.size and blue_rows.max() < 40  # the larger track lies at the top of the axes
    sheets.save(tmp_path / "deep" / "plot.png", plot)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "deep" / "plot.png")), plot)
