"""Preparation through Apache Beam gives the clips that the processes of one machine give. In Beam's own environment:

pip install -e ".[beam]" pytest pytest-xdist && pytest -m beam tests/preparation/test_prepare_beam.py
"""

import dataclasses
import json

import pytest
from drawn_videos import all_records, job, speaking_face

from vasa_jax.data.dataset import VASADataset
from vasa_jax.errors import InputError
from vasa_jax.preparation import prepare, work

pytestmark = pytest.mark.beam


def built_records(path) -> dict[str, bytes]:
    from vasa_jax.data.tfds_records import record_of

    found = {}
    for split in ("train", "heldout"):
        data = VASADataset(path, split=split, view="pairs", batch_size=1, epochs=1, shuffle=False)
        for number in range(len(data)):
            record = record_of(data._source._records[number])
            assert record.split == split and record.clip_id not in found
            found[record.clip_id] = record.to_bytes()
    return found


def test_the_direct_runner_makes_the_same_clips(folder, tmp_path):
    pytest.importorskip("apache_beam")
    prepare.prepare(job(folder, tmp_path / "here", heldout=0.22))
    path = prepare.prepare(job(folder, tmp_path, heldout=0.22, beam="--runner=DirectRunner"))
    assert built_records(path) == all_records(tmp_path / "here", "array_record")
    discards = [json.loads(line) for line in (tmp_path / "discards.jsonl").read_text().splitlines()]
    assert [(d["video"], d["reason"]) for d in discards] == [("broken.mp4", "not readable")]


def test_a_stopped_run_goes_on_with_what_is_not_done(folder, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam")
    whole = all_records(prepare.prepare(job(folder, tmp_path / "here", heldout=0.22)).parent, "array_record")
    beam = job(folder, tmp_path / "there", heldout=0.22, beam="--runner=DirectRunner")
    done, make = [], work.result_of_video

    def result_until_it_stops(video, settings):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(video.name)
        return make(video, settings)

    monkeypatch.setattr(work, "result_of_video", result_until_it_stops)
    with pytest.raises(BaseException, match=r"KeyboardInterrupt|^$"):
        prepare.prepare(beam)
    first = list(done)

    def result(video, settings):
        done.append(video.name)
        return make(video, settings)

    monkeypatch.setattr(work, "result_of_video", result)
    path = prepare.prepare(beam)
    assert len(first) == 2 and len(done) == len(set(done)) == 4
    assert built_records(path) == whole
    # A third run makes no video again; one that came since is made, and is in the data set.
    (tmp_path / "more").mkdir()
    for name in ("id00001", "id00002", "broken.mp4"):
        (tmp_path / "more" / name).symlink_to(folder / name)
    speaking_face(tmp_path / "more" / "id00003.mp4", 1.2, 3)
    path = prepare.prepare(dataclasses.replace(beam, videos=str(tmp_path / "more")))
    assert done[4:] == ["id00003.mp4"]
    assert len(built_records(path)) == len(whole) + 1


def test_a_split_without_clips_is_one_line(folder, tmp_path):
    pytest.importorskip("apache_beam")
    with pytest.raises(InputError, match="a split has no clip"):
        prepare.prepare(job(folder / "broken.mp4", tmp_path, beam="--runner=DirectRunner"))
