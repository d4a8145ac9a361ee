"""Every codec sees faces framed as its training had them, whichever way they come in."""

import dataclasses
import functools
import types

import numpy as np
import pytest
from drawn_faces import picture
from drawn_portrait import drawn_points
from PIL import Image
from random_params import random_params
from shrunk import shrunk
from sounds import speech, write_samples
from tiny_keypoint import FIELDS, random_variables

from vasa_jax.config import PhotosEvaluationConfig, VASAConfig
from vasa_jax.conventions import CORPUS, LIVE_PORTRAIT, frame_count
from vasa_jax.corpus.photos.build import Builder
from vasa_jax.data.face_crop import Crop, FaceBox, crop_square, find_face
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation import photos
from vasa_jax.generation import generator as generators
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.framing import (
    NO_LANDMARKS,
    Landmarks,
    PortraitFraming,
    VideoFraming,
    portrait_framing,
    video_framing,
)
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.landmark_crop import PORTRAIT_SCALE, PORTRAIT_SHIFT, cut_square
from vasa_jax.models.face import init_face
from vasa_jax.models.keypoint_face import exported
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.preparation.face_backends.base import FaceLandmarks
from vasa_jax.training.jobs import make_task
from vasa_jax.training.tasks import keypoint_face
from vasa_jax.weights.networks import framing_of
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import save_params

SIDE, SHARE = 64, (0.40, 0.65)  # of the corpus: a face's box over the side
PICTURE = picture(240, 200, (120, 60, 34))  # LivePortrait's square reaches above it
SKIN = (225, 180, 155)
ALIKE = 6.0  # levels
TURN = np.array([[0.96, 0.28, 0.0], [-0.28, 0.96, 0.0], [0.0, 0.0, 1.0]], np.float32)
KINDS = {  # metadata of the file, and how its codec is framed
    "volume": ({}, CORPUS),
    "trained here": ({"recipe": "counterfactual", "framing": CORPUS}, CORPUS),
    "imported": ({"framing": LIVE_PORTRAIT}, LIVE_PORTRAIT),
}
ENTRIES = ("generate", "paste", "live", "reenact", "driving picture", "driving video", "source video", "photographs")


class Analyzer:
    """Finds a drawn face in every picture."""

    name, landmark_set, framing = "drawn", "mediapipe_478", (0.5, 0.48)

    def detect(self, image):
        raise AssertionError("the report looks at squares")

    def landmarks(self, image, previous=None):
        return FaceLandmarks(drawn_points(len(image)), 1.0)

    def matte(self, image):
        return np.ones(image.shape[:2], np.float32)


class NoHeads(Builder):
    """Fits no photo heads."""

    def __init__(self, mesh):
        pass

    def __call__(self, portrait, rng):
        return None


class Still:
    """Makes speech of a face that does not move."""

    trained = ()

    def motion(self, animator, samples, controls, avatar, how, watch):
        return np.tile(avatar.motion, (frame_count(len(samples)), 1))


def saved(folder, kind, metadata):
    """Saves face.safetensors of a kind of codec."""
    if kind.startswith("volume"):
        params, fields = random_params(lambda key: init_face(key, "face_tiny")), FACE_VARIANTS["face_tiny"]
    else:
        params, fields = exported(random_variables()), FIELDS
    save_params(folder / "face.safetensors", params, {"fields": fields, **metadata}, np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("framing")
    Image.fromarray(PICTURE).save(folder / "me.png")
    write_video(folder / "take.mp4", np.stack([PICTURE] * 2))
    write_samples(folder / "speech.wav", speech(0.1))
    for kind, (metadata, _) in KINDS.items():
        (folder / kind).mkdir()
        saved(folder / kind, kind, metadata)
    return folder


@pytest.fixture(params=KINDS)
def codec(request, files, monkeypatch):
    """A generator of this kind, how it is framed, and the pictures that its networks see."""
    monkeypatch.setattr(generators, "_sampler", lambda parts, dtype: Still())
    monkeypatch.setattr(generators, "open_windows", lambda *given: None)
    monkeypatch.setattr(generators, "OpenStream", lambda *given: None)
    seen = []
    for name in ("prepare", "encode_motion", "read"):
        true = getattr(PortraitAnimator, name)

        def spied(self, pictures, *rest, true=true, **more):
            seen.extend(pictures.reshape(-1, *pictures.shape[-3:]))
            return true(self, pictures, *rest, **more)

        monkeypatch.setattr(PortraitAnimator, name, spied)
    generator = VideoGenerator({"face": load_part(files / request.param, "face")}, decode_batch=2, mark=False)
    return generator, KINDS[request.param][1], seen


def enter(entry, generator, files, monkeypatch, tmp_path):
    """Lets a face in; of a video its second kind of picture is left out by a motion file or a crop."""
    me, take, how = files / "me.png", files / "take.mp4", Driving(align=0, stitching=False, driving_multiplier=0.0)
    if entry in ("generate", "paste"):
        list(generator.generate(me, files / "speech.wav", paste=entry == "paste").frames())
    elif entry == "live":
        generator.stream(me)
    elif entry == "reenact":
        list(generator.reenact(me, me, how, paste=True).frames())
    elif entry.startswith("driving"):
        generator.motion_of(me if entry == "driving picture" else take, how)
    elif entry == "source video":
        list(generator.reenact(take, take, dataclasses.replace(how, dub=True)).frames())
    else:
        photographs(generator, files, monkeypatch, tmp_path)


def photographs(generator, files, monkeypatch, tmp_path):
    """Runs evaluate_photos up to the measuring, then prepares what is measured."""
    monkeypatch.setattr(photos, "open_analyzer", lambda *given: Analyzer())
    monkeypatch.setattr(photos, "face_mesh", lambda folder: None)
    monkeypatch.setattr(photos, "Builder", NoHeads)
    monkeypatch.setattr(photos.photo_motion, "drawer", lambda renderer: None)
    monkeypatch.setattr(photos, "PhotoRenderer", lambda *given: None)
    monkeypatch.setattr(photos.photo_motion, "built_in", lambda *given: None)
    monkeypatch.setattr(photos, "speech_of", lambda *given: {})
    other = types.SimpleNamespace(image_size=SIDE, framing=CORPUS)
    opened = {"model": generator, "": other}
    monkeypatch.setattr(PortraitAnimator, "from_checkpoint", lambda folder, *given, **more: opened[folder])

    def run(stage, found, *rest):
        for codec in stage._codecs.values():
            generator.prepare(found[0][codec.framing].portrait)
        (_, clip), *_ = photos.clips(stage._settings, Analyzer(), SIDE, stage.framings)
        generator.prepare(clip[generator.framing][0][0])

    monkeypatch.setattr(photos.PhotoStage, "run", run)
    settings = PhotosEvaluationConfig(stills=str(files), clips=str(files), clip_frames=2)
    photos.evaluate_photos(VASAConfig(job="evaluate_photos", checkpoint="model", photos_evaluation=settings), tmp_path)


def share(image):
    """Returns the side of the face finder's box over that of a square, told by the width of the face's skin."""

    def width(image):
        return (np.abs(image.astype(int) - SKIN).max(-1) < 25).any(0).sum()

    return width(image) / image.shape[1] * find_face(PICTURE).size / width(PICTURE)


def has_bars(image):
    return bool((image.max((1, 2)) < 8).any() or (image.max((0, 2)) < 8).any())


def apart(image, other):
    """Returns the mean difference; what a video's compression changes, and a box that it moves, is below ALIKE."""
    return np.abs(image.astype(int) - other).mean()


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_codec_sees_faces_as_its_training_did(entry, codec, files, monkeypatch, tmp_path):
    generator, framing, seen = codec
    enter(entry, generator, files, monkeypatch, tmp_path)
    assert seen and generator.framing == framing
    face = find_face(PICTURE)
    corpus = crop_square(PICTURE, face, SIDE)[0]
    for image in seen:
        assert SHARE[0] <= share(image) <= SHARE[1]
    if framing == CORPUS:
        assert not any(map(has_bars, seen))
        assert all(apart(image, corpus) < ALIKE for image in seen)
        return
    portrait = cut_square(PICTURE, PortraitFraming()(PICTURE, "me.png"), SIDE)
    driver = crop_square(PICTURE, VideoFraming().square(face), SIDE)[0]
    source = crop_square(PICTURE, VideoFraming(scale=PORTRAIT_SCALE, shift=PORTRAIT_SHIFT).square(face), SIDE)[0]
    assert has_bars(portrait) and min(apart(square, corpus) for square in (portrait, driver, source)) > 2 * ALIKE
    videos = {"driving video": [driver] * 2, "source video": [driver] * 2 + [source]}
    pictures = {"driving picture": [driver], "reenact": [driver, portrait]}
    for image, expected in zip(seen, videos.get(entry, [])):
        assert apart(image, expected) < ALIKE
    for image, expected in zip(seen, pictures.get(entry, [] if entry in videos else [portrait])):
        np.testing.assert_array_equal(image, expected)


def test_files_say_how_their_codec_is_framed(monkeypatch):
    monkeypatch.setattr(keypoint_face, "_folded", lambda params: params)
    for variant in ("face_tiny", "keypoint_tiny"):
        job = "train_face_keypoint" if variant == "keypoint_tiny" else "train_face"
        task = make_task(shrunk(job, f"--config.face.variant={variant}", "--config.train.batch_size=8"))
        assert task.export({})[1]["framing"] == CORPUS


def test_another_framing_is_one_line(files, tmp_path):
    (tmp_path / "odd").mkdir()
    saved(tmp_path / "odd", "trained here", {"framing": "square"})
    with pytest.raises(InputError, match=r"face\.safetensors: framing"):
        load_part(tmp_path / "odd", "face")


def test_files_that_do_not_say_it():
    keypoint, volume = {"fields": {"codec": "keypoint"}}, {"fields": {}}
    assert framing_of(keypoint) == LIVE_PORTRAIT and framing_of(volume) == CORPUS
    assert framing_of(keypoint | {"recipe": "self"}) == CORPUS


@pytest.mark.parametrize(
    ("framed", "setting", "value"),
    [
        (portrait_framing, "portrait_scale", 1.0), (portrait_framing, "portrait_shift", 0.2),
        (portrait_framing, "portrait_turn", False), (video_framing, "driving_scale", 1.0),
        (video_framing, "driving_shift", 0.2),
        (functools.partial(video_framing, source=True), "portrait_scale", 1.0),
    ],
)  # fmt: skip
def test_live_portraits_settings_change_its_square_and_are_refused_by_other_codecs(framed, setting, value):
    """A turned face of drawn landmarks, told from the square that the setting gives."""
    turned, face = drawn_points(200) @ TURN, FaceBox(60, 50, 80, "frontal")

    class Found(Landmarks):
        def __call__(self, picture, previous=None):
            return FaceLandmarks(turned, 1.0)

    def square(how):
        framing = framed(LIVE_PORTRAIT, Found("graphs"), how)
        if isinstance(framing, PortraitFraming):
            return framing(PICTURE, "me.png")
        framing.look(PICTURE)
        return framing.square(face)

    how = Driving(**{setting: value})
    assert square(how) != square(Driving())
    assert framed(CORPUS, NO_LANDMARKS, Driving()) is None
    with pytest.raises(InputError, match=rf"^config\.{setting}: is of LivePortrait's square.*; leave it out"):
        framed(CORPUS, NO_LANDMARKS, how)


def test_openness_is_measured_in_the_codecs_square(files, monkeypatch):
    """Where it is asked, also of a codec that landmarks do not frame, and where a crop is given."""
    looked = []

    def found(self, image, previous=None):
        looked.append(image.shape)
        return FaceLandmarks(drawn_points(len(image)), 1.0)

    monkeypatch.setattr(generators.framed_portrait.__globals__["Landmarks"], "__call__", found)
    animator = PortraitAnimator.from_checkpoint(files / "trained here", mark=False)
    for crop, how in (("", Driving(lip_openness=0.1)), ("20,0,180", Driving(close_lips=True))):
        how = dataclasses.replace(how, face_models="graphs")
        portrait, told = generators.framed_portrait(animator, files / "me.png", crop, "", VASAConfig().limits, how)
        assert isinstance(portrait.crop, Crop) and looked.pop() == (SIDE, SIDE, 3)
        assert len(told.portrait_openness) == 3
    plain = Driving(face_models="graphs")
    assert generators.framed_portrait(animator, files / "me.png", "", "", VASAConfig().limits, plain)[1] is plain
    assert not looked
