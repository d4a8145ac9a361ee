"""What a person can ask when a video moves a portrait: the settings of reenactment."""

from vasa_jax.errors import InputError
from vasa_jax.settings import Settings, choice, flag, number, section, text

KEYPOINT_REGIONS = ("lip", "eyes")  # which the dynamics of a volume codec cannot tell apart
REGIONS = ("all", "pose", "expression", *KEYPOINT_REGIONS)
MODES = ("relative", "absolute")
RESTS = ("first", "nearest")


@section
class Driving(Settings):
    """How the motion of a driving video becomes that of a portrait (LivePortrait, section 3.3, and its program)."""

    region: str = choice("all", REGIONS, "of the driving motion that the portrait takes")
    mode: str = choice(
        "relative", MODES, "relative: changes since the first driving frame, added to the portrait's own pose and face"
    )
    driving_multiplier: float = number(1.0, 0, 5, "", "scale of the motion about the portrait's own")
    expression_multiplier: float = number(1.0, 0, 5, "", "scale of the face's motion alone, before driving_multiplier")
    driving_rest: str = choice(
        "auto", ("auto", *RESTS), "relative: the driving frame from which the face's changes count: the first, or that "
        "whose face is nearest to the portrait's; auto = first with keypoint codecs, as LivePortrait has it",
    )  # fmt: skip
    driving_smoothing: float | None = number(
        None, 0, 1000, "", "variance of the readings' noise over that of a frame's motion; 0 = none",
        unset="of the pose alone, as it shows it itself, with keypoint codecs none",
    )  # fmt: skip
    align: int = number(
        1, 0, 8, "passes", "volume codecs: how often the driving heads are drawn and laid on the true ones, which "
        "reads their pose finer; 0 = the encoder alone",
    )  # fmt: skip
    dub: bool = flag(False, "the image is a video, which stays as it is but for the face")
    driving_crop: str = text("", "of the driving video: x,y,size in pixels, or center; empty = find the face")
    expression_friendly: bool = flag(True, "keypoint codecs, relative: motion is scaled by the faces' sizes")
    stitching: bool = flag(True, "keypoint codecs: shoulders stay where they are")
    close_lips: bool = flag(False, "keypoint codecs, relative: a mouth that is open in the portrait is closed first")
    eye_openness: float | None = number(
        None, 0, 0.8, "height over width", "keypoint codecs: every frame's eyes; the driving face's are dropped"
    )
    lip_openness: float | None = number(
        None, 0, 0.8, "height over width", "keypoint codecs: every frame's lips; the driving face's are dropped"
    )
    retarget_eyes: bool = flag(
        False, "keypoint codecs: every frame's eyes are as open as the driving face's; relative: its other motion is "
        "dropped, as LivePortrait has it",
    )  # fmt: skip
    retarget_lips: bool = flag(False, "keypoint codecs: the same of the lips")
    steady_eyes: bool = flag(
        False, "keypoint codecs, dub: the source video's eyes are as open as in its first frame, wide open where they "
        "are closed there, before they are driven; not where eyes or lips are retargeted",
    )  # fmt: skip
    portrait_openness: tuple[float, float, float] | None = number(
        None, 0, 0.8, "height over width", "keypoint codecs: of the portrait; left, right eye, lips", unset="measured"
    )
    face_models: str = text(
        "", "keypoint codecs: folder of the litert analyzer's graph files, whose landmarks tell how open eyes and lips "
        "are, and frame pictures for LivePortrait's codec",
    )  # fmt: skip
    portrait_scale: float = number(
        2.3, 1, 10, "", "LivePortrait's codec: side of the portrait's square over the face's extent"
    )
    portrait_shift: float = number(
        -0.125, -1, 1, "", "LivePortrait's codec: of that square down the face, over its side; negative shows more hair"
    )
    portrait_turn: bool = flag(True, "LivePortrait's codec, landmarks: the portrait's square stands as the face does")
    driving_scale: float = number(2.2, 1, 10, "", "portrait_scale of a driving video's square, which never turns")
    driving_shift: float = number(-0.1, -1, 1, "", "portrait_shift of that")
    fps: float = number(25.0, 0, 120, "frames a second", "of the video that is written; 0 = of the driving video")

    def check_together(self, path: str) -> None:
        """Raises InputError where eyes or lips are asked to be open in two ways, or those of no source video."""
        for part, fixed in (("eyes", self.eye_openness), ("lips", self.lip_openness)):
            if getattr(self, f"retarget_{part}") and fixed is not None:
                raise InputError(
                    f"{path}.retarget_{part}: not together with {path}.{part[:-1]}_openness; leave one of them out"
                )
        if self.steady_eyes and not self.dub:
            raise InputError(f"{path}.steady_eyes: is of a source video; set {path}.dub=True with one, or leave it out")
