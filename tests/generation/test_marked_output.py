"""Everything that leaves the generator is marked: files, streams and rendered frames; and says so when it is not."""

import dataclasses
import functools

import av
import jax.numpy as jnp
import numpy as np
import pytest
from sounds import write_wav
from tiny_model import save_tiny_model

from vasa_jax.config import VASAConfig
from vasa_jax.data.video_files import read_video
from vasa_jax.errors import InputError
from vasa_jax.generation import animator
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO, generate
from vasa_jax.generation.provenance import UNMARKED_COMMENT, read_manifest
from vasa_jax.generation.watermark import Payload, pattern

LIVE = Controls(hop=5, steps=2, pose_anchor="absolute")
CROP = "0,0,512"  # no face is to be found


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """What a job loads is compiled once, not for each video."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoGenerator, "from_pretrained", functools.cache(VideoGenerator.from_pretrained))
        yield


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_wav(tmp_path_factory.mktemp("sound") / "hello.wav")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def generator(checkpoint):
    return VideoGenerator.from_pretrained(checkpoint, decode_batch=4)


@pytest.fixture(scope="module")
def unmarked(checkpoint):
    return VideoGenerator.from_pretrained(checkpoint, decode_batch=4, mark=False)


def portrait(seed=0):
    return np.repeat(np.repeat(np.random.default_rng(seed).integers(40, 200, (8, 8, 3), np.uint8), 8, 0), 8, 1)


def frames(generator, avatar, count=5):
    motion = np.repeat(avatar.motion[None], count, 0)
    return np.concatenate(list(generator.render(avatar, motion)))


def test_rendered_frames_carry_the_avatars_mark(generator, unmarked):
    plain = frames(unmarked, unmarked.prepare(portrait()))
    avatar = generator.prepare(portrait(), Payload(0x5A5A5A5))
    marked = frames(generator, avatar)
    difference = marked.astype(float) - plain
    assert 43.5 < 10 * np.log10(255**2 / np.mean(difference**2)) < 60
    waves, other = (pattern(payload, 64) for payload in (avatar.payload, Payload(0x6969696)))
    shown = difference.mean((0, 3))
    assert np.corrcoef(shown.ravel(), waves.ravel())[0, 1] > 0.7  # rounding takes the rest
    assert abs(np.corrcoef(shown.ravel(), other.ravel())[0, 1]) < 0.4


def test_an_unmarked_avatar_pays_for_no_mark(generator, unmarked):
    """Its frames are those of a pattern of zeros, but for rounding, and nothing compiled for it knows of a pattern."""
    avatar = unmarked.prepare(portrait())
    assert avatar.payload is None and avatar.pattern is None
    zeros = dataclasses.replace(avatar, pattern=jnp.zeros(portrait().shape[:2]))
    # Another program may add in another order: a pixel in ten thousand rounds to its neighbour.
    apart = np.abs(frames(unmarked, avatar).astype(int) - frames(generator, zeros))
    assert apart.max() <= 1 and np.mean(apart > 0) < 1e-3


def test_the_mark_is_no_part_of_the_decoders_program(generator):
    """In one program with the mark a CPU's compiler computes the last layers again, which costs a fifth of decoding."""
    avatar = generator.prepare(portrait())
    animator._decode.clear_cache()  # another test of this process may have had the same shapes
    for made in (avatar, avatar.unmarked):
        generator.decode(made, avatar.motion[None], 3)
        assert animator._decode._cache_size() == 1


def test_own_payload(generator):
    own = Payload(0x123)
    avatar = generator.prepare(portrait(), own)
    assert avatar.payload == own
    assert (frames(generator, avatar) != frames(generator, generator.prepare(portrait()))).any()


def test_an_avatar_for_the_next_output_differs_in_its_mark_alone(generator, unmarked):
    first = generator.prepare(portrait(), Payload(1))
    second = generator.remarked(first)
    assert second.payload != first.payload and second.latents is first.latents and second.canvas is first.canvas
    np.testing.assert_array_equal(frames(generator, generator.remarked(second, Payload(1))), frames(generator, first))
    assert unmarked.remarked(first).payload is None and unmarked.remarked(first).pattern is None


def test_every_output_has_its_own_identifier_whatever_the_seed(generator, checkpoint, sound, tmp_path):
    made = [generator.generate(DEMO["image"], sound, LIVE, seed=5, crop=CROP).avatar.payload for _ in range(2)]
    made += [generator.stream(str(DEMO["image"]), LIVE, seed=5).payload for _ in range(2)]
    for name in ("a.mp4", "b.mp4"):
        made.append(Payload(int(read_manifest(run(checkpoint, sound, tmp_path / name, seed=5)).mark, 16)))
    assert len(set(made)) == 6


def test_the_same_identifier_gives_the_same_frames_again(generator, checkpoint, sound, tmp_path, capsys):
    videos = [generator.generate(DEMO["image"], sound, LIVE, payload=Payload(0xABCDE)) for _ in range(2)]
    first, second = (np.stack(list(video.frames())) for video in videos)
    np.testing.assert_array_equal(first, second)
    paths = [run(checkpoint, sound, tmp_path / name, mark_id="00abcde") for name in ("a.mp4", "b.mp4")]
    assert [read_manifest(path).mark for path in paths] == ["00abcde"] * 2
    assert capsys.readouterr().out.count("mark 00abcde") == 2
    shown = [np.stack(list(read_video(path).frames)) for path in paths]
    np.testing.assert_array_equal(*shown)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mark_id": "12"}, "7 hexadecimal digits"),
        ({"mark_id": "0ABCDEF"}, "7 hexadecimal digits"),
        ({"mark_id": "00abcdeg"}, "7 hexadecimal digits"),
        ({"mark_id": "00abcde\n"}, "7 hexadecimal digits"),
        ({"mark_id": "00abcde", "mark": False}, "leave one out"),
        ({"mark_id": "00abcde", "jobs": "list.jsonl"}, "leave one out"),
    ],
)
def test_bad_identifiers_end_in_one_line(changes, fault):
    with pytest.raises(InputError, match=fault) as caught:
        VASAConfig(**changes).validate()
    assert "\n" not in str(caught.value) and "mark_id" in str(caught.value)


def test_stream_has_the_files_payload_and_frames(generator, sound, tmp_path):
    stream = generator.stream(str(DEMO["image"]), LIVE)
    video = generator.generate(DEMO["image"], sound, LIVE, payload=stream.payload)
    live = [*stream.feed(video.audio.samples), *stream.finish()]
    np.testing.assert_array_equal(np.stack(live), np.stack(list(video.frames())))
    told = read_manifest(video.save(tmp_path / "a.mp4"))
    assert told.state == "valid" and told.mark == str(stream.payload) and told.model == generator.model


def run(checkpoint, sound, path, **changes):
    settings = {"image": "demo", "audio": str(sound), "crop": CROP, "steps": 1, "pose_anchor": "absolute"} | changes
    return generate(VASAConfig(checkpoint=str(checkpoint), output=str(path), decode_batch=4, **settings))


def test_job_signs_and_points_to_the_duties_once(checkpoint, sound, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    state = read_manifest(run(checkpoint, sound, tmp_path / "a.mp4"))
    shown = capsys.readouterr()
    assert state.state == "valid" and f"mark {state.mark}" in shown.out
    assert shown.err.count("docs/responsible-use.md") == 1
    run(checkpoint, sound, tmp_path / "b.mp4")
    assert "responsible-use" not in capsys.readouterr().err


def test_job_without_marks_says_so(checkpoint, sound, tmp_path, capsys):
    path = run(checkpoint, sound, tmp_path / "a.mp4", mark=False)
    assert "NOT marked" in capsys.readouterr().out
    assert read_manifest(path).state == "none"
    with av.open(str(path)) as file:
        assert file.metadata["comment"] == UNMARKED_COMMENT


def test_bad_certificates_are_found_before_anything_is_loaded(tmp_path):
    with pytest.raises(InputError, match=r"none\.pem: does not exist"):
        run("nowhere", "demo", tmp_path / "a.mp4", sign_certificate=str(tmp_path / "none.pem"), sign_key="key.pem")
    for changes in ({"sign_key": "key.pem"}, {"sign_certificate": "a.pem", "sign_key": "key.pem", "mark": False}):
        with pytest.raises(InputError, match="sign_certificate"):
            VASAConfig(**changes).validate()
