"""How much one picture, sound or video file may ask of this machine."""

from vasa_jax.settings import Settings, number, section


@section
class InputLimits(Settings):
    """What a media file may hold at most: a small file can ask for hours of sound or gigabytes of pixels."""

    hours: float = number(4.0, 0.001, 1000, "hours", "of sound or video in one file; an hour of speech takes 0.25 GB")
    streams: int = number(32, 1, 1000, "", "tracks in one sound or video file")
    megapixels: float = number(120.0, 0.01, 178, "million pixels", "of a picture, or of a frame of a video")
    memory: float = number(1.25, 0.01, 1000, "GiB", "that reading one picture, or one frame of a video, may take")


DEFAULT_LIMITS = InputLimits()
