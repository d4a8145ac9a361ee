"""The codec learns from photo heads, rendered heads and clips in one batch: the batch, its terms, two updates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_portrait import drawn_mesh, drawn_person, drawn_points
from tiny_face import LEAST, SIZE, add_variant, draw_heads, smooth_groups

from vasa_jax.config import CorpusConfig, PhotoHeadsConfig
from vasa_jax.corpus.photos import cache, groups
from vasa_jax.corpus.photos.build import Builder
from vasa_jax.corpus.photos.clip_pairs import _clip
from vasa_jax.corpus.photos.draw import COPIED
from vasa_jax.corpus.photos.framing import place
from vasa_jax.corpus.photos.store import write_heads
from vasa_jax.errors import InputError
from vasa_jax.losses.photo_heads import anchor_loss, coarse_place_loss, kept_loss, place_loss, region_loss
from vasa_jax.main import parse
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.preparation.photos import Portrait
from vasa_jax.training.jobs import make_task, train
from vasa_jax.training.tasks import face, face_validation
from vasa_jax.training.tasks.face_mixture import APART, open_mixture, parts_of, read_anchor
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import load_params, save_params

SMALL = PhotoHeadsConfig(groups=3, photos=2, heads=1, faces=5, refresh=2, share=0.5, style=0.0)
CORPUS = CorpusConfig(groups=2, motions=10, poses=2, chunk=1, refresh=4, style=0.0)


@functools.cache
def drawn_heads():
    image, matte = drawn_person(drawn_points())
    points = drawn_points()
    pose, builder = Portrait(image, matte, points).pose, Builder(drawn_mesh())
    placed = [place(image, matte, points, pose, scale, np.array([0.0, -0.05])) for scale in (0.0, 0.1)]
    return [builder(photo, np.random.default_rng(0)) for photo in placed]


@functools.cache
def start():
    return init_face(jax.random.key(0), LEAST)


def soft_heads(key, motion, shape):
    """In place of the renderer of heads."""
    frames = smooth_groups(key, 1, shape.heads, shape.motions, shape.size, 1)
    return {name: value[0] for name, value in frames.items()}


def soft_photos(heads, motion, pose, renderer):
    """In place of the renderer of photo heads: the square moved by the pose, every place known."""
    count, n = len(pose), heads["square"].shape[1]
    shift = jnp.round(pose[:, 7] * n / 2).astype(jnp.int32)
    rgb = jax.vmap(lambda x: jax.vmap(lambda s: jnp.roll(x, s, 1))(shift))(heads["square"])
    lead = (len(rgb), count)
    moved = jnp.broadcast_to(jnp.array([-1.0, 0.0]) * (shift * 2 / n)[:, None, None, None], (*lead, n // 2, n // 2, 2))
    return {
        "rgb": rgb, "segmentation": jnp.ones((*lead, n, n), jnp.uint8), "moved": moved.astype(jnp.float16),
        "kind": jnp.full((*lead, n // 2, n // 2), COPIED, jnp.uint8),
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Fitted heads, the start of a codec, and cheap renderers."""
    add_variant(monkeypatch)
    draw_heads(monkeypatch)
    monkeypatch.setattr(groups, "rendered_heads", soft_heads)
    monkeypatch.setattr(groups, "drawn_photos", soft_photos)
    monkeypatch.setattr(face, "face_mesh", lambda folder: drawn_mesh())
    for program in (cache._photos, cache._rendered):
        program.clear_cache()
    heads = drawn_heads()
    write_heads(tmp_path / "heads", 0, heads, ["a.jpg", "b.jpg"])
    save_params(tmp_path / "start" / "face.safetensors", start(), {"fields": LEAST})
    return tmp_path


def mixture(folder, settings=SMALL, seed=0):
    settings = dataclasses.replace(settings, folder=str(folder / "heads"))
    face_settings = dataclasses.replace(face.FaceConfig(), variant="face_least", anchor_from=str(folder / "start"))
    return open_mixture(settings, CORPUS, drawn_mesh(), SIZE, read_anchor(face_settings, SIZE), 16, seed)


def test_a_batch_is_a_function_of_its_number_and_holds_the_truth(folder):
    data = mixture(folder)
    batches = [jax.device_get(next(data)) for _ in range(6)]
    position = {**data.state(), "step": 3, "photo_heads.step": 3, "rendered.step": 3}
    again = mixture(folder)
    again.restore(position)
    for name, value in jax.device_get(next(again)).items():
        np.testing.assert_array_equal(value, batches[3][name], err_msg=name)
    batch = batches[0]
    assert batch["driver"].shape == (16, SIZE, SIZE, 3) and batch["source"].shape == (4, SIZE, SIZE, 3)
    assert batch["valid_latent"].tolist() == [True] * 8 + [False] * 8
    assert (batch["person"] >= APART).tolist() == [False, False, True, True]
    # What is copied is where the label says, for sources as taken.
    taken = np.flatnonzero(~batch["valid_source_latent"][:2])
    assert len(taken)
    for source in taken:
        row = source * CORPUS.drivers
        shift = round(float(-batch["moved"][row, 0, 0, 0]) * SIZE / 2)
        np.testing.assert_array_equal(batch["target"][row], np.roll(batch["source"][source], shift, 1))
        assert (batch["kind"][row] == COPIED).all()
    for source in np.flatnonzero(batch["valid_source_latent"][:2]):
        assert (batch["kind"][source * CORPUS.drivers] == 0).all()


def test_another_folder_or_setting_is_no_continuation(folder):
    position = mixture(folder).state()
    other = mixture(folder, dataclasses.replace(SMALL, open_jaws=0.5))
    with pytest.raises(InputError, match="open_jaws"):
        other.restore(position)


def test_faces_have_the_asked_shares_of_shut_lids_and_open_jaws():
    draw = jax.vmap(groups.sample_face, (0, None))
    keys = jax.random.split(jax.random.key(0), 400)
    motion = jax.jit(draw)(keys, groups.Shares(0.5, 0.2, 0.4, 0.6))
    plain = jax.jit(draw)(keys, groups.Shares(0.0, 0.0, 0.0, 0.6))
    shut = np.asarray(motion["blink_l"] == 1.0).mean()
    assert shut == pytest.approx(0.5 + 0.3 * np.asarray(plain["blink_l"] == 1.0).mean(), abs=0.08)
    assert np.asarray(motion["jaw"] >= 0.4).mean() >= 0.38
    assert np.abs(np.asarray(motion["yaw"])).max() <= 0.6 * 0.7 + 1e-6


def test_grey_photographs_share_their_part():
    squares = np.full((4, 8, 8, 3), 90, np.uint8)
    squares[1:, ..., 0] = 150
    np.testing.assert_allclose(cache.chances(squares, 0.07), [0.07, 0.31, 0.31, 0.31], rtol=1e-6)
    np.testing.assert_allclose(cache.chances(squares[1:], 0.07), [1 / 3] * 3, rtol=1e-6)


@pytest.mark.parametrize("batch,share,message", [(10, 0.5, "multiple of 4"), (16, 0.05, "photo_heads.share")])
def test_batches_that_cannot_be_shared_out_are_refused(batch, share, message):
    with pytest.raises(InputError, match=message):
        parts_of(PhotoHeadsConfig(share=share, clip_share=0.0), batch, 4, 1)
    assert parts_of(PhotoHeadsConfig(share=0.65, clip_share=0.0625, clips="d"), 64, 4, 1) == (40, 20, 4, 0)
    settings = PhotoHeadsConfig(share=0.65, people="p.tsv", still_share=0.125)
    assert parts_of(settings, 64, 4, 1) == (40, 16, 0, 8)
    with pytest.raises(InputError, match="still_share"):
        parts_of(dataclasses.replace(settings, still_share=0.01), 64, 4, 1)


def test_old_heads_and_too_few_are_refused(folder):
    with pytest.raises(InputError, match="a group takes 3"):
        mixture(folder, dataclasses.replace(SMALL, photos=3))
    (folder / "old").mkdir()
    write_heads(folder / "old", 0, [{k: v for k, v in h.items() if k != "square"} for h in drawn_heads()], ["a", "b"])
    with pytest.raises(InputError, match="earlier version"):
        cache.PhotoCache(
            dataclasses.replace(SMALL, folder=str(folder / "old")), drawn_mesh(), SIZE, None, 8, 4, 1, 0
        )


def test_a_clip_stands_before_its_own_background():
    """A disc wanders over a striped wall: where it once was not, the wall is seen exactly."""
    n = 32
    wall = np.broadcast_to((np.arange(n) * 7 % 200)[None, :, None], (n, n, 3)).astype(np.uint8)
    y, x = np.mgrid[:n, :n]
    frames, mattes = [], []
    for middle in (8, 24):
        inside = np.hypot(x - middle, y - 16) < 5
        frames.append(np.where(inside[..., None], 255, wall).astype(np.uint8))
        mattes.append(np.where(inside, 255, 0).astype(np.uint8))
    clip = _clip(np.stack(frames), np.stack(mattes), None, np.zeros((2, 9)))
    np.testing.assert_array_equal(clip["background"], wall)
    np.testing.assert_array_equal(clip["shown"], np.stack(frames))


def test_the_anchor_counts_variances_of_valid_rows():
    truth = jnp.array([[0.0, 0.0], [2.0, 4.0], [9.0, 9.0]])
    off = truth + jnp.array([[1.0, 2.0], [1.0, 2.0], [50.0, 50.0]])
    np.testing.assert_allclose(anchor_loss(off, truth, jnp.array([1, 1, 0])), 1.0, rtol=1e-5)
    assert anchor_loss(truth, truth, jnp.ones(3)) == 0


def test_places_cost_their_distance_in_pixels():
    weight, told = jnp.ones((1, 8, 8)), jnp.zeros((1, 4, 4)).at[0, 1, 2].set(1)
    truth = jnp.zeros((1, 4, 4, 2))
    off = truth.at[0, 1, 2, 0].set(3 * 2 / 8)  # three pixels
    np.testing.assert_allclose(place_loss(off, truth, told, weight), np.hypot(3, 0.5) - 0.5, rtol=1e-5)
    assert place_loss(off, truth, 1 - told, weight) == 0
    far = truth.at[0, 1, 2, 0].set(100 * 2 / 8)
    assert place_loss(far, truth, told, weight) == pytest.approx(0.1 * 99.5 + 9.0, abs=0.01)
    even = jnp.full((1, 4, 4, 2), 0.5)
    np.testing.assert_allclose(coarse_place_loss(even[:, :2, :2], even, jnp.ones((1, 4, 4)), 8), 0.0, atol=1e-6)
    assert coarse_place_loss(even[:, :2, :2], even, told, 8) == 0  # a quarter of a cell is told: not enough


def test_a_mask_that_knows_what_the_portrait_shows_costs_nothing():
    copied = jnp.array([[[1.0, 0.0], [0.0, 0.0]]])
    painted = jnp.array([[[0.0, 1.0], [0.0, 0.0]]])
    right = jnp.repeat(jnp.repeat(jnp.array([[[30.0, -30.0], [5.0, -5.0]]]), 2, 1), 2, 2)
    assert kept_loss(right, copied, painted, jnp.ones((1, 4, 4))) < 1e-6
    np.testing.assert_allclose(kept_loss(0 * right, copied, painted, jnp.ones((1, 4, 4))), np.log(2), rtol=1e-5)


def test_regions_count_alike_whatever_their_size():
    image = jnp.zeros((1, 64, 64, 3))
    small, large = (jnp.zeros((1, 64, 64)).at[0, :a].set(1) for a in (8, 32))
    np.testing.assert_allclose(region_loss(image, image + 0.25, [small, large]), 0.5, rtol=1e-6)


def settings_of(folder, *more):
    shrunk = (
        f"--config.photo_heads.folder={folder}/heads", f"--config.train.init_from={folder}/start",
        f"--config.face.anchor_from={folder}/start", "--config.train.steps=2", "--config.train.batch_size=16",
        "--config.train.log_every=1", "--config.face.variant=face_least", "--config.corpus.groups=2",
        "--config.corpus.style=0", "--config.photo_heads.groups=2", "--config.photo_heads.photos=2",
        "--config.photo_heads.heads=1", "--config.photo_heads.style=0",
    )  # fmt: skip
    return parse(["main", "--config=configs/train_face_photos.py", *shrunk, *more])[0]


def test_the_loss_takes_a_mixed_batch(folder):
    """Traced, not run: every term of the recipe is there, once and as a scalar."""
    task = make_task(settings_of(folder))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), next(mixture(folder)))
    total, terms = jax.eval_shape(lambda batch: task.loss(start(), batch, jax.random.key(0)), shapes)
    expected = {"anchor", "flow", "flow_coarse", "kept", "region", "mse", "psnr_photo_heads", "psnr_rendered"}
    assert expected <= terms.keys() and total.shape == () == terms["kept"].shape
    weights = task.loss_weights(0)
    assert weights["anchor"] == np.float32(0.3) and weights["kept"] == np.float32(0.03)


def keypoint_settings(folder, *more):
    options = (
        "--config.face.anchor_from=", "--config.train.init_from=", f"--config.photo_heads.folder={folder}/heads",
        "--config.face.variant=keypoint_tiny", "--config.train.steps=2", "--config.train.batch_size=16",
        "--config.train.log_every=1", "--config.corpus.groups=2", "--config.corpus.style=0",
        "--config.photo_heads.groups=2", "--config.photo_heads.photos=2", "--config.photo_heads.heads=1",
        "--config.photo_heads.style=0",
    )  # fmt: skip
    return parse(["main", "--config=configs/train_face_keypoint.py", *options, *more])[0]


@pytest.mark.parametrize("reader", ["False", "True"])
def test_a_keypoint_codec_learns_from_the_same_pictures(folder, reader):
    """Its guides hold the rows of rendered heads, which alone have landmarks. Traced, not run."""
    task = make_task(keypoint_settings(folder, f"--config.face.reader_only={reader}"))
    batch = next(task.data())
    told, rendered = np.asarray(batch["target_landmarks"]).any((1, 2)), np.asarray(batch["person"]) >= APART
    np.testing.assert_array_equal(told, np.repeat(rendered, 16 // len(rendered)))
    assert rendered.any() and not rendered.all() and "latent" not in batch
    assert batch["source_rest"].shape == (len(rendered), 80, 3) == batch["source_expression"].shape
    params = jax.eval_shape(task.init, jax.random.key(0))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
    total, terms = jax.eval_shape(task.loss, params, shapes, jax.random.key(0))
    assert {"keypoint_guide", "expression_guide", "pose"} <= terms.keys() and total.shape == ()
    assert ("psnr_photo_heads" in terms) == (reader == "False")


def test_a_keypoint_codec_needs_rendered_heads_beside_photographs(folder):
    with pytest.raises(InputError, match=r"^config\.photo_heads\.share: leaves no rendered heads .*; lower it"):
        shares = ("--config.photo_heads.share=1.0", "--config.photo_heads.clip_share=0.0")
        make_task(keypoint_settings(folder, *shares)).data()


@pytest.mark.slow
def test_the_recipe_trains_two_steps(folder, tmp_path, monkeypatch):
    for name in ("evaluate", "images"):  # which train_face's own test covers
        monkeypatch.setattr(face_validation.FaceValidation, name, lambda self, params: {})
    config = settings_of(folder)
    train(config, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    for name in ("anchor", "flow", "flow_coarse", "kept", "region", "psnr_photo_heads", "psnr_rendered"):
        assert f'"{name}"' in lines, name
    params, metadata = load_params(tmp_path / "run" / "export" / "face.safetensors")
    assert metadata["step"] == 2 and np.isfinite(np.asarray(jax.tree.leaves(params)[0], np.float32)).all()


@pytest.mark.parametrize(
    "change,message",
    [
        ("--config.photo_heads.folder=", "config.face.anchor: only photo heads tell it"),
        ("--config.face.recipe=self", "config.face.recipe"),
        ("--config.face.flip=0.5", "config.face.flip"),
        ("--config.face.variant=face_tiny", "config.face.variant: .* choose face_demo"),
        ("--config.photo_heads.faces=3", "config.photo_heads.faces"),
        ("--config.photo_heads.clip_share=0.6", "config.photo_heads.clip_share"),
    ],
)
def test_settings_that_contradict_each_other_are_named(tmp_path, monkeypatch, change, message):
    add_variant(monkeypatch)
    with pytest.raises(InputError, match=message):
        make_task(settings_of(tmp_path, change))


@pytest.mark.parametrize("variant", [name for name, fields in FACE_VARIANTS.items() if "codec" not in fields])
def test_the_shipped_codec_anchors_every_variant_of_its_size_and_width(variant):
    """A variant's fields may be left to their defaults."""
    encoder = face_codec(variant)[0]
    shipped = face_codec(load_part("", "face")[1]["fields"])[0]
    settings = dataclasses.replace(face.FaceConfig(), variant=variant)
    if encoder.dynamics_width == shipped.dynamics_width:
        assert read_anchor(settings, shipped.image_size)[0] == shipped
    else:
        with pytest.raises(InputError, match=f"{encoder.dynamics_width} numbers of dynamics"):
            read_anchor(settings, shipped.image_size)
