"""The report on a codec: probes and exchanges in closed form, the set itself, and a codec that knows everything."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vasa_jax.config import FaceEvaluationConfig, VASAConfig
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.errors import InputError
from vasa_jax.evaluation import held_out, metrics, probes
from vasa_jax.evaluation.codec import CodecEvaluator, latent_changes, reading_changes
from vasa_jax.evaluation.face_readings import FaceReader, Measurements
from vasa_jax.evaluation.held_out import DYNAMICS, HeldOutStills
from vasa_jax.evaluation.image_metrics import image_metrics
from vasa_jax.main import run
from vasa_jax.weights.safetensors_io import save_params

N = 16


def rotation_pose(yaw=0.0, pitch=0.0, roll=0.0):
    """(9,) the pose of R_y(yaw) R_x(pitch) R_z(roll), angles in degrees."""
    y, p, r = np.radians([yaw, pitch, roll])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    turn_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    rotation = turn_y @ turn_x @ turn_z
    return np.concatenate([rotation[:, 0], rotation[:, 1], [0.0, 0.0, 0.0]])


# Probes ---------------------------------------------------------------------------------------------------------------


def test_probes_find_what_is_linear_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 20)) * rng.uniform(0.1, 10, 20) + 5.0
    y = x[:, :2] @ np.array([[1.0, 0.0], [0.5, 3.0]]) - 7.0
    splits = probes.splits_by_block(np.arange(300) % 5)
    assert probes.r_squared(probes.held_out_predictions(x, y, splits), y).min() > 0.999
    noise = probes.held_out_predictions(x, rng.normal(size=(300, 1)), splits)
    assert np.isfinite(noise).all()
    assert abs(probes.r_squared(noise, rng.normal(size=(300, 1)))[0]) < 0.15


def test_the_strength_of_a_probe_is_chosen_by_what_it_has_not_seen():
    """More features than rows: without a penalty, the fit would be perfect and the prediction worthless."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 100))
    y = x[:, :50].sum(-1, keepdims=True) + 5.0 * rng.normal(size=(60, 1))
    splits = probes.splits_by_block(np.arange(60) % 4)
    r2 = probes.r_squared(probes.held_out_predictions(x, y, splits), y)[0]
    loose = np.full_like(y, np.nan)
    for fit, predicted in splits:
        loose[predicted] = probes._ridge(x, y, fit, predicted)[0]
    assert r2 > probes.r_squared(loose, y)[0]


def test_r_squared_is_zero_for_the_mean_and_counts_predicted_rows_only():
    y = np.array([[1.0], [2.0], [3.0], [100.0]])
    predictions = np.array([[2.0], [2.0], [2.0], [np.nan]])
    assert probes.r_squared(predictions, y)[0] == pytest.approx(0.0)
    predictions[:3, 0] = [1.0, 2.0, 4.0]
    assert probes.r_squared(predictions, y)[0] == pytest.approx(0.5)


def test_classes_are_named_by_the_largest_prediction():
    rng = np.random.default_rng(2)
    label = np.repeat(np.arange(4), 25)
    x = np.eye(4)[label] + 0.1 * rng.normal(size=(100, 4))
    splits = probes.splits_by_block(np.arange(100) % 5)
    assert probes.class_accuracy(x, label + 10, splits) == 1.0
    assert probes.class_accuracy(rng.normal(size=(100, 4)), label, splits) < 0.5


def test_splits_share_neither_a_person_nor_a_motion():
    person, owner = np.array([0, 1, 1, 2, 2, 0]), np.array([0, 0, 1, 1, 2, 2])
    splits = probes.splits_by_block(np.stack([person, owner], -1))
    assert len(splits) == 3
    for fit, predicted in splits:
        assert not set(person[fit]) & set(person[predicted]) and not set(owner[fit]) & set(owner[predicted])
    np.testing.assert_array_equal([split[1] for split in splits], np.eye(3, dtype=bool)[person] .T & (person == owner))


# Exchanges ------------------------------------------------------------------------------------------------------------


def test_separate_latents_do_not_move_with_the_other_factor():
    rng = np.random.default_rng(0)
    poses, dynamics = np.stack([rotation_pose(yaw=10.0 * i) for i in range(4)]), rng.normal(size=(4, 128))
    here, there = np.concatenate([poses, dynamics], -1), np.concatenate([poses[::-1], dynamics[::-1]], -1)
    mixed = np.concatenate([poses[::-1], dynamics], -1)
    changes = latent_changes(here, there, mixed)
    assert changes["pose"]["dynamics"] == 0.0 and changes["dynamics"]["dynamics"] == pytest.approx(1.0)
    assert changes["pose"]["rotation"] == pytest.approx((30 + 10 + 10 + 30) / 4)
    assert changes["dynamics"]["rotation"] == pytest.approx(0.0, abs=1e-4)
    # A code that holds both in equal parts moves as much with either.
    both = np.concatenate([here[:, :9], here[:, 9:] + rng.normal(size=(4, 128))], -1)
    leaking = latent_changes(here, there, both)
    assert leaking["pose"]["dynamics"] > 0.3


def test_picture_changes_are_read_in_the_head():
    """A turned head with eyes that stay in it: the camera's gaze moves with the head, the gaze in the head does not."""
    count = 3
    still = {
        "mouth": np.full(count, 0.1), "lids": np.ones((count, 2)), "landmarks": np.zeros((count, 1, 2)),
        "embedding": np.ones((count, 1)),
    }  # fmt: skip
    gaze = np.array([[5.0, 0.0]] * count)
    here = Measurements(gaze=gaze, pose=np.tile(rotation_pose(), (count, 1)), **still)
    # The rotation's third column is where the back of the head goes: a yaw of -20 turns the nose to image right.
    turned = np.tile(rotation_pose(yaw=-20.0), (count, 1))
    mixed = Measurements(gaze=gaze + [[20.0, 0.0]], pose=turned, **{**still, "mouth": np.full(count, 0.3)})
    lids = np.ones((count, 2))
    changes = reading_changes(here, here, mixed, lids, lids)
    assert changes["pose"]["gaze"] == pytest.approx(0.0, abs=1e-4)
    assert changes["pose"]["mouth"] == pytest.approx(0.2)
    assert changes["pose"]["rotation"] == pytest.approx(20.0, abs=1e-4)
    assert np.isnan(reading_changes(here, here, mixed, 0 * lids, lids)["pose"]["gaze"])


def test_gaze_in_the_head_is_that_of_the_scene():
    """Against the renderer's labels: head and eyes turn in their own ways. Through a lens so long that every line of
    sight is the camera's axis; a pose is as seen along the line to the head, a gaze is not."""
    identity = jax.vmap(sample_identity)(jax.random.split(jax.random.key(0), 4)) | {"lens": jnp.full(4, 300.0)}
    rest = {name: jnp.full(4, value) for name, value in held_out.neutral_motion().items()}
    angles = {"yaw": [0.5, -0.4, 0.0, 0.3], "pitch": [0.0, 0.2, -0.3, 0.2], "roll": [0.0, 0.2, 0.0, -0.2],
              "gaze_yaw": [0.0, 0.3, -0.2, 0.1], "gaze_pitch": [0.1, 0.0, 0.2, -0.2]}  # fmt: skip
    truth = labels(identity, rest | {name: jnp.array(value) for name, value in angles.items()})
    found = metrics.gaze_in_head(truth["gaze"], truth["pose"])
    wanted = np.degrees(np.stack([angles["gaze_yaw"], -np.array(angles["gaze_pitch"])], -1))
    np.testing.assert_allclose(found, wanted, atol=0.1)


def test_picture_figures_of_equal_and_of_shifted_images():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 200, (2, N, N, 3), np.uint8)
    mask = np.zeros((2, N, N), bool)
    mask[:, 4:12, 4:12] = True
    equal = image_metrics(truth, truth, mask)
    assert equal["ssim"] == pytest.approx(1.0, abs=1e-4) and equal["psnr"] == pytest.approx(100.0)
    video = truth.copy()
    video[:, 4:12, 4:12] += 51
    changed = image_metrics(video, truth, mask)
    assert changed["psnr_head"] == pytest.approx(20 * np.log10(255 / 51), abs=1e-3)
    assert changed["psnr"] == pytest.approx(changed["psnr_head"] + 10 * np.log10(N * N / 64), abs=1e-3)
    assert changed["ssim_head"] < changed["ssim"] < 1.0


# The set and the report -----------------------------------------------------------------------------------------------


def fake_render(identity, motion, size, supersample):
    """The first numbers of a picture are the motion's and the identity's: nothing is lost."""
    count = motion["yaw"].shape[0]
    numbers = [(motion[name] + 2.0) / 4.0 for name in sorted(motion)] + [identity["skull_w"] / 2.0]
    flat = jnp.zeros((count, size * size * 3)).at[:, : len(numbers)].set(jnp.stack(numbers, -1))
    return {
        "rgb": flat.reshape(count, size, size, 3),
        "matte": jnp.ones((count, size, size)),
        "landmarks": jnp.zeros((count, len(held_out.LANDMARKS), 3)),
    }


def fake_labels(identity, motion):
    yaw, zero = motion["yaw"], 0.0 * motion["yaw"]
    pose = jnp.stack([jnp.cos(yaw), zero, -jnp.sin(yaw), zero, zero + 1.0, zero, zero, motion["tx"], motion["ty"]], -1)
    gaze = jnp.degrees(jnp.stack([motion["gaze_yaw"], motion["gaze_pitch"]], -1))
    return {
        "mouth": motion["jaw"], "lids": 1.0 - jnp.stack([motion["blink_l"], motion["blink_r"]], -1), "gaze": gaze,
        "pose": pose, "distance": motion["dist"],
    }  # fmt: skip


@pytest.fixture
def fake_corpus(monkeypatch):
    monkeypatch.setattr(held_out, "render", fake_render)
    monkeypatch.setattr(held_out, "labels", fake_labels)


def numbers_of(frames):
    """(N, motion and identity) of pictures by `fake_render`, to within a step of 8 bits."""
    names = sorted(held_out.neutral_motion())
    flat = frames.reshape(len(frames), -1) / 255.0
    return {name: 4.0 * flat[:, i] - 2.0 for i, name in enumerate(names)} | {"skull_w": 2.0 * flat[:, len(names)]}


class FakeFaceReader(FaceReader):
    points = tuple(held_out.LANDMARKS[:2])
    training_errors = {"mouth_r": 0.9, "soft_mouth_r": 0.8}  # noqa: RUF012

    def __init__(self):
        pass  # it has no network

    def measure(self, frames):
        found = numbers_of(frames)
        truth = jax.device_get(fake_labels(None, {name: jnp.asarray(track) for name, track in found.items()}))
        person = 40.0 * found["skull_w"]
        return Measurements(
            landmarks=np.zeros((len(frames), 2, 2)), embedding=np.stack([np.cos(person), np.sin(person)], -1),
            **{name: truth[name] for name in ("mouth", "lids", "gaze", "pose")},
        )  # fmt: skip


class PerfectCodec:
    """Reads the numbers off a picture and writes them into another. Roll, pitch and distance have no place in its 9
    pose numbers, nor in `fake_labels`: they travel with the dynamics."""

    image_size = N
    leak = 0.0

    def prepare(self, portrait):
        return portrait

    def encode_motion(self, frames):
        found = numbers_of(frames)
        motion = np.zeros((len(frames), 137))
        yaw = found["yaw"]
        motion[:, :9] = np.stack(
            [np.cos(yaw), 0 * yaw, -np.sin(yaw), 0 * yaw, 1 + 0 * yaw, 0 * yaw, 0 * yaw, found["tx"], found["ty"]], -1
        )
        for i, name in enumerate(DYNAMICS):
            motion[:, 9 + i] = found[name] + self.leak * yaw
        return motion

    def render(self, avatar, motion):
        names = sorted(held_out.neutral_motion())
        flat = np.repeat(avatar.reshape(1, -1), len(motion), 0) / 255.0
        yaw = np.arctan2(-motion[:, 2], motion[:, 0])
        tracks = {name: motion[:, 9 + i] - self.leak * yaw for i, name in enumerate(DYNAMICS)}
        tracks |= {"yaw": yaw, "tx": motion[:, 7], "ty": motion[:, 8]}
        for name, track in tracks.items():
            flat[:, names.index(name)] = (track + 2.0) / 4.0
        yield (np.clip(flat, 0, 1) * 255 + 0.5).astype(np.uint8).reshape(-1, N, N, 3)


class LeakingCodec(PerfectCodec):
    """Its dynamics hold the pose too; all is well until another pose is put beside them."""

    leak = 0.5


SETTINGS = FaceEvaluationConfig(people=6, stills=24, mixed=5, supersample=1)


def test_stills_and_drivers_share_motions_and_poses_are_drawn_apart(fake_corpus):
    people = HeldOutStills(6, 24, 5, N, supersample=1)
    person, again = people[5], HeldOutStills(6, 24, 5, N, supersample=1)[5]
    np.testing.assert_array_equal(person.stills.rgb, again.stills.rgb)
    assert not np.array_equal(person.stills.rgb, HeldOutStills(6, 24, 5, N, seed=1, supersample=1)[5].stills.rgb)
    identity = [held_out.HeldOutHeads(N).identity(i)["skull_w"] for i in (5, 0)]
    shown, driver, mixed = (numbers_of(part.rgb) for part in (person.stills, person.drivers, person.mixed))
    np.testing.assert_allclose(shown["skull_w"], identity[0], atol=0.005)
    np.testing.assert_allclose(driver["skull_w"], identity[1], atol=0.005)  # the ring closes
    for name in DYNAMICS:
        np.testing.assert_array_equal(shown[name], driver[name])
        np.testing.assert_array_equal(mixed[name], shown[name][:5])
    for name in ("yaw", "pitch", "roll", "tx", "ty", "dist"):
        np.testing.assert_array_equal(mixed[name], shown[name][1:6])
    np.testing.assert_array_equal(person.partner(), [1, 2, 3, 4, 5])
    motion = [people[i].stills.motion for i in range(6)]
    yaw, gaze = (np.concatenate([track[name] for track in motion]) for name in ("yaw", "gaze_yaw"))
    assert abs(np.corrcoef(yaw, gaze)[0, 1]) < 0.2  # half of `sample_motion`'s eyes look back at the camera


def test_report_of_a_perfect_codec(fake_corpus, tmp_path, capsys):
    report = CodecEvaluator(PerfectCodec(), SETTINGS, 0, FakeFaceReader()).run(tmp_path)
    table, probe = report["table"], report["probes"]
    assert table["same"]["mouth_mae"]["mean"] < 0.02 and table["cross"]["mouth_mae"]["mean"] < 0.02
    assert table["cross"]["rotation_error_degrees"]["mean"] < 1.0 < table["portrait"]["rotation_error_degrees"]["mean"]
    assert table["cross"]["identity"]["mean"] == pytest.approx(1.0, abs=1e-6)
    assert table["cross"]["psnr"]["mean"] > table["portrait"]["psnr"]["mean"] + 5.0
    assert table["cross"]["ssim"]["mean"] > table["portrait"]["ssim"]["mean"]
    assert "psnr" not in table["truth"]
    assert min(probe["dynamics"][name] for name in ("mouth", "gaze", "lids")) > 0.95
    assert max(probe["dynamics"][name] for name in ("yaw",)) < 0.1
    assert probe["pose"]["yaw"] > 0.95 and probe["pose"]["gaze"] < 0.1
    assert max(probe["shuffled"][name] for name in ("yaw", "mouth", "gaze", "lids")) < 0.1
    assert probe["dynamics"]["identity"] < 0.4 and probe["chance"]["identity"] == pytest.approx(1 / 6)
    assert report["latents"]["pose"]["dynamics"]["mean"] == 0.0
    assert report["latents"]["dynamics"]["dynamics"]["mean"] == pytest.approx(1.0)
    assert report["latents"]["dynamics"]["rotation"]["mean"] < 1e-3 < report["latents"]["pose"]["rotation"]["mean"]
    decoded, true = report["images"]["decoded"], report["images"]["true"]
    assert decoded["pose"]["mouth"]["mean"] < 0.02 and true["pose"]["mouth"]["mean"] == 0.0
    assert decoded["dynamics"]["mouth"]["mean"] == pytest.approx(true["dynamics"]["mouth"]["mean"], abs=0.02)
    assert report["face_probe"]["here"]["mouth_mae"] < 0.01

    text = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.index("face probe's own errors") < text.index("drive the portrait") < text.index("Linear probes")
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["probes"]["dynamics"]["mouth"] == pytest.approx(probe["dynamics"]["mouth"], abs=1e-5)
    assert Image.open(tmp_path / "sheet.png").size == (7 * 128, 6 * 128)


def test_report_of_a_codec_whose_dynamics_know_the_pose(fake_corpus, tmp_path):
    report = CodecEvaluator(LeakingCodec(), SETTINGS, 0, FakeFaceReader()).run(tmp_path)
    assert report["table"]["same"]["mouth_mae"]["mean"] < 0.02
    assert report["probes"]["dynamics"]["yaw"] > 0.5
    assert report["latents"]["pose"]["dynamics"]["mean"] > 0.2
    images = report["images"]
    assert images["decoded"]["pose"]["mouth"]["mean"] > images["true"]["pose"]["mouth"]["mean"] + 0.05


def test_bad_settings_and_files_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"config\.face_evaluation\.mixed: 30 is out of range; choose 1 to 24"):
        run(VASAConfig(job="evaluate_face", face_evaluation=FaceEvaluationConfig(mixed=30)), tmp_path / "out")
    with pytest.raises(InputError, match="no such directory"):
        run(VASAConfig(job="evaluate_face", checkpoint=str(tmp_path / "nowhere")), tmp_path / "out")
    save_params(tmp_path / "face.safetensors", {"a": np.zeros(1)}, {})
    with pytest.raises(InputError, match="not a codec"):
        run(VASAConfig(job="evaluate_face", checkpoint=str(tmp_path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
