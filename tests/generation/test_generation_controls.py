"""Controls: constant and per frame, from Python and from a track file; what they do to motion; faults in one line."""

import dataclasses
import json
import os

import numpy as np
import pytest
from tiny_model import WINDOW, save_tiny_model

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import (
    EMOTIONS,
    GAZE_UNIT,
    angles_of_direction,
    direction_of_angles,
    head_angles,
    rotation_columns,
    rotation_matrices,
)
from vasa_jax.errors import InputError
from vasa_jax.generation.control_track import checked_controls, controls_of, read_control_track
from vasa_jax.generation.controls import Controls, parse_emotion
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.motion_edit import finish_motion
from vasa_jax.generation.schedule import ConditionSchedule, control_arguments
from vasa_jax.generation.windows import Window
from vasa_jax.models.geometry import rotation_from_6d
from vasa_jax.settings import described

MEAN = np.concatenate([rotation_columns(np.array([[3.0, -4.0, 1.0]]))[0], [0.1, 0.2, -0.1], np.full(128, 0.5)])
MEAN = MEAN.astype(np.float32)
STD = np.full(137, 0.1, np.float32)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")), decode_batch=4)


def speech(frames):
    return (0.1 * np.random.default_rng(0).normal(size=640 * frames)).astype(np.float32)


def sample(frames, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, 137)).astype(np.float32)


def edited(z, portrait=None, first=0, **controls):
    return finish_motion(z, first, ConditionSchedule(Controls(**controls)), MEAN, STD, portrait)


# tracks


def test_a_track_holds_its_last_value_and_a_constant_everywhere():
    schedule = ConditionSchedule(
        Controls(gaze=[(0, 0), (10, -5)], distance=1.3, emotion=["anger", "fear:0.5", "neutral"])
    )
    assert schedule.at("gaze", 0).tolist() == [0, 0]
    assert schedule.at("gaze", 99).tolist() == [10, -5]
    assert schedule.at("distance", 7) == np.float32(1.3)
    np.testing.assert_allclose(schedule.at("emotion", 1), parse_emotion("fear:0.5"))
    np.testing.assert_array_equal(schedule.frames("gaze", 1, 3), [[10, -5]] * 3)
    assert schedule.at("head_pose", 0) is None
    expected = control_arguments((10, -5), 1.3, parse_emotion("neutral"))
    for name, value in schedule.conditions(Window(0, 100, 100), 100).items():
        np.testing.assert_allclose(value, expected[name])


def test_unset_controls_are_null():
    arguments = control_arguments(None, 1.0, None)
    assert not arguments["gaze_mask"][0] and arguments["distance_mask"][0] and not arguments["emotion_mask"][0]
    assert arguments["distance"][0, 0] == 0.0


def test_a_head_keeps_the_portraits_distance_unless_told_otherwise():
    first = Window(0, 12, 12)
    kept = ConditionSchedule(Controls()).conditions(first, 12)
    assert kept["distance_mask"][0] and kept["distance"][0, 0] == 0.0
    assert ConditionSchedule(Controls(distance=1.15)).conditions(first, 12)["distance"][0, 0] > 0.9
    assert not ConditionSchedule(Controls(pose_anchor="absolute")).conditions(first, 12)["distance_mask"][0]
    assert not ConditionSchedule(Controls(), trained=("gaze",)).conditions(first, 12)["distance_mask"][0]
    assert Controls().ignored(()) == []


def test_lips_asked_of_a_model_without_a_reader_are_told_to_change_nothing():
    (line,) = Controls(lips=0.5).ignored(("gaze",))
    assert line.startswith("config.lips: ") and "changes nothing" in line
    assert Controls(lips=0.5).ignored(("lips",)) == []


def test_only_given_conditions_with_a_scale_are_guided():
    assert ConditionSchedule(Controls()).guided == ("audio",)
    assert ConditionSchedule(Controls(audio_guidance=0.0)).guided == ()
    assert ConditionSchedule(Controls(gaze=(1, 2), distance=1.1, emotion="fear")).guided == ("audio", "gaze")
    guided = ConditionSchedule(
        Controls(emotion="fear", emotion_guidance=[0.0, 2.0], distance=1.0, distance_guidance=0.5)
    )
    assert guided.guided == ("audio", "distance", "emotion")
    assert guided.guidance(0) == {"audio": 0.5, "distance": 0.5, "emotion": 0.0}
    assert guided.guidance(5, ("emotion", "gaze")) == {"emotion": 2.0, "gaze": 0.0}
    assert ConditionSchedule(Controls(gaze=(1, 2)), trained=("emotion",)).guided == ("audio",)


@pytest.mark.parametrize("hop", [0, 4])
def test_each_window_hears_the_middle_of_its_track(generator, hop):
    """Windows of 12, or hops of 4: a track that changes off the middle frames is a constant."""
    size, middle = hop or WINDOW, (hop or WINDOW) // 2
    gaze = np.zeros((2 * size, 2))
    gaze[np.arange(2 * size) % size != middle] = (40.0, 40.0)
    gaze[size + middle] = (20.0, -10.0)
    track = generator.motion(speech(2 * size), steps=2, hop=hop, gaze=gaze)
    first = generator.motion(speech(2 * size), steps=2, hop=hop, gaze=(0.0, 0.0))
    np.testing.assert_array_equal(track[:size], first[:size])
    assert np.abs(track[size:] - first[size:]).max() > 1e-4


@pytest.mark.parametrize(
    "control",
    [
        {"gaze": (10.0, -5.0)},
        {"distance": 1.2},
        {"emotion": "happiness:0.8"},
        {"gaze": (10.0, -5.0), "gaze_guidance": 3.0},
        {"distance": 1.2, "distance_guidance": 1.0},
        {"emotion": "happiness:0.8", "emotion_guidance": 1.0},
        {"audio_guidance": 3.0},
    ],
)
def test_every_control_changes_the_motion(generator, control):
    given = {name: value for name, value in control.items() if not name.endswith("guidance") and len(control) > 1}
    plain = generator.motion(speech(12), steps=2, **given)
    assert np.abs(generator.motion(speech(12), steps=2, **control) - plain).max() > 1e-4


# edits of frames


def test_motion_without_edits_is_the_denormalised_sample():
    z, portrait = sample(5), sample(1, 1)[0]
    np.testing.assert_array_equal(edited(z, pose_anchor="absolute"), z * STD + MEAN)
    anchored = edited(z, portrait)
    np.testing.assert_allclose(anchored[:, 6:9], (z * STD)[:, 6:9] + portrait[6:9], atol=1e-6)
    np.testing.assert_array_equal(anchored[:, 9:], (z * STD + MEAN)[:, 9:])


def test_a_portrait_that_looks_aside_goes_on_doing_so():
    """Heads turn about the portrait's own pose as they would about the mean's."""
    turns = np.array([[10.0, 5.0, -8.0], [-20.0, 0.0, 3.0]])
    z, portrait = np.zeros((2, 137), np.float32), MEAN.copy()
    z[:, :6] = (rotation_columns(turns) - MEAN[:6]) / STD[:6]
    portrait[:6] = rotation_columns(np.array([[30.0, -10.0, 5.0]]))[0]
    found = rotation_matrices(edited(z, portrait))
    rest, own = rotation_matrices(MEAN), rotation_matrices(portrait)
    np.testing.assert_allclose(found, own @ rest.T @ rotation_matrices(rotation_columns(turns)), atol=1e-6)
    still = edited(np.zeros((1, 137), np.float32), portrait)
    np.testing.assert_allclose(rotation_matrices(still)[0], own, atol=1e-6)


def test_a_gaze_is_meant_for_the_camera_however_the_portrait_is_turned():
    """The eyes are asked to look where, after the portrait's turn, they look as was said."""
    schedule, part = ConditionSchedule(Controls(gaze=(12.0, -7.0))), Window(0, 12, 12)
    turn = rotation_matrices(rotation_columns(np.array([[25.0, 10.0, -4.0]])))[0]
    asked = schedule.conditions(part, 12, turn)["gaze"][0] * GAZE_UNIT
    np.testing.assert_allclose(angles_of_direction(turn @ direction_of_angles(asked)), (12.0, -7.0), atol=1e-4)
    np.testing.assert_allclose(schedule.conditions(part, 12)["gaze"][0] * GAZE_UNIT, (12.0, -7.0), atol=1e-4)


def angle(rotation):
    return np.degrees(np.arccos(np.clip((np.trace(rotation, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))


@pytest.mark.parametrize("amplitude", [0.0, 0.5, 2.0])
def test_pose_amplitude_scales_the_turn_about_the_mean(amplitude):
    turned = rotation_columns(np.array([[10.0, 5.0, -8.0], [-20.0, 0.0, 3.0]]))
    z = np.zeros((2, 137), np.float32)
    z[:, :6], z[:, 6:9] = (turned - MEAN[:6]) / STD[:6], 1.0
    rest = rotation_matrices(MEAN[None])[0]
    found = edited(z, pose_amplitude=amplitude)
    before, after = rest.T @ rotation_matrices(turned), rest.T @ rotation_matrices(found)
    np.testing.assert_allclose(angle(after), amplitude * angle(before), atol=0.03)
    np.testing.assert_allclose(found[:, 6:9], [MEAN[6:9] + amplitude * 0.1] * 2, atol=1e-6)
    np.testing.assert_array_equal(found[:, 9:], edited(z)[:, 9:])


def test_pose_amplitude_may_be_a_track():
    z = sample(4)
    both, plain = edited(z, pose_amplitude=[1.0, 0.5]), edited(z[:1])
    np.testing.assert_allclose(both[1:], edited(z[1:], pose_amplitude=0.5), atol=1e-6)
    np.testing.assert_allclose(both[:1, 6:], plain[:, 6:], atol=1e-6)
    same = rotation_from_6d(plain[:, :6])  # the sample's columns need not be orthonormal, the edited ones are
    np.testing.assert_allclose(rotation_matrices(both[:1]), same, atol=1e-5)


def test_a_given_head_pose_turns_the_head_frame_by_frame():
    angles = np.array([[10.0, -5.0, 3.0], [-30.0, 20.0, 0.0], [0.0, 0.0, 15.0]])
    z = sample(5)
    motion = edited(z, head_pose=angles, pose_amplitude=0.3, first=1)
    np.testing.assert_allclose(head_angles(motion), angles[[1, 2, 2, 2, 2]], atol=1e-3)
    np.testing.assert_array_equal(motion[:, 6:], edited(z, pose_amplitude=0.3)[:, 6:])
    np.testing.assert_allclose(head_angles(edited(z, head_pose=(5, 6, 7))), [(5, 6, 7)] * 5, atol=1e-3)


def test_pose_only_and_dynamics_only():
    z, portrait = sample(3), sample(1, 1)[0]
    everything = edited(z, portrait)
    pose, dynamics = (edited(z, portrait, animate=part) for part in ("pose", "dynamics"))
    np.testing.assert_array_equal(pose, np.concatenate([everything[:, :9], [portrait[9:]] * 3], 1))
    np.testing.assert_array_equal(dynamics, np.concatenate([[portrait[:9]] * 3, everything[:, 9:]], 1))
    np.testing.assert_array_equal(edited(z, animate="dynamics")[:, :9], [MEAN[:9]] * 3)


def test_one_motion_moves_many_portraits(generator):
    """Paper Figure 4: the motion is made once, for no portrait in particular."""
    motion = generator.motion(speech(2), steps=2)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (2, 8, 8, 3), np.uint8)
    pictures = [np.repeat(np.repeat(picture, 8, 0), 8, 1) for picture in coarse]
    videos = [next(generator.render(generator.prepare(picture), motion)) for picture in pictures]
    assert videos[0].shape == videos[1].shape == (2, 64, 64, 3)
    assert np.abs(videos[0].astype(int) - videos[1].astype(int)).max() > 10


# faults


def test_emotions_are_coefficients_that_sum_to_one():
    np.testing.assert_allclose(parse_emotion("happiness:0.25"), [0, 0, 0, 0, 0.25, 0.75, 0, 0])
    np.testing.assert_allclose(parse_emotion("anger"), np.eye(8)[EMOTIONS.index("anger")])
    assert parse_emotion("") is None
    for text in ("joy", "anger:x", "anger:2", ":1"):
        with pytest.raises(InputError, match=r"config\.emotion"):
            parse_emotion(text)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"gaze": (90, 0)}, "controls.gaze: 90 is out of range; choose -60 to 60"),
        ({"gaze": (1, 2, 3)}, "controls.gaze: has shape"),
        ({"gaze": [(1, 2), (3,)]}, "controls.gaze: not a constant or a track"),
        ({"distance": [1.0, float("nan")]}, "controls.distance: nan is out of range"),
        ({"distance": []}, "give a number, or a number per frame"),
        ({"distance": "1.0"}, "controls.distance: not a constant or a track"),
        ({"emotion": ["anger", ""]}, "controls.emotion: not a name for every frame"),
        ({"emotion": ["joy"]}, "controls.emotion: 'joy' is unknown"),
        ({"audio_guidance": -1.0}, "controls.audio_guidance: -1 is out of range"),
        ({"head_pose": (1, 2)}, "controls.head_pose: has shape"),
        ({"animate": "eyes"}, "choose one of all, pose, dynamics"),
        ({"steps": 2.5}, "controls.steps: 2.5"),
        ({"look_ahead": 2}, "only a stream looks ahead"),
    ],
)
def test_bad_controls_are_named(changes, fault):
    with pytest.raises(InputError) as error:
        Controls(**changes).validate("controls")
    assert fault in str(error.value) and "\n" not in str(error.value)


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_track_file_sets_what_it_names_over_the_config(tmp_path):
    track = {"gaze": [[0, 0], [10, -5]], "emotion": ["anger", "fear"], "audio_guidance": 1.5}
    path = write(tmp_path / "track.json", track)
    config = VASAConfig(controls=str(path), distance=1.2, emotion="neutral", seed=7, head_pose=(1.0, 2.0, 3.0))
    controls = controls_of(config)
    assert (controls.seed, controls.distance, controls.audio_guidance) == (7, 1.2, 1.5)
    assert controls.emotion == ["anger", "fear"] and controls.head_pose == (1.0, 2.0, 3.0)
    assert ConditionSchedule(controls).at("gaze", 1).tolist() == [10, -5]


def test_the_defaults_of_the_config_are_those_of_the_controls():
    assert dataclasses.asdict(controls_of(VASAConfig())) == dataclasses.asdict(Controls())
    assert dataclasses.asdict(Controls.from_config(VASAConfig())) == dataclasses.asdict(Controls())


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ([1], "holds no object"),
        ({"gaz": [1, 2]}, "no control 'gaz'; did you mean 'gaze'?"),
        ({"blink_rate": 90}, "90 is out of range; choose 0 to 60"),
        ({"gaze": [100, 0]}, ".gaze: 100 is out of range"),
        ({"gaze": "left"}, ".gaze: not a constant or a track"),
        ({"gaze": None}, "gaze is null; leave it out"),
        ({"emotion": "joy"}, "'joy' is unknown"),
        ({"emotion": 3}, ".emotion: 3 is not a text or a list of texts"),
        ({"hop": "4"}, ".hop: '4'"),
        ({"hop": True}, ".hop: True is not a whole number"),
        ({"hop": 1.5}, ".hop: 1.5 is not a whole number"),
        ({"distance": "1"}, ".distance: not a constant or a track"),
        ({"distance": ["1", "1"]}, ".distance: not a constant or a track"),
        ({"gaze": [True, False]}, ".gaze: not a constant or a track"),
        ({"gaze": [[1, 2], [3]]}, ".gaze: not a constant or a track"),
        ({"gaze": {"yaw": 1}}, ".gaze: not a constant or a track"),
        ({"distance": 10**400}, ".distance: not a constant or a track"),
        ({"gaze": [[10**400, 0]]}, ".gaze: not a constant or a track"),
        ({"hop": 10**400}, ".hop: a number of 1329 bits is out of range"),
        ('{"distance": NaN}', ".distance: nan is out of range"),
        ('{"distance": [1, Infinity]}', ".distance: inf is out of range"),
        ("[" * 100_000, "nested too deeply"),
        ('{"gaze": ' + "[" * 100 + "]" * 100 + "}", "nested too deeply"),
        ('{"distance": ' + "1" * 5000 + "}", "not JSON"),
    ],
)
def test_a_bad_track_file_is_named_in_one_line(tmp_path, content, fault):
    path = tmp_path / "track.json"
    if content is not None:
        write(path, content)
    with pytest.raises(InputError) as error:
        read_control_track(path)
    text = str(error.value)
    assert text.startswith(str(path)) and fault in text and "\n" not in text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_track_that_is_no_file_never_waits_and_never_ends_memory(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, fault in ((tmp_path / "fifo", "is a FIFO"), ("/dev/zero", "is a device"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=fault):
            read_control_track(path)


def test_null_is_a_blink_rate_of_its_own():
    """It means the model's own, which is not the default; the command line's help says so."""
    assert checked_controls({"blink_rate": None}, "controls") == {"blink_rate": None}
    (line,) = [line for line in described(Controls) if line.startswith("blink_rate=")]
    assert "at times drawn from the seed; None = the model's own [0 to 60]" in line
