"""A portrait moved by a driving video: motion in, motion chosen, a video out."""

import contextlib
import dataclasses
import itertools
from pathlib import Path

import numpy as np

from vasa_jax.conventions import POSE_DIM
from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.face_crop import crop_square
from vasa_jax.data.image_files import existing_file, parse_colour
from vasa_jax.data.subtitles import Cue, read_subtitles
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import Avatar, PortraitAnimator
from vasa_jax.generation.composition import Composition, Form
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import SUFFIXES, DrivingMotion, read_motion
from vasa_jax.generation.driving_video import DrivingVideo, has_sound, open_driving
from vasa_jax.generation.framing import Landmarks, OpennessReader, portrait_framing, video_framing
from vasa_jax.generation.keypoint_driving import Retargeting, driven_keypoint_motion, dubbed_keypoint_motion
from vasa_jax.generation.landmark_crop import openness_of
from vasa_jax.generation.portraits import Portrait, read_portrait
from vasa_jax.generation.pose_refinement import MotionReader
from vasa_jax.generation.reenact import driven_motion
from vasa_jax.generation.talking_head import Stage, TalkingHead
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.generation.watch import Watch, unwatched
from vasa_jax.generation.watermark import Payload
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits
from vasa_jax.models.keypoints import pose_from_raw

_AT_ONCE = 4  # batches of driving frames that are held; one where they are watched
_FOLLOWING = ("retarget_eyes", "retarget_lips")


def motion_of(
    animator: PortraitAnimator, video: str | Path, how: Driving | None = None, limits: InputLimits = DEFAULT_LIMITS,
    watch: Watch = unwatched, landmarks: Landmarks | None = None,
) -> DrivingMotion:  # fmt: skip
    """Returns the motion that a video, a picture, or a file of saved motion shows, as the animator's codec reads it.

    how: its frame rate and crop; where it asks that eyes or lips follow, they are measured. watch: sees frames pass,
    when they are looked through and when they are read; what it raises ends that. landmarks: default: those of `how`.
    InputError for a bad file, see `open_driving` and `read_motion`, and for saved motion that another codec has read.
    """
    how = how or Driving()
    landmarks = Landmarks(how.face_models) if landmarks is None else landmarks
    if Path(video).suffix.lower() in SUFFIXES:
        motion = read_motion(video)
        if fault := motion.unfit(animator):
            raise InputError(f"{video}: {fault}; give the video, or a fitting config.checkpoint")
        return motion.at_rate(how.fps or motion.fps)
    framing = video_framing(animator.framing, landmarks, how)
    driver = existing_file(video, "video")
    opened = open_driving(driver, how.fps, how.driving_crop, limits, framing=framing, watch=watch)
    if animator.codec == "volume":
        return _read(animator, opened, how.align, watch=watch)
    measured = landmarks and (how.retarget_eyes or how.retarget_lips)
    return _read(animator, opened, 0, OpennessReader(landmarks) if measured else None, watch)


def drive(animator: PortraitAnimator, avatar: Avatar, driving: DrivingMotion, how: Driving) -> np.ndarray:
    """Returns the motion of an avatar, for `render`, that a driving motion gives it; InputError for what cannot be."""
    if animator.codec == "volume":
        return driven_motion(avatar.motion, driving, how)
    networks, openness = retargeting_of(animator, how, driving)
    canonical = np.asarray(avatar.latents.identity[0], np.float64)
    return driven_keypoint_motion(canonical, avatar.motion, driving, how, networks, openness)


def retargeting_of(
    animator: PortraitAnimator, how: Driving, driving: DrivingMotion | None = None, source: np.ndarray | None = None
) -> tuple[Retargeting | None, np.ndarray | None]:
    """Returns a keypoint codec's small networks, and how open the portrait's eyes and lips are, (3,) or (T, 3).

    driving: None where no face drives; source: what was measured of a source video's frames. InputError where `how`
    asks for what needs them and they are not there.
    """
    follow, wanted = [name for name in _FOLLOWING if getattr(how, name)], _asked_of_networks(how)
    openness = source if how.portrait_openness is None else np.array(how.portrait_openness)
    if wanted and openness is None:
        raise InputError(
            f"config.{wanted[0]}: needs to know how open the portrait's eyes and lips are; give "
            "--config.portrait_openness=left,right,lips (height over width), or --config.face_models"
        )
    if wanted and not animator.adjusts_keypoints:
        raise InputError(f"config.{wanted[0]}: this checkpoint has no networks for retargeting; leave it out")
    if follow and (driving is None or driving.openness is None):
        raise InputError(
            f"config.{follow[0]}: how open the driving face's eyes and lips are is not known; give a video and "
            "--config.face_models, or a template of LivePortrait"
        )
    networks = None
    if animator.adjusts_keypoints:
        networks = Retargeting(
            *(lambda *inputs, name=name: animator.adjust(name, *inputs)
              for name in ("stitch", "retarget_lips", "retarget_eyes"))
        )  # fmt: skip
    return networks, openness


def _asked_of_networks(how: Driving) -> list[str]:
    """Returns the settings for which a portrait's openness has to be known, the driver's first."""
    asked = [name for name in _FOLLOWING if getattr(how, name)]
    asked += [name for name in ("eye_openness", "lip_openness") if getattr(how, name) is not None]
    return asked + [name for name in ("close_lips", "steady_eyes") if getattr(how, name)]


def framed_portrait(
    animator: PortraitAnimator, image: str | Path, crop: str, background: str, limits: InputLimits, how: Driving,
    landmarks: Landmarks | None = None,
) -> tuple[Portrait, Driving]:  # fmt: skip
    """Reads a portrait, see `read_portrait`, in a square that holds the face as those of the codec's training did.

    The second result tells, by landmarks, how open its eyes and lips are, where they frame it, and where that is asked.
    landmarks: default: those of `how`. InputError where `how` frames it as another codec's.
    """
    landmarks = Landmarks(how.face_models) if landmarks is None else landmarks
    framing = portrait_framing(animator.framing, landmarks, how)
    colour = parse_colour(background, "background")
    portrait = read_portrait(image, animator.image_size, crop, colour, limits, framing)
    if how.portrait_openness is not None:
        return portrait, how
    openness = framing.openness if framing else None
    if openness is None and landmarks and animator.adjusts_keypoints and _asked_of_networks(how):
        found = landmarks(portrait.pixels)
        if found is None:
            raise InputError(
                f"{image}: no face landmarks in its square; give --config.portrait_openness=left,right,lips"
            )
        openness = openness_of(found.points)
    return portrait, how if openness is None else dataclasses.replace(how, portrait_openness=tuple(openness))


def reenact(
    animator: PortraitAnimator,
    image: str | Path,
    video: str | Path,
    how: Driving | None = None,
    *,
    form: VideoForm | None = None,
    audio: str | Path | Audio | None = None,
    crop: str = "",
    background: str = "",
    paste: bool = False,
    limits: InputLimits = DEFAULT_LIMITS,
    stage: Stage = contextlib.nullcontext,
    payload: Payload | None = None,
    watch: Watch = unwatched,
) -> tuple[TalkingHead, DrivingMotion]:
    """Makes a video in which a portrait moves as a driving face does; also returns what was read of that.

    Args:
      image: the portrait, see `read_portrait` for it, `crop` and `background`.
      video: a video, a picture, or saved motion.
      form: how it is shown; no idle loop.
      audio: the sound; by default that of the driving video, if it has one.
      paste: whether frames are the whole picture (see paste.py), not the square.
      stage: `stage(name)` surrounds each stage: read, driving, portrait, motion.
      payload: of the mark; by default a random one.
      watch: sees the frames of the driving video pass, and of a source video, see `motion_of`.

    With `how.dub` the image is a video, and the result that video, whole, in which the face moves otherwise.

    Raises InputError for bad files and settings, and for what the codec cannot do.
    """
    how, form = (how or Driving()).validate("config"), (form or VideoForm()).validate("config")
    if form.idle:
        raise InputError("config.idle: a loop has no driving video; leave it out, or use configs/generate.py")
    landmarks = Landmarks(how.face_models)
    if how.dub:
        return _dubbed(animator, image, video, how, form, audio, crop, limits, stage, payload, watch, landmarks)
    with stage("read"):
        read = Form.read(form, paste, limits)
        portrait, how = framed_portrait(animator, image, crop, background, limits, how, landmarks)
        sound, notes = _sound(audio, video, limits)
        subtitles = _subtitles(form, sound)
    with stage("driving"):
        driving = motion_of(animator, video, how, limits, watch, landmarks)
    with stage("portrait"):
        avatar = animator.prepare(portrait.pixels, payload)
        composition = Composition(animator, avatar, portrait, read, paste)
    with stage("motion"):
        motion = drive(animator, avatar, driving, how)

    sources = (image, video, *([sound.original] if sound and isinstance(sound.original, Path) else []))
    head = TalkingHead(
        avatar, motion, sound, (*portrait.notes, *driving.notes, *notes), portrait.crop, sources, composition.size,
        animator.model, lambda: composition.frames(motion), driving.fps, "photograph" if paste else "",
        composition.transparent, subtitles,
    )  # fmt: skip
    return head, driving


def _dubbed(
    animator: PortraitAnimator, image: str | Path, video: str | Path, how: Driving, form: VideoForm, audio, crop: str,
    limits: InputLimits, stage: Stage, payload: Payload | None, watch: Watch, landmarks: Landmarks,
) -> tuple[TalkingHead, DrivingMotion]:  # fmt: skip
    """Does what `reenact` does with a source video; as long as the shorter of the two."""
    for name in ("shape", "backdrop"):
        if getattr(form, name):
            raise InputError(f"config.{name}: a dubbed video stays as it is but for the face; leave it out")
    with stage("read"):
        sound, notes = _sound(audio, video, limits)
        subtitles = _subtitles(form, sound)
        framing = video_framing(animator.framing, landmarks, how, source=True)
        source = open_driving(existing_file(image, "video"), how.fps, crop, limits, "crop", framing, watch)
        if source.still:
            raise InputError(f"{image}: is one picture; config.dub needs a source video, leave it out")
        first = next(source.pictures())
    with stage("driving"):
        driving = motion_of(animator, video, dataclasses.replace(how, fps=source.fps), limits, watch, landmarks)
    with stage("portrait"):
        own, canonical, openness = _source_motion(animator, source, landmarks, watch)
        avatar = animator.prepare(crop_square(first, source.crop, animator.image_size)[0], payload)
        whole = animator.paste(Portrait(avatar.portrait, (), source.crop, first), avatar)
    with stage("motion"):
        count = min(len(own), len(driving))
        part = driving.shortened(count)
        if canonical is None:
            motion = driven_motion(own[:count], part, how)
        else:
            openness = None if openness is None else openness[:count]
            adjusting = retargeting_of(animator, how, part, openness)
            motion = dubbed_keypoint_motion(canonical[:count], own[:count], part, how, *adjusting)

    def frames():
        for picture, vector in zip(source.pictures(), motion):
            yield animator.moved_picture(picture, source.crop, vector, avatar.payload, whole.mark)

    head = TalkingHead(
        avatar, motion, sound, (*source.notes, *driving.notes, *notes), source.crop, (image, video), whole.size,
        animator.model, frames, source.fps, "video", subtitles=subtitles,
    )  # fmt: skip
    return head, driving


def _read(
    animator: PortraitAnimator, video: DrivingVideo, passes: int, openness: OpennessReader | None = None,
    watch: Watch = unwatched,
) -> DrivingMotion:  # fmt: skip
    """passes: as `MotionReader` has it; openness: measures how open eyes and lips of every frame are."""
    reader = MotionReader(animator, passes)
    frames, read, measured = watch(video.frames(animator.image_size), video.count), [], []
    batches = _AT_ONCE if watch is unwatched else 1
    while part := list(itertools.islice(frames, batches * animator.decode_batch)):
        read.append(reader(np.stack(part)))
        measured += [openness(frame, str(video.path)) for frame in part] if openness else []
    motion = np.concatenate(read)
    return DrivingMotion(
        motion[:, :POSE_DIM], motion[:, POSE_DIM:], video.fps, animator.codec,
        animator.model if animator.codec == "volume" else "", video.notes,
        openness=np.array(measured, np.float32) if openness else None,
    )  # fmt: skip


def _source_motion(
    animator: PortraitAnimator, source: DrivingVideo, landmarks: Landmarks, watch: Watch
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Returns the motion (T, 9 + Z) of a source video, and a keypoint codec's canonical keypoints of every frame.

    The third is how open eyes and lips of every frame are, (T, 3), where landmarks tell.
    """
    if animator.codec == "volume":
        return _read(animator, source, 0, watch=watch).vectors, None, None  # as each frame is read when it is drawn
    vectors, keypoints, measured = [], [], []
    reader = OpennessReader(landmarks) if landmarks else None
    for frame in watch(source.frames(animator.image_size), source.count):
        measured += [reader(frame, str(source.path))] if reader else []
        raw = animator.read(frame)
        vectors.append(np.concatenate([np.asarray(pose_from_raw(raw, animator.angles))[0], raw.expression.ravel()]))
        keypoints.append(raw.keypoints[0])
    return np.stack(vectors), np.stack(keypoints), np.array(measured) if reader else None


def _sound(audio: str | Path | Audio | None, video: str | Path, limits: InputLimits):
    """Returns the sound and notes about it; None where there is none."""
    if isinstance(audio, Audio):
        return audio, audio.notes
    if audio:
        sound = read_audio(audio, limits)
        return sound, sound.notes
    if not has_sound(video):
        return None, ()
    try:
        sound = read_audio(video, limits)
    except InputError as error:
        return None, (f"the video is silent: {error}",)
    return sound, sound.notes


def _subtitles(form: VideoForm, sound: Audio | None) -> tuple[Cue, ...]:
    return read_subtitles(form.subtitles, sound.samples if sound else None) if form.subtitles else ()
