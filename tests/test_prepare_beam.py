"""Preparation through Apache Beam gives the clips that the processes of one machine give. In Beam's own environment:

pip install -e ".[beam]" pytest pytest-xdist && pytest -m beam tests/test_prepare_beam.py
"""

import json

import pytest
from test_prepare import all_records, folder, job  # noqa: F401 (a fixture)

from vasa_jax.data import prepare
from vasa_jax.data.dataset import VASADataset
from vasa_jax.errors import InputError

pytestmark = pytest.mark.beam


def test_the_direct_runner_makes_the_same_clips(folder, tmp_path):  # noqa: F811
    pytest.importorskip("apache_beam")
    from vasa_jax.data.vasa_corpus.vasa_corpus_dataset_builder import record_of

    prepare.prepare(job(folder, tmp_path / "here", heldout=0.22))
    path = prepare.prepare(job(folder, tmp_path, heldout=0.22, beam="--runner=DirectRunner"))
    found = {}
    for split in ("train", "heldout"):
        data = VASADataset(path, split=split, view="pairs", batch_size=1, epochs=1, shuffle=False)
        for number in range(len(data)):
            record = record_of(data._source._records[number])
            assert record.split == split and record.clip_id not in found
            found[record.clip_id] = record.to_bytes()
    assert found == all_records(tmp_path / "here", "array_record")
    discards = [json.loads(line) for line in (tmp_path / "discards.jsonl").read_text().splitlines()]
    assert [(d["video"], d["reason"]) for d in discards] == [("broken.mp4", "not readable")]


def test_a_split_without_clips_is_one_line(folder, tmp_path):  # noqa: F811
    pytest.importorskip("apache_beam")
    with pytest.raises(InputError, match="a split has no clip"):
        prepare.prepare(job(folder / "broken.mp4", tmp_path, beam="--runner=DirectRunner"))
