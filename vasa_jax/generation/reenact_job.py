"""The `reenact` job: a portrait and a driving video in, a video and a summary out."""

import sys
from pathlib import Path

from vasa_jax.config import VASAConfig
from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.image_files import existing_file, parse_colour
from vasa_jax.data.output_files import video_output
from vasa_jax.errors import InputError, one_line, say
from vasa_jax.generation.composition import Form
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import motion_file, save_motion
from vasa_jax.generation.job import DEMO, Stopwatch, asked_payload, progress, summary
from vasa_jax.generation.provenance import Signer, point_to_responsible_use
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.settings import part_of
from vasa_jax.stopping import ended_by_sigterm

_EXAMPLES = {"image": "me.jpg", "video": "driving.mp4", "output": "moved.mp4"}


def reenact(config: VASAConfig, workdir: str | Path = "") -> Path:
    """Writes `config.output`, prints a summary and returns the path; InputError for a bad or missing input.

    workdir: not used.
    """
    point_to_responsible_use()
    with ended_by_sigterm():
        return _reenact(config)


def _reenact(config: VASAConfig) -> Path:
    for name, example in _EXAMPLES.items():
        if not getattr(config, name):
            raise InputError(f"config.{name}: not set; give a file, e.g. --config.{name}={example}")
    image = DEMO["image"] if config.image == "demo" else config.image
    # Bad files are found before the networks are loaded.
    existing_file(image, "picture")
    existing_file(config.video, "video")
    form = part_of(VideoForm, config)
    given = (image, config.video, config.audio, config.subtitles, config.backdrop)
    transparent = Form.read(form, config.paste, config.limits).backdrop.transparent
    inputs = [name for name in given if name]
    output = video_output(config.output, inputs, transparent)
    motion_output = motion_file(config.motion_output, inputs) if config.motion_output else None
    parse_colour(config.background)
    how = part_of(Driving, config)
    signer = Signer.from_files(config.sign_certificate, config.sign_key) if config.sign_certificate else None
    stage = Stopwatch()
    with stage("read"):
        audio = read_audio(config.audio, config.limits) if config.audio else None
    with stage("load"):
        from vasa_jax.generation import reenactment
        from vasa_jax.generation.animator import PortraitAnimator

        animator = PortraitAnimator.from_checkpoint(
            config.checkpoint, config.decode_batch, mark=config.mark, size=config.size
        )
    video, driving = reenactment.reenact(
        animator, image, config.video, how, form=form, audio=audio, crop=config.crop, background=config.background,
        paste=config.paste, limits=config.limits, stage=stage,
        payload=asked_payload(config),
    )  # fmt: skip
    for note in video.notes:
        say(f"note: {one_line(note)}", sys.stderr)
    if motion_output:
        save_motion(motion_output, driving)
    with progress(len(video.motion)) as counted:
        path = video.save(output, stage=stage, progress=counted, signer=signer)
    mark = f"mark {video.avatar.payload}" if config.mark else "NOT marked: config.mark=False"
    say(summary(path, len(video.motion), video.size, mark, stage.seconds, video.fps))
    say(f"  crop      --config.crop={video.crop}")
    return path
