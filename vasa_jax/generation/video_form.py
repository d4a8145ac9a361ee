"""What a video is made for: the settings of its frame, its background, its length and its text."""

from vasa_jax.settings import Settings, number, section, text


@section
class VideoForm(Settings):
    """How a talking head is shown."""

    shape: str = text("", "of the frame: square, portrait (9:16), landscape (16:9) or W:H; empty = as it is made")
    backdrop: str = text(
        "", "behind the head: transparent, blur, green (#00b140), a colour, #rrggbb or a picture; empty = its own"
    )
    idle: float = number(0.0, 0, 60, "seconds", "of a silent loop without a seam, in the place of speech; 0 = none")
    subtitles: str = text("", "track of text: .srt, .vtt, or .txt, whose sentences are spread over the speech")
