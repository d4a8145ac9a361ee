"""The table of real clips, model and floors: which sound each video has, what follows it, who is left out."""

import json

import numpy as np
import pytest
from drawn_faces import picture
from fake_heads import FakeFaceReader

from vasa_jax.config import VASAConfig, VideosConfig
from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation.paper_tables import SETS, asked_of, corpus_clips, make_sets, measure_sets
from vasa_jax.evaluation.protocol import Instruments, protocol
from vasa_jax.evaluation.video_list import files_of
from vasa_jax.evaluation.videos import Evaluator
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.portraits import read_portrait
from vasa_jax.limits import DEFAULT_LIMITS

SIDE, SECONDS = 192, 3.0
SETTINGS = VideosConfig(size=64, seconds=SECONDS)


def level(seed, count=75):
    """A loudness that rises and falls, another for each seed."""
    steps = np.random.default_rng(seed).random(count)
    return 0.15 + 0.7 * np.clip(np.convolve(steps > 0.8, np.hanning(7), "same"), 0, 1)


def talking(path, seed, sound=True):
    def frames():
        for value in level(seed):
            image = picture(SIDE, SIDE, (SIDE / 2, SIDE / 2, 0.17 * SIDE))
            image[:, : SIDE // 5] = round(255 * value)
            yield image

    noise = np.random.default_rng(9).choice([-1.0, 1.0], 75 * 640)
    samples = (0.4 * noise * np.repeat(level(seed), 640)).astype(np.float32)
    write_video(path, frames(), Audio.from_samples(samples) if sound else None)


ROW = "audio 0.5, gaze 1, 10 steps"


class Hearing:
    """A generator that paints the loudness of its sound beside the portrait."""

    def __init__(self):
        self.asked = []

    def read_portrait(self, path, limits):
        return read_portrait(path, SIDE, limits=limits)

    def prepare(self, portrait):
        return portrait

    def motion(self, samples, avatar, controls):
        self.asked.append((controls.seed, controls.audio_guidance, controls.steps, controls.gaze, controls.distance))
        whole = samples[: len(samples) // 640 * 640].reshape(-1, 640)
        return np.sqrt(np.square(whole).mean(1)) / 0.4

    def render(self, avatar, motion):
        frames = np.repeat(avatar[None], len(motion), 0)
        frames[:, :, : SIDE // 5] = (255 * motion[:, None, None, None]).clip(0, 255)
        yield frames[:30]
        yield frames[30:]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    (root / "clips").mkdir()
    for number, name in enumerate(("a", "b", "c")):
        talking(root / "clips" / f"{name}.mp4", number)
    talking(root / "clips" / "silent.mp4", 5, sound=False)
    generator, clips, plain = Hearing(), files_of(str(root / "clips"), ""), Controls(seed=7)
    wanted = {"a.mp4": {"gaze": (5.0, -3.0), "distance": 1.0}, "c.mp4": {}}
    sets, faults = make_sets(
        generator, clips, plain, SECONDS, DEFAULT_LIMITS, root / "out", ("0.5:1:10",), wanted
    )
    usual = [(7 + number, plain.audio_guidance, plain.steps, None, None) for number in range(3)]
    row = [(7, 0.5, 10, (5.0, -3.0), 1.0), (8, 0.5, 10, None, None), (9, 0.5, 10, None, None)]
    assert generator.asked == [call for pair in zip(row, usual) for call in pair]
    return root, sets, faults


def test_every_set_has_every_clip_and_clips_without_sound_are_named(made):
    root, sets, faults = made
    assert list(sets) == [*SETS, ROW] and {len(entries) for entries in sets.values()} == {3}
    assert [entry.gaze for entry in sets[ROW]] == [(5.0, -3.0), None, None] and sets["model"][0].gaze is None
    assert list(faults) == ["silent.mp4"] and str(root) not in faults["silent.mp4"]


def test_each_video_has_the_sound_and_the_pictures_of_its_set(made):
    _, sets, _ = made

    def shown(entry):
        file = entry.video
        return np.array([frame[:, : SIDE // 8].mean() / 255 for frame in read_video(file.path).frames])

    def heard(entry):
        samples = read_audio(entry.video.path).samples
        return np.sqrt(np.square(samples[: 75 * 640].reshape(-1, 640)).mean(1))

    for number in range(3):
        for name in SETS:
            loud = heard(sets[name][number])
            assert np.corrcoef(loud[2:-2], level(number)[2:-2])[0, 1] > 0.9, name
        assert np.corrcoef(shown(sets["model"][number]), level(number))[0, 1] > 0.9
        assert np.corrcoef(shown(sets["shuffled"][number]), level((number + 1) % 3))[0, 1] > 0.9
        assert np.ptp(shown(sets["still"][number])) < 0.02


def test_the_table_tells_the_sets_apart(made, capsys):
    root, sets, faults = made
    tools = Instruments(FakeFaceReader(), None, None, None, protocol(SETTINGS, {}))
    config = VASAConfig(job="evaluate_tables", videos_evaluation=SETTINGS)
    report = measure_sets(Evaluator(config, tools), sets, faults, root / "report")
    r = {name: (one["table"]["loudness_r"] or {"mean": 0.0})["mean"] for name, one in report["sets"].items()}
    assert min(r["real"], r["model"]) > 0.8 > 0.6 > max(r["shuffled"], r["still"])
    frd = {name: one["distances"]["frd"] for name, one in report["sets"].items()}
    assert frd["real"] < min(frd["model"], frd["still"]) and frd["model"] == pytest.approx(frd["shuffled"], rel=0.1)
    text = (root / "report" / "report.md").read_text()
    assert text == capsys.readouterr().out.rstrip("\n") + "\n"
    assert "Not measured: S_C" in text and "FVD" in text and "silent.mp4" in text and str(root) not in text
    assert len(json.loads((root / "report" / "report.json").read_text())["sets"]) == len(SETS) + 1
    # Asked of one video of the row; the fake reader sees a gaze of 0, 0.
    assert report["sets"][ROW]["table"]["gaze_error"] == {"mean": pytest.approx(np.hypot(5, 3)), "count": 1}
    assert report["sets"]["model"]["table"]["gaze_error"] is None and f"| the model, {ROW} |" in text
    assert (root / "report" / "model" / "clips.csv").is_file()


def test_two_clips_are_needed(tmp_path):
    (tmp_path / "clips").mkdir()
    talking(tmp_path / "clips" / "a.mp4", 0)
    with pytest.raises(InputError, match=r"config.videos: 1 of 1 clips can be used, two are needed"):
        make_sets(
            Hearing(), files_of(str(tmp_path / "clips"), ""), Controls(), SECONDS, DEFAULT_LIMITS, tmp_path / "out"
        )


def test_what_rows_ask_for_is_the_gaze_of_the_clip(made):
    root, sets, _ = made
    tools = Instruments(FakeFaceReader(), None, None, None, protocol(SETTINGS, {}))
    evaluator = Evaluator(VASAConfig(job="evaluate_tables", videos_evaluation=SETTINGS), tools)
    clips = [entry.video for entry in sets["real"]]
    found = asked_of(evaluator, clips, ("gaze", "distance", "emotion"), root / "asked")
    assert found == {clip.name: {"gaze": (0.0, 0.0), "distance": 1.0} for clip in clips}
    assert asked_of(evaluator, clips, (), root / "asked") == {clip.name: {} for clip in clips}


def test_heads_of_the_corpus_are_clips_too(tmp_path):
    clips = corpus_clips(2, 1.0, "shipped", 0, tmp_path / "corpus", size=32)
    assert [clip.name for clip in clips] == ["head_00.mp4", "head_01.mp4"]
    for clip in clips:
        video = read_video(clip.path)
        assert video.fps == 25 and sum(1 for _ in video.frames) == 25 and np.ptp(read_audio(clip.path).samples) > 0.05
