"""The portrait matte's training: what a batch shows and says, who is held out, an export, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_portrait import drawn_mesh
from half_portrait import HalfPortrait
from PIL import Image

from vasa_jax.config import MatteConfig, PhotoHeadsConfig, PhotosConfig, TrainConfig, VASAConfig
from vasa_jax.corpus.photos.store import write_heads
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint
from vasa_jax.training.jobs import make_task
from vasa_jax.training.tasks import matte, matte_data
from vasa_jax.training.tasks.matte_data import SCENE, MatteBatches, Stills, portraits, read_scenes, read_stills
from vasa_jax.weights.parts import load_part

SIDE, NAMES = 32, [f"{letter}.png" for letter in "aabcdefghij"]
KINDS = {"taken": (1.0, 0.0, 0.0, 0.0), "scene": (0.0, 1.0, 0.0, 0.0), "other": (0.0, 0.0, 0.0, 1.0)}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small pictures, no change of colours or quality: what stands where can be told."""
    for name, value in {"SIDE": SIDE, "COLOURS": 0.0, "DEGRADED": 0.0, "BLUR": (-1.0, 0.0)}.items():
        monkeypatch.setattr(matte_data, name, value)
    monkeypatch.setattr(matte, "SIDE", SIDE)
    monkeypatch.setattr(matte_data, "PhotoRenderer", HalfPortrait)
    monkeypatch.setattr(matte, "face_mesh", lambda folder: drawn_mesh())
    monkeypatch.setattr(matte_data, "dead_leaves", lambda key, size: jnp.full((size, size, 3), 150.0))
    matte_data._drawn.clear_cache()
    yield
    matte_data._drawn.clear_cache()


def stills(count=3):
    """People of grey 200 in the middle of grounds of 100; what lies behind is 40 + 10 i."""
    person = np.zeros((count, SIDE, SIDE), np.uint8)
    person[:, 8:, 8:24] = 255
    square = np.where(person[..., None] > 0, 200, 100).astype(np.uint8) * np.ones(3, np.uint8)
    behind = np.broadcast_to((40 + 10 * np.arange(count, dtype=np.uint8))[:, None, None, None], square.shape)
    return Stills(square, person, np.array(behind))


def drawn(kind, count=6):
    scenes = np.full((2, SCENE, SCENE, 3), 20, np.uint8)
    chosen = jnp.arange(count) % 3
    return jax.device_get(portraits(stills(), scenes, chosen, jax.random.key(0), KINDS[kind]))


def test_as_taken_the_matte_lies_on_the_person_wherever_the_framing_moves_it():
    shown = drawn("taken")
    inside, outside = shown["matte"] > 0.999, shown["matte"] < 0.001
    np.testing.assert_allclose(shown["image"][inside], 200 / 255, atol=2e-3)
    np.testing.assert_allclose(shown["image"][outside], 100 / 255, atol=2e-3)
    assert (inside.mean((1, 2)) > 0.15).all() and np.unique(inside.sum((1, 2))).size > 4


@pytest.mark.parametrize("kind,grey", [("scene", {20}), ("other", {40, 50, 60})])
def test_elsewhere_the_person_stays_and_the_ground_is_new(kind, grey):
    shown = drawn(kind)
    np.testing.assert_allclose(shown["image"][shown["matte"] > 0.999], 200 / 255, atol=2e-3)
    behind = 255 * shown["image"][shown["matte"] < 0.001]
    assert {*np.rint(behind).astype(int).ravel()} <= grey
    between = (shown["matte"] > 0.1) & (shown["matte"] < 0.9)
    assert (shown["image"][between] < 199 / 255).all()


def test_batches_are_a_function_of_seed_and_number():
    scenes = np.full((2, SCENE, SCENE, 3), 20, np.uint8)
    kinds = {"taken": 0.4, "scene": 0.3, "leaves": 0.1, "other": 0.2}

    def batch(seed, step):
        return jax.device_get(MatteBatches(stills(), scenes, kinds, 4, seed).batch(step))

    first, again, later, other = batch(0, 5), batch(0, 5), batch(0, 6), batch(1, 5)
    assert first["image"].shape == (4, SIDE, SIDE, 3) and first["matte"].shape == (4, SIDE, SIDE)
    np.testing.assert_array_equal(first["image"], again["image"])
    assert (first["image"] != later["image"]).any() and (first["image"] != other["image"]).any()
    assert first["image"].min() >= 0.0 and first["image"].max() <= 1.0


@pytest.fixture
def heads(tmp_path):
    """Eleven heads of ten photographs, the grey of a square says which."""
    shape = (SIDE, SIDE, 3)
    made = [
        {"square": np.full(shape, 10 * (i + 1), np.uint8), "background": np.full(shape, 200, np.uint8),
         "pose": np.full(9, 0.0, np.float32)}
        for i in range(len(NAMES))
    ]  # fmt: skip
    write_heads(tmp_path / "heads", 0, made, NAMES)
    return tmp_path / "heads"


def test_a_photograph_is_held_out_with_all_its_heads(heads):
    found = read_stills(str(heads), 0.5, drawn_mesh())
    greys = {split: {*part.square[:, 0, 0, 0].tolist()} for split, part in found.items()}
    assert not greys["train"] & greys["heldout"] and len(greys["train"] | greys["heldout"]) == len(NAMES)
    assert greys["heldout"] and ({10, 20} <= greys["train"]) != ({10, 20} <= greys["heldout"])
    assert not len(read_stills(str(heads), 0.0, drawn_mesh())["heldout"].square)


def test_scenes_are_middle_squares(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 250
    Image.fromarray(picture).save(tmp_path / "wide.png")
    found = read_scenes(str(tmp_path))
    assert found.shape == (1, SCENE, SCENE, 3) and (found == 250).all()
    (tmp_path / "none").mkdir()
    for folder in ("none", "missing"):
        with pytest.raises(InputError, match=rf"{folder}: .*; give"):
            read_scenes(str(tmp_path / folder))


def config(heads, **changes):
    settings = dataclasses.replace(MatteConfig(variant="matte_tiny", held_out=0.3, sources="drawn"), **changes)
    train = TrainConfig(steps=2, batch_size=4, warmup_steps=1, log_every=1, save_every=1, evaluate_every=0)
    photo_heads, photos = PhotoHeadsConfig(folder=str(heads)), PhotosConfig(models="none")
    return VASAConfig(job="train_matte", matte=settings, train=train, photo_heads=photo_heads, photos=photos).validate()


@pytest.mark.long
@pytest.mark.parametrize("scenes", [False, True])
def test_an_export_tells_fields_figures_and_sources(heads, tmp_path, scenes):
    from vasa_jax.training.jobs import train

    if scenes:
        Image.fromarray(np.full((SCENE, SCENE, 3), 90, np.uint8)).save(tmp_path / "place.png")
    train(config(heads, scenes=str(tmp_path) if scenes else ""), tmp_path / "run")
    _, metadata = load_part(tmp_path / "run" / "export", "matte")
    assert metadata["sources"] == "drawn" and metadata["fields"]["groups"] == 2
    kinds = ("taken", "scene") if scenes else ("taken",)
    assert {*metadata["figures"]} == {f"{kind}_wrongly_{what}" for kind in kinds for what in ("person", "background")}


def test_bad_settings_end_in_one_line(heads):
    with pytest.raises(InputError, match=r"photo_heads.folder: is empty; give"):
        make_task(dataclasses.replace(config(heads), photo_heads=PhotoHeadsConfig()))
    with pytest.raises(InputError, match="more than 1 together; lower"):
        config(heads, taken=0.9, leaves=0.2)
    with pytest.raises(InputError, match="every photograph is held out; lower"):
        make_task(config(one_held_out(heads.parent / "one"), held_out=0.9)).data()


def one_held_out(folder):
    """A folder of one photograph whose name is held out."""
    name = next(name for name in map(str, range(100)) if fingerprint(name) % 10_000 < 9_000)
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    write_heads(folder, 0, [{"square": picture, "background": picture, "pose": np.zeros(9, np.float32)}], [name])
    return folder
