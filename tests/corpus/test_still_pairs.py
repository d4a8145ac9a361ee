"""Two photographs of one person: who pairs with whom, the batch that they make, positions, and what is refused."""

import jax
import numpy as np
import pytest
from drawn_portrait import drawn_mesh
from half_portrait import HalfPortrait

from vasa_jax.config import PhotoHeadsConfig
from vasa_jax.corpus.photos import still_pairs
from vasa_jax.corpus.photos.still_pairs import StillPairs, pairs_of
from vasa_jax.corpus.photos.store import write_heads
from vasa_jax.errors import InputError

SIZE, NAMES = 16, ["a.png", "b.png", "c.png", "d.png", "e.png"]
TABLE = "file\tperson\nx/a.png\tann\nc.png\tann\nd.png\tdora\nb.png\t\ne.png\tann\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five photographs; the square of number i has the grey 40 + i, its background 200 + i."""
    monkeypatch.setattr(still_pairs, "PhotoRenderer", HalfPortrait)
    shape = (SIZE, SIZE, 3)
    heads = [
        {"square": np.full(shape, 40 + i, np.uint8), "background": np.full(shape, 200 + i, np.uint8),
         "pose": np.full(9, i, np.float32)}
        for i in range(5)
    ]  # fmt: skip
    write_heads(tmp_path, 0, heads, NAMES)
    (tmp_path / "people.tsv").write_text(TABLE)
    return tmp_path


def pairs(folder, drivers=2, seed=0):
    settings = PhotoHeadsConfig(folder=str(folder), people=str(folder / "people.tsv"))
    return StillPairs(settings, drawn_mesh(), SIZE, 8, drivers, 1, seed)


def test_everybody_drives_the_others_of_one_person_only(folder):
    found = pairs_of(NAMES, str(folder / "people.tsv")).tolist()
    assert sorted(map(tuple, found)) == [(0, 2), (0, 4), (2, 0), (2, 4), (4, 0), (4, 2)]
    relatives = pairs_of(["a.png", "a.png", "c.png", "c.png"], str(folder / "people.tsv")).tolist()
    assert sorted(map(tuple, relatives)) == [(0, 2), (2, 0)]


def test_a_source_is_driven_to_the_other_photograph_before_its_own_background(folder):
    batch = jax.device_get(next(pairs(folder)))
    assert batch["source"].shape == (4, SIZE, SIZE, 3) and batch["driver"].shape == (8, SIZE, SIZE, 3)
    source, other = batch["source"][:, 0, 0, 0] - 40, batch["driver"][::2, 0, 0, 0] - 40
    assert (source != other).all() and {*source, *other} <= {0, 2, 4}
    np.testing.assert_array_equal(batch["driver"][::2], batch["driver"][1::2])
    target = batch["target"][::2]
    np.testing.assert_array_equal(target[:, :, : SIZE // 2], batch["driver"][::2, :, : SIZE // 2])
    np.testing.assert_array_equal(target[:, :, SIZE // 2 :], batch["background"][:, :, SIZE // 2 :])
    np.testing.assert_array_equal(batch["background"][:, 0, 0, 0], 200 + source)
    np.testing.assert_array_equal(batch["source_pose"][:, 0], source)
    np.testing.assert_array_equal(batch["target_pose"][::2, 0], other)
    assert (batch["segmentation"][:, :, 0] == 3).all() and (batch["segmentation"][:, :, -1] == 0).all()


def test_batches_are_those_of_their_number_and_of_these_photographs(folder):
    data = pairs(folder)
    batches = [jax.device_get(next(data)) for _ in range(3)]
    again = pairs(folder)
    again.restore({**data.state(), "step": 2})
    for name, value in jax.device_get(next(again)).items():
        np.testing.assert_array_equal(value, batches[2][name], name)
    (folder / "people.tsv").write_text(TABLE.replace("e.png\tann", "e.png\tdora"))
    with pytest.raises(InputError, match="stills"):
        pairs(folder).restore(data.state())


@pytest.mark.parametrize(
    ("text", "message"), [("file\tperson\na.png\tann\n", "nobody has two"), ("name\nann\n", "people.tsv")]
)
def test_tables_without_pairs_are_refused(folder, text, message):
    (folder / "people.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        pairs(folder)
