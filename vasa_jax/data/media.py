"""Pictures, sound and video in and out. Only this module and its three parts open media files.

| function | gives |
|---|---|
| `read_image` | a picture as uint8 RGB, upright |
| `read_audio` | speech as 16 kHz mono, with a handle on the original sound |
| `read_video` | frames and their rate |
| `write_video`, `VideoWriter` | an MP4 (H.264 + AAC), complete or absent |

Bad files raise `vasa_jax.errors.InputError`, one line: file, fault, remedy.
"""

from vasa_jax.data.audio_files import FRAME_SAMPLES, SAMPLE_RATE, Audio, read_audio
from vasa_jax.data.image_files import read_image
from vasa_jax.data.video_files import AI_COMMENT, FPS, Video, VideoWriter, read_video, write_video

__all__ = [
    "AI_COMMENT",
    "FPS",
    "FRAME_SAMPLES",
    "SAMPLE_RATE",
    "Audio",
    "Video",
    "VideoWriter",
    "read_audio",
    "read_image",
    "read_video",
    "write_video",
]
