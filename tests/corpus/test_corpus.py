"""The corpus in files and its exact truth: splits, resuming, factors, and one small corpus rendered for real."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest
from tiny_records import assert_same, tiny_record

from vasa_jax.config import SynthesisConfig, VASAConfig
from vasa_jax.corpus import write
from vasa_jax.corpus.clips import sample_clip
from vasa_jax.corpus.heads import truth
from vasa_jax.corpus.heads.identity import RANGES
from vasa_jax.corpus.performance.muscles import MOTION_NAMES
from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.records import Record, decode_jpeg, decode_matte
from vasa_jax.data.shards import FORMATS, ShardReader
from vasa_jax.errors import InputError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng_loader is not installed"
)

SMALL = SynthesisConfig(
    clips=6, held_out_clips=2, clips_per_person=2, seconds=0.2, size=16, shards=2, held_out_shards=1, render_batch=4,
    workers=1, speech="shipped",
)  # fmt: skip


@pytest.fixture
def no_rendering(monkeypatch):
    """Noise instead of pictures, drawn from identity and motion."""

    def noise(settings, identity, motion, style):
        count = len(motion["yaw"])
        rng = np.random.default_rng([int(1e6 * identity["skull_w"]), int(1e6 * abs(motion["yaw"][0]))])
        shapes = {"pose": (9,), "gaze": (2,), "lids": (2,), "mouth": (), "landmarks": (5, 3)}
        return {
            "rgb": rng.integers(0, 255, (count, settings.size, settings.size, 3)).astype(np.uint8),
            "matte": rng.random((count, settings.size, settings.size)),
            **{name: rng.normal(size=(count, *shape)).astype(np.float32) for name, shape in shapes.items()},
        }

    monkeypatch.setattr(write, "_render", noise)


def read(manifest, split, name="array_record"):
    readers = [ShardReader(manifest, shard, name) for shard in manifest.split(split)]
    return [reader[index] for reader in readers for index in range(len(reader))]


def test_a_corpus_is_written_by_split_and_person(tmp_path, no_rendering):
    manifest = write.synthesize(SMALL, 0, tmp_path)
    train, held_out = read(manifest, "train"), read(manifest, "heldout", "tfrecord")
    assert [record.clip_id for record in train] == [f"train-0-{n:07d}" for n in range(6)]
    assert [record.person_id for record in train] == [f"train-0-{n // 2:06d}" for n in range(6)]
    assert {record.split for record in held_out} == {"heldout"} and len(held_out) == 2
    for record in train + held_out:
        assert len(record.frames) == 5 and len(record.audio) == 3200
        assert all(record.valid.values())
    origins = [write.origin_of(record) for record in train]
    assert 0 < sum(origin.altered for origin in origins) < 6
    assert [origin.styled for origin in origins] == [truth.look_of(record) is not None for record in train]
    assert not any(write.origin_of(record).styled for record in held_out)
    batch = next(iter(VASADataset(tmp_path, view="pairs", batch_size=6)))
    assert batch["source"].shape == (6, 16, 16, 3) and batch["valid_partner"].all()


@pytest.mark.parametrize("speech", ["shipped", pytest.param("espeak", marks=needs_espeak)])
def test_splits_share_no_person_voice_or_sentence(speech):
    people = {split: [write.person(0, split, number) for number in range(3)] for split in ("train", "heldout")}
    values = [tuple(float(p[name]) for name in RANGES) for group in people.values() for p in group]
    assert len(set(values)) == 6
    assert write.person(0, "train", 1) == people["train"][1] and write.person(1, "train", 1) != people["train"][1]
    clips = {split: [write._clip(0, split, number, False, speech) for number in range(8)] for split in people}
    assert not {c.voice for c in clips["train"]} & {c.voice for c in clips["heldout"]}
    assert not {c.text for c in clips["train"] if c.text} & {c.text for c in clips["heldout"]}
    if speech == "espeak":  # the few shipped sentences return
        evaluated = {sample_clip(number, "heldout").text for number in range(8)}
        assert not evaluated & {c.text for c in clips["heldout"]}


def test_writing_goes_on_where_it_stopped(tmp_path, no_rendering, monkeypatch):
    whole = write.synthesize(SMALL, 0, tmp_path / "whole")
    made, make = [], write.make_record

    def stop_at_the_fifth(settings, seed, split, number):
        made.append((split, number))
        if len(made) == 5:
            raise KeyboardInterrupt
        return make(settings, seed, split, number)

    monkeypatch.setattr(write, "make_record", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        write.synthesize(SMALL, 0, tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "manifest.json").exists()
    monkeypatch.setattr(write, "make_record", lambda *args: made.append(args[2:]) or make(*args))
    made.clear()
    manifest = write.synthesize(SMALL, 0, tmp_path / "stopped")
    assert ("train", 0) not in made and ("train", 3) in made
    assert [shard.files for shard in manifest.shards] == [shard.files for shard in whole.shards]
    made.clear()
    write.synthesize(SMALL, 0, tmp_path / "stopped")
    assert not made
    with pytest.raises(InputError, match="quality 95, now 50"):
        write.synthesize(dataclasses.replace(SMALL, quality=50), 0, tmp_path / "stopped")
    with pytest.raises(InputError, match="seed 0, now 1"):
        write.synthesize(SMALL, 1, tmp_path / "stopped")


@pytest.mark.parametrize(
    ("change", "word"),
    [({"size": 100, "supersample": 1}, "size"), ({"shards": 7}, "shards"), ({"formats": ("csv",)}, "formats"),
     ({"seconds": 9.0}, "seconds"), ({"altered_voices": 2.0}, "altered_voices")],
)  # fmt: skip
def test_bad_settings_are_refused(change, word):
    with pytest.raises(InputError, match=f"config.synthesis.{word}"):
        VASAConfig(job="synthesize", synthesis=dataclasses.replace(SMALL, **change)).validate()
    VASAConfig(job="synthesize", synthesis=SMALL).validate()


def test_every_field_of_a_scene_is_in_one_factor():
    for factors, fields in (
        (truth.IDENTITY_FACTORS, (*RANGES, "style", "seed")),
        (truth.MOTION_FACTORS, MOTION_NAMES),
    ):
        assert sorted(name for names in factors.values() for name in names) == sorted(fields)
    assert len(set(truth.FACTORS)) == len(truth.IDENTITY_FACTORS) + len(truth.MOTION_FACTORS)


def test_factors_are_exchanged_one_by_one():
    a, b = (truth.sample_scene(jax.random.key(0), number) for number in range(2))
    for factor, scene in truth.one_factor_changed(a, b).items():
        for own, other, new, factors in zip(a, b, scene, (truth.IDENTITY_FACTORS, truth.MOTION_FACTORS)):
            assert own.keys() == new.keys()
            for name in own:
                assert new[name] == (other if name in factors.get(factor, ()) else own)[name]
    moved = truth.transferred(a, b)
    assert moved.identity == a.identity and moved.motion == b.motion
    with pytest.raises(InputError, match="factor 'nose'"):
        truth.exchanged(a, b, "nose")


def test_the_scene_behind_a_record_is_found_again(no_rendering):
    record = write.make_record(SMALL, 3, "heldout", 4)
    scene = truth.scene_of(record, 2)
    clip = write._clip(3, "heldout", 4, "altered=1" in record.source, "shipped")
    assert scene.identity == write.person(3, "heldout", 2)
    assert all(scene.motion[name] == clip.motion[name][2] for name in MOTION_NAMES)
    with pytest.raises(InputError, match="no frame 5"):
        truth.scene_of(record, 5)
    with pytest.raises(InputError, match="built-in corpus"):
        truth.scene_of(tiny_record(0), 0)


@pytest.mark.slow
def test_a_small_corpus_rendered_by_two_processes(tmp_path):
    settings = SynthesisConfig(
        clips=2, held_out_clips=1, clips_per_person=1, seconds=0.2, size=64, shards=2, held_out_shards=1,
        render_batch=4, workers=2, tfds=True, style=1.0, speech="shipped",
    )  # fmt: skip
    manifest = write.synthesize(settings, 0, tmp_path)
    assert sorted(manifest.shards[0].files) == sorted(FORMATS)
    record = read(manifest, "train")[1]
    assert_same(record, write.make_record(settings, 0, "train", 1))
    built = VASADataset(tmp_path / "tfds" / "vasa_corpus" / "1.0.0", "heldout", batch_size=1, frames=5, shuffle=False)
    assert np.array_equal(next(iter(built))["pose"][0], read(manifest, "heldout")[0].pose)
    check_truth_of(record)


def check_truth_of(record: Record):
    """The scene found again gives the record's labels exactly, and its picture up to JPEG."""
    scene = truth.scene_of(record, 3)
    look = truth.look_of(record)
    found = truth.true_image(scene, 64, look=look)
    assert look is not None and not np.array_equal(truth.true_image(scene, 64)["rgb"], found["rgb"])
    for name in ("pose", "gaze", "lids", "mouth", "landmarks"):
        assert np.allclose(found[name], getattr(record, name)[3], atol=1e-4), name
    error = found["rgb"].astype(float) - decode_jpeg(record.frames[3])
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 33
    assert np.abs(found["matte"] * 255 - decode_matte(record.matte[3])).max() < 1
    other = truth.sample_scene(jax.random.key(5), 0)
    changed = {name: truth.true_image(s, 64, look=look) for name, s in truth.one_factor_changed(scene, other).items()}
    for name in ("background", "light"):
        for label in ("segmentation", "landmarks", "pose", "gaze", "mouth"):
            assert np.array_equal(changed[name][label], found[label]), (name, label)
    for name in ("pose", "gaze", "lids", "brows", "mouth"):
        assert np.array_equal(changed[name]["background"], found["background"]), name
        assert not np.array_equal(changed[name]["rgb"], found["rgb"]), name
    assert np.array_equal(changed["gaze"]["pose"], found["pose"])
    assert not np.array_equal(changed["gaze"]["gaze"], found["gaze"])
