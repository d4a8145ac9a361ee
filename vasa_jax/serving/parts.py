"""Parts that several requests have: each says once what it is, and how long it may be."""

from typing import Annotated

from fastapi import File, Form, UploadFile

from vasa_jax.serving.answers import CONTROLS_HELP
from vasa_jax.serving.forms import FORM_HELP

Backdrop = Annotated[UploadFile | None, File(description="a picture behind the head")]
Background = Annotated[str, Form(description="colour behind a cut-out", max_length=60)]
ControlsText = Annotated[str, Form(description=CONTROLS_HELP)]
Crop = Annotated[str, Form(description="x,y,size in pixels, or center; empty = find the face", max_length=60)]
FormText = Annotated[str, Form(description=FORM_HELP)]
Subtitles = Annotated[
    UploadFile | None,
    File(description="a track of text: SubRip, WebVTT, or plain text that is spread over the speech"),
]
