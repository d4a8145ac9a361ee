"""What the HTTP API says, as its OpenAPI document shows it."""

from collections.abc import Iterable
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field

from vasa_jax.errors import one_line
from vasa_jax.generation.controls import Controls
from vasa_jax.serving.store import Job
from vasa_jax.serving.worker import Progress
from vasa_jax.settings import Settings, described, fields_of


class Fault(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="the file or field, the fault, and the remedy, in one line")


def described_fault(error: RequestValidationError) -> str:
    """Returns one line about the first field of a request that has another form than the API's."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:])) or "request"
    return one_line(f"{where}: {first['msg'].lower()}; /v1/openapi.json tells the form of every request")


class VideoResult(BaseModel):
    """A finished video."""

    frames: int
    seconds: float
    fps: float
    width: int = Field(description="pixels")
    height: int
    bytes: int
    crop: str = Field(description="the square of the portrait that is seen: x,y,size in its pixels")
    mark: str | None = Field(description="what the invisible mark in its frames says; null: it has none")
    subtitles: bool = Field(description="whether it has a track of text")
    notes: list[str]
    took: float = Field(description="seconds that it took to make")


class VideoJob(BaseModel):
    """A job and how far it is."""

    id: str
    state: str = Field(description="waiting, running, done or failed")
    made: float = Field(description="seconds since 1970")
    ahead: int = Field(description="jobs that have their turn before this one")
    stage: str = Field(description="what a running job does")
    done: int = Field(description="frames made, or parts of another stage")
    total: int = Field(description="of these in all; 0: not known yet")
    left: float | None = Field(description="seconds until it is done, about; null: not known yet")
    error: str | None = Field(description="why it failed")
    result: VideoResult | None
    job: str = Field(description="generate or reenact: the name of the command line's configuration")
    settings: dict[str, Any] = Field(
        description="as the command line takes them: of generate a line of --config.jobs=FILE.jsonl"
    )

    @classmethod
    def of(cls, job: Job, progress: Progress | None, ahead: int) -> "VideoJob":
        """Returns what is told of a job."""
        asked, form = job.settings, dict(job.settings.get("form", {}))
        settings = {"image": asked["image"], "output": f"video.{form.pop('format', 'mp4')}"}
        settings |= {name: asked[name] for name in ("audio", "video", "crop", "background") if asked.get(name)}
        files = {"subtitles": "subtitles_name", "backdrop": "backdrop_name"}
        settings |= form | {name: asked[file] for name, file in files.items() if asked.get(file)}
        settings |= asked.get("controls", {}) | asked.get("motion", {})
        progress = progress or Progress("")
        return cls(
            id=job.id, state=job.state, made=job.made, ahead=ahead, stage=progress.stage, done=progress.done,
            total=progress.total, left=progress.left, error=job.error, result=job.result,
            job=asked.get("job", "generate"), settings=settings,
        )  # fmt: skip


class Control(BaseModel):
    """A control: a field of a section of settings, as the command line declares it."""

    name: str
    kind: str = Field(description="int, float, str or bool")
    count: int = Field(description="numbers that it has")
    default: Any
    low: float | None
    high: float | None
    choices: list[str] | None
    unit: str
    help: str
    unset: str = Field(description="what null means, where that needs to be told: another thing than the default")


class About(BaseModel):
    """This server: what it takes and how it is doing."""

    version: str
    size: int = Field(description="pixels per side of a video")
    upload: float = Field(description="MiB, of one request")
    seconds: float = Field(description="of sound in one file")
    steps: int = Field(description="the most that may be asked for")
    live_sessions: int
    controls: list[Control]
    motion: list[Control] = Field(description="what may be asked of a driving video")
    form: list[Control] = Field(description="what may be asked of a video's form")
    emotions: list[str]
    voices: list[str] = Field(description="in which texts can be spoken")
    webrtc: bool = Field(description="whether live avatars can be played over WebRTC")


def controls_told(cls: type[Settings], names: Iterable[str], most_steps: int = 0) -> list[Control]:
    """Returns the named fields of a section, steps up to `most_steps`."""
    return [
        Control(
            name=item.name,
            kind=item.kind.__name__,
            count=item.length or 1,
            default=item.default,
            low=item.low,
            high=min(item.high, most_steps) if item.name == "steps" else item.high,
            choices=None if item.choices is None else list(item.choices),
            unit=item.unit,
            help=item.help,
            unset=item.unset,
        )
        for item in (fields_of(cls)[name] for name in names)
    ]


CONTROLS_HELP = "JSON object of controls, as a control track of the command line: " + "; ".join(described(Controls))
