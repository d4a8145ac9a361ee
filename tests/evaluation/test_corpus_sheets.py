"""Contact sheets of the corpus: one tile per person and change, from that person in that motion."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vasa_jax.config import CorpusSheetsConfig, VASAConfig
from vasa_jax.conventions import EMOTIONS
from vasa_jax.corpus.performance.visemes import VISEMES
from vasa_jax.errors import InputError
from vasa_jax.evaluation import corpus_sheets, sheets

SETTINGS = CorpusSheetsConfig(people=10, rows=3, size=16, supersample=1, batch=4)


@pytest.fixture
def _numbers_for_pictures(monkeypatch):
    """Red says how far the jaw is open, green how the head is turned, blue who it is."""

    def render(identity, motion, size, supersample):
        values = jnp.stack([motion["jaw"], 0.5 + motion["yaw"] / 2, identity["seed"] / 10], -1)
        return {"rgb": jnp.broadcast_to(values[:, None, None], (*values.shape[:1], size, size, 3))}

    monkeypatch.setattr(corpus_sheets, "render", render)


def test_every_sheet_is_written_with_its_tiles(_numbers_for_pictures, tmp_path, capsys):
    paths = corpus_sheets.corpus_sheets(SETTINGS, 0, tmp_path)
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    found = {path.stem: np.asarray(Image.open(path)) for path in paths}
    columns = {"poses": corpus_sheets.POSES, "visemes": VISEMES, "emotions": EMOTIONS, "gazes": corpus_sheets.GAZES}
    for name, changes in columns.items():
        assert found[name].shape == (16 + 3 * sheets.TILE, len(changes) * sheets.TILE, 3), name
    for name in ("identities", "looks"):
        assert found[name].shape == (2 * sheets.TILE, 8 * sheets.TILE, 3)

    def tile(sheet, row, column, top=16):
        return sheet[top + row * sheets.TILE + 64, column * sheets.TILE + 64].astype(int)

    people = [tile(found["identities"], *divmod(person, 8), top=0) for person in range(10)]
    assert len({person[2] for person in people}) == 10 and all(person[0] == 0 for person in people)
    jaw = [tile(found["visemes"], 1, column) for column in range(len(VISEMES))]
    np.testing.assert_allclose([value[0] for value in jaw], [255 * row[0] for row in VISEMES.values()], atol=1)
    assert {value[2] for value in jaw} == {people[1][2]}
    yaws = [tile(found["poses"], 2, column)[1] for column in range(4)]
    np.testing.assert_allclose(yaws, [255 * (0.5 + yaw / 2) for yaw in (-0.7, -0.35, 0.35, 0.7)], atol=1)
    assert (tile(found["looks"], 0, 0, top=0) != people[0]).any()


@pytest.mark.parametrize("change", [{"size": 20}, {"rows": 11}, {"people": 0}, {"batch": 0}])
def test_bad_settings_are_refused(change):
    with pytest.raises(InputError, match=f"config.corpus_sheets.{next(iter(change))}"):
        VASAConfig(corpus_sheets=CorpusSheetsConfig(**{"people": 10, "supersample": 1} | change)).validate()
