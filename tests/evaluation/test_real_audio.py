"""Real voices: figures of known tracks, and clips from what preparation left, without real media."""

import json

import numpy as np
import pytest
from landmark_faces import face_points

from vasa_jax.config import PrepareConfig, VASAConfig, VoicesConfig
from vasa_jax.data.records import Record
from vasa_jax.errors import InputError
from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.metrics import level
from vasa_jax.evaluation.real_audio import IMAGE_SIDE, RealClip, compared, measure_voices, real_clips
from vasa_jax.evaluation.speaker_list import by_people, read_speakers, why_left_out
from vasa_jax.generation.controls import Controls
from vasa_jax.preparation import landmark_labels
from vasa_jax.preparation.clips import NO_SOUND, Discard, PreparedClip, VideoResult
from vasa_jax.preparation.prepare import find_videos
from vasa_jax.preparation.work import write_outcome

N = 16
FRAMES = 60


def speaker(number, video, frames=FRAMES, late=0):
    """A clip whose sound is as loud as the mouth is open, `late` frames earlier."""
    rng = np.random.default_rng(number)
    opening = np.round(255 * rng.uniform(0.1, 1.0, frames + late)) / 255
    samples = np.repeat(opening[late:], 640) * np.tile([1.0, -1.0], 320 * frames)
    mouth = 0.5 * opening[:frames]
    return RealClip(f"clip {number}", video, samples.astype(np.float32), mouth, mouth + 0.25)


CLIPS = [speaker(0, "a.mp4"), speaker(1, "a.mp4", 50), speaker(2, "b.mp4"), speaker(3, "c.mp4", 40)]


def test_level_is_the_root_mean_square_of_each_frame():
    np.testing.assert_allclose(level(CLIPS[0].samples), 2 * CLIPS[0].mouth, rtol=1e-6)


def test_tracks_that_follow_have_r_1_and_others_do_not():
    report = compared(CLIPS, [3 * clip.mouth for clip in CLIPS])
    for column in ("own", "loudness"):
        for name in ("r", "r_at_offset", "r_lips"):
            assert report["table"][name][column] == pytest.approx({"mean": 1, "error": 0}, abs=1e-6)
        assert report["table"]["offset_size"][column]["mean"] == 0
        assert report["pooled"][column] == pytest.approx(1)
    assert abs(report["table"]["r"]["shuffled"]["mean"]) < 0.3 and report["videos"] == 3
    assert report["beaten"] == {"mean": 1.0, "error": 0.0}
    # Another clip is one of another video, cut to the frames that both have.
    others = [np.corrcoef(3 * o.mouth[:n], CLIPS[0].mouth[:n])[0, 1] for o, n in ((CLIPS[2], 60), (CLIPS[3], 40))]
    assert report["clips"][0]["shuffled"]["r"] == pytest.approx(np.mean(others))


def test_constant_tracks_gain_nothing_and_delays_are_found():
    still = compared(CLIPS, [np.zeros(len(clip.mouth)) for clip in CLIPS])
    assert still["gain"] == {"mean": 0.0, "error": 0.0} and still["beaten"]["mean"] == 0.5
    assert still["table"]["r"]["loudness"]["mean"] == pytest.approx(1)
    late = compared(CLIPS, [np.concatenate([clip.mouth[:2], clip.mouth[:-2]]) for clip in CLIPS])
    assert late["table"]["offset"]["own"] == {"mean": 2.0, "error": 0.0}
    assert late["table"]["r_at_offset"]["own"]["mean"] == pytest.approx(1)


def test_parts_of_one_video_count_once():
    wrong = [clip.mouth if clip.video == "a.mp4" else -clip.mouth for clip in CLIPS]
    report = compared(CLIPS, wrong)
    assert report["table"]["r"]["own"]["mean"] == pytest.approx((1 - 1 - 1) / 3)
    assert report["table"]["r"]["own"]["error"] == pytest.approx(np.std([1, -1, -1], ddof=1) / np.sqrt(3))


class Generator:
    """Opens the mouth as far as the sound is loud."""

    def __init__(self):
        self.seeds, self.avatars = [], []

    def prepare(self, portrait):
        return portrait

    def motion(self, samples, avatar, controls):
        self.seeds.append(controls.seed)
        self.avatars.append(int(avatar[0, 0, 0]))
        return level(samples)[:, None]

    def render(self, avatar, motion):
        for value in motion[:, 0]:
            yield np.full((1, N, N, 3), round(float(value) * 255), np.uint8)


class Reader:
    training_errors = {"mouth_r": 0.9, "mouth_mae": 0.01}  # noqa: RUF012

    def measure(self, frames):
        return Measurements(frames[:, 0, 0, 0] / 255.0, *5 * [np.zeros(len(frames))])


def test_report_of_a_generator_that_listens(tmp_path, capsys):
    generator = Generator()
    portraits = [np.full((N, N, 3), shade, np.uint8) for shade in (10, 20)]
    given = (portraits, CLIPS, {"d.mp4": "no sound"}, Controls(seed=5))
    report = measure_voices(generator, Reader(), *given, tmp_path)
    assert (generator.seeds, generator.avatars) == ([5, 6, 7, 8], [10, 20, 10, 20])
    assert report["table"]["r"]["own"]["mean"] == pytest.approx(1, abs=1e-4)
    text = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "4 clips of 3 videos drive 2 held-out heads" in text and "* d.mp4: no sound" in text
    assert text.index("The face probe on true renders") < text.index("Per clip")
    assert len(json.loads((tmp_path / "report.json").read_text())["clips"]) == 4
    assert (tmp_path / "curves.png").is_file()

    one = [clip for clip in CLIPS if clip.video == "a.mp4"]
    with pytest.raises(InputError, match=r"2 clips of 1 videos can be used.*d.mp4: no sound"):
        measure_voices(generator, Reader(), portraits, one, {"d.mp4": "no sound"}, Controls(), tmp_path)


SPEAKERS = "video\tperson\tlanguage\tkind\tsplit\n" + "\n".join(
    ["a.mp4\tann\ten\tstudio\ttest", "b.mp4\tann\ten\tphone\ttest", "c.mp4\tcy\tde\tphone\ttest"]
    + ["d.mp4\tdan\ten\tphone\ttrain"]
)


def test_people_count_once_and_those_in_training_not_at_all(tmp_path):
    (tmp_path / "list.tsv").write_text(SPEAKERS)
    speakers = read_speakers(tmp_path / "list.tsv")
    assert [why_left_out(f"folder/{name}.mp4", speakers) != "" for name in "abcde"] == [False] * 3 + [True] * 2
    wrong = [-clip.mouth if clip.video == "c.mp4" else clip.mouth for clip in CLIPS]
    found = by_people(compared(CLIPS, wrong)["clips"], ("own", "loudness"), speakers)
    assert found["all"]["own"]["mean"] == pytest.approx(0.0) and found["all"]["own"]["count"] == 2
    assert found["all"]["loudness"]["mean"] == pytest.approx(1.0) and found["all"]["clips"] == 4
    assert found["language de"]["own"]["mean"] == pytest.approx(-1.0) and "low" not in found["language de"]["own"]
    assert found["kind phone"]["own"]["mean"] == pytest.approx(0.0) and found["language en"]["in_step"] == 1.0
    report = measure_voices(
        Generator(), Reader(), [np.zeros((N, N, 3), np.uint8)], CLIPS, {}, Controls(), tmp_path, speakers
    )
    assert report["people"]["all"]["own"]["mean"] == pytest.approx(1, abs=1e-4)
    assert "| kind phone | 2 | 2 |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("video\tperson\n", "lacks columns"),
        (SPEAKERS.replace("studio", ""), "line 2 leaves a column empty"),
        (SPEAKERS.replace("train", "valid"), "split 'valid'"),
        (SPEAKERS.replace("dan", "ann"), "ann is of both splits"),
    ],
)
def test_a_bad_list_of_speakers_is_one_line(tmp_path, table, said):
    (tmp_path / "list.tsv").write_text(table)
    with pytest.raises(InputError, match=said):
        read_speakers(tmp_path / "list.tsv")
    with pytest.raises(InputError, match="cannot be read"):
        read_speakers(tmp_path / "none.tsv")


def prepared(job, count):
    """What preparation says of a video with `count` clips of 20 frames, the first ones 0.1 x their number open."""
    clips = []
    for number in range(count):
        points = np.stack([face_points(np.eye(3), 1.0, (0.0, 0.0), mouth=0.1 * (number + 1))] * 20)
        record = Record(
            clip_id=f"{job.key}-{number:03d}", fps=25.0, frames=(b"jpeg",) * 20, audio=np.full(20 * 640, 327, np.int16),
            person_id="p", split="train", source="test", landmarks=points, landmark_set="mediapipe_478",
            mouth=landmark_labels.mouth_opening(points),
        )  # fmt: skip
        clips.append(PreparedClip(record, 0.0, 0.8, {"seconds": 0.8}))
    discards = [] if count else [Discard(NO_SOUND, 0.0, 1.0), Discard(NO_SOUND, 1.0, 2.0)]
    return VideoResult(seconds=2.0, clips=clips, discards=discards)


def test_clips_come_from_the_work_folder_without_an_analyzer(tmp_path):
    folder, work = tmp_path / "videos", tmp_path / "work"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).touch()
    settings = PrepareConfig(models=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="litert"):
        real_clips(str(folder), settings, 5.0, 2, work)
    with pytest.raises(InputError, match="finds no lips; choose litert"):
        real_clips(str(folder), PrepareConfig(analyzer="haar"), 5.0, 2, tmp_path / "other")
    first, second = find_videos(str(folder), settings)
    write_outcome(work, first, prepared(first, 3))
    write_outcome(work, second, prepared(second, 0))
    clips, none = real_clips(str(folder), settings, 5.0, 2, work)
    assert [clip.name for clip in clips] == [f"{first.key}-000", f"{first.key}-001"]
    np.testing.assert_allclose([clip.mouth for clip in clips], [[0.1] * 20, [0.2] * 20], atol=1e-5)
    assert clips[0].samples.shape == (20 * 640,) and clips[0].samples[0] == pytest.approx(327 / 32767)
    np.testing.assert_array_equal([len(clip.lips) for clip in clips], 20)
    assert none == {"b.mp4": NO_SOUND}
    assert json.loads((work / "settings.json").read_text())["size"] == IMAGE_SIDE
    with pytest.raises(InputError, match="choose another --workdir"):
        real_clips(str(folder), settings, 6.0, 2, work)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"config\.voices\.seconds"):
        VASAConfig(job="evaluate_voices", voices=VoicesConfig(seconds=1.0)).validate()
