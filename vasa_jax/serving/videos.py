"""/v1/videos and /v1/reenactments: portrait and sound, or a driving video, in; a job, its events, a video out."""

import asyncio
import contextlib
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, UploadFile
from fastapi.responses import FileResponse, StreamingResponse

from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.encodings import mime_of
from vasa_jax.data.image_files import parse_colour
from vasa_jax.data.subtitles import read_subtitles
from vasa_jax.errors import InputError, one_line
from vasa_jax.files import parse_json
from vasa_jax.generation.composition import Form as Composed
from vasa_jax.generation.composition import check_sound
from vasa_jax.generation.control_track import checked_controls
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving_video import check_driving
from vasa_jax.serving.answers import Fault, VideoJob
from vasa_jax.serving.forms import (
    DRIVING_HELP,
    AskedDriving,
    checked,
    checked_form,
    given,
    subtitles_name,
)
from vasa_jax.serving.parts import Backdrop, Background, ControlsText, Crop, FormText, Subtitles
from vasa_jax.serving.store import DONE, FINAL, ID, WAITING, Job
from vasa_jax.serving.studio import Studio
from vasa_jax.serving.worker import (
    BACKDROP,
    CUES,
    DRIVING,
    PORTRAIT,
    SOUND,
    asked_form,
    result_name,
    without_folder,
)

LOOK = 0.25  # seconds between looks at a job whose events are read
REST = 15.0  # seconds after which a stream of events shows that it lives
FAULTS: dict[int | str, dict[str, Any]] = {
    code: {"model": Fault} for code in (401, 403, 404, 408, 409, 413, 422, 429, 503)
}  # fmt: skip


def videos_router(studio: Studio) -> APIRouter:
    """Returns the routes of videos."""
    router = APIRouter(prefix="/v1", tags=["videos"])
    limits = studio.config.limits
    reading = threading.Lock()  # one upload is decoded at a time: memory is bounded by config.limits

    def known(job: str) -> Job:
        found = studio.store.get(job) if ID.fullmatch(job) else None
        if found is None:
            raise HTTPException(404, "no such video; it may have been removed")
        return found

    def told(job: Job) -> VideoJob:
        ahead = studio.store.ahead(job) if job.state == WAITING else 0
        return VideoJob.of(job, studio.worker.progress(job.id), ahead)

    @contextlib.contextmanager
    def new_job() -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yields the folder and the settings of a job, which is put into the queue when the block has filled them."""
        if studio.closing.is_set():
            raise HTTPException(503, "the server ends; ask again in a minute", {"Retry-After": "60"})
        with studio.store.new_folder() as folder, refusals(folder):
            settings: dict[str, Any] = {}
            yield folder, settings
            job = studio.store.add(folder.name, settings, studio.config.studio.waiting)
            if job is None:
                raise HTTPException(429, "the queue is full; ask again in a minute", {"Retry-After": "60"})
        studio.worker.wake()

    def read_form(folder: Path, text: str, backdrop: UploadFile | None, subtitles: UploadFile | None) -> dict[str, Any]:
        """Keeps what belongs to a video's form and returns its settings; the form itself is checked where it is."""
        form, settings = checked_form(text, backdrop is not None), {}
        if subtitles:
            name = subtitles_name(subtitles.file)
            save_upload(subtitles, folder / name)
            settings |= {"subtitles": name, "subtitles_name": _shown(subtitles.filename, name)}
        if backdrop:
            save_upload(backdrop, folder / BACKDROP)
            settings["backdrop_name"] = _shown(backdrop.filename, "backdrop.png")
        with reading:
            Composed.read(asked_form(settings | {"form": given(form)}, folder)[1], form.paste, limits, "form")
        return {"form": given(form), **settings}

    @router.post("/videos", status_code=201, responses=faults(413, 422, 429))
    def make_video(
        portrait: Annotated[UploadFile, File(description="a picture, or a video whose best early frame is taken")],
        sound: Annotated[UploadFile | None, File(description="speech: a sound file, or a video with sound")] = None,
        controls: ControlsText = "{}",
        crop: Crop = "",
        background: Background = "",
        form: FormText = "{}",
        backdrop: Backdrop = None,
        subtitles: Subtitles = None,
    ) -> VideoJob:
        """Puts a video into the queue. Files are known by their content, not by their names."""
        with new_job() as (folder, settings):
            asked = checked_controls(parse_json(controls, "controls", "give a JSON object"), "controls")
            if Controls(**asked).steps > (most := studio.config.studio.steps):
                raise InputError(f"controls.steps: more than this server makes; choose 1 to {most}")
            parse_colour(background, "background")
            shown = read_form(folder, form, backdrop, subtitles)
            check_sound(asked_form(shown, folder)[1], sound, "form")
            save_upload(portrait, folder / PORTRAIT)
            samples = None
            if sound:
                save_upload(sound, folder / SOUND)
            with reading:
                if sound:
                    samples = read_audio(folder / SOUND, limits).samples
                if "subtitles" in shown:
                    read_subtitles(folder / shown["subtitles"], samples)
                studio.portrait(folder / PORTRAIT, crop, background)
            settings |= {
                "job": "generate", "image": _shown(portrait.filename, "portrait"),
                "audio": _shown(sound.filename, "sound") if sound else "", "crop": crop, "background": background,
                "controls": asked, **shown,
            }  # fmt: skip
        return told(known(folder.name))

    @router.post("/reenactments", status_code=201, responses=faults(413, 422, 429))
    def make_reenactment(
        portrait: Annotated[UploadFile, File(description="a picture, or a video; with dub the video to be changed")],
        driving: Annotated[UploadFile, File(description="a video whose face moves the portrait's, or a picture")],
        sound: Annotated[UploadFile | None, File(description="another sound than the driving video's")] = None,
        motion: Annotated[str, Form(description=DRIVING_HELP)] = "{}",
        crop: Crop = "",
        background: Background = "",
        form: FormText = "{}",
        backdrop: Backdrop = None,
        subtitles: Subtitles = None,
    ) -> VideoJob:
        """Puts a video into the queue in which the portrait moves as a driving face does; a job as of /v1/videos."""
        with new_job() as (folder, settings):
            how = checked(AskedDriving, motion, "motion")
            parse_colour(background, "background")
            shown = read_form(folder, form, backdrop, subtitles)
            if "idle" in shown["form"]:
                raise InputError("form.idle: a loop has no driving video; leave it out, or post to /v1/videos")
            for upload, name in ((portrait, PORTRAIT), (driving, DRIVING), *([(sound, SOUND)] if sound else [])):
                save_upload(upload, folder / name)
            with reading:
                samples = read_audio(folder / SOUND, limits).samples if sound else None
                if "subtitles" in shown and not shown["subtitles"].endswith(".txt"):  # else with the driving sound
                    read_subtitles(folder / shown["subtitles"], samples)
                check_driving(folder / DRIVING, how.driving_crop, limits)
                studio.portrait(folder / PORTRAIT, crop, background)
            settings |= {
                "job": "reenact", "image": _shown(portrait.filename, "portrait"),
                "video": _shown(driving.filename, "driving.mp4"),
                "audio": _shown(sound.filename, "sound") if sound else "", "crop": crop, "background": background,
                "motion": given(how), **shown,
            }  # fmt: skip
        return told(known(folder.name))

    @router.get("/videos/{job}", responses=faults(404))
    def get_video(job: str) -> VideoJob:
        """Tells how far a job is."""
        return told(known(job))

    @router.delete("/videos/{job}", status_code=204, responses=faults(404))
    def delete_video(job: str) -> None:
        """Cancels a job, or removes a finished one, with all its files."""
        studio.worker.remove(known(job))

    def finished(job: str) -> Job:
        found = known(job)
        if found.state != DONE:
            raise HTTPException(409, f"the video is not there: its job is {found.state}; read its events")
        return found

    @router.get("/videos/{job}/result", response_class=FileResponse, responses=faults(404, 409))
    def get_result(job: str) -> FileResponse:
        """Gives the finished file; parts of it on request, as players ask for them."""
        settings = finished(job).settings
        path = studio.store.folder(job) / result_name(settings)
        return FileResponse(
            path, media_type=mime_of(path), filename=f"video{path.suffix}", content_disposition_type="inline"
        )

    @router.get("/videos/{job}/subtitles", response_class=FileResponse, responses=faults(404, 409))
    def get_subtitles(job: str) -> FileResponse:
        """Gives the subtitles of a finished video as WebVTT: browsers do not show those within an MP4."""
        if not (finished(job).result or {}).get("subtitles"):
            raise HTTPException(404, "this video has no subtitles")
        return FileResponse(studio.store.folder(job) / CUES, media_type="text/vtt; charset=utf-8")

    @router.get("/videos/{job}/events", response_class=StreamingResponse, responses=faults(404))
    def get_events(job: str) -> StreamingResponse:
        """Tells of every change of a job as a server-sent event, whose data is the job, until it has ended."""
        known(job)

        async def events() -> AsyncIterator[str]:
            before, rest = None, 0.0
            while not studio.closing.is_set():
                found = await asyncio.to_thread(studio.store.get, job)
                if found is None:
                    yield "event: removed\ndata: {}\n\n"
                    return
                now = await asyncio.to_thread(told, found)
                if now != before:
                    yield f"data: {now.model_dump_json()}\n\n"
                    before, rest = now, 0.0
                elif rest > REST:
                    yield ": still there\n\n"
                    rest = 0.0
                if found.state in FINAL:
                    return
                await asyncio.sleep(LOOK)
                rest += LOOK
            yield "event: closing\ndata: {}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @router.post("/crops", responses=faults(413, 422))
    def find_crop(
        portrait: Annotated[UploadFile, File(description="a picture, or a video")],
        crop: Crop = "",
    ) -> dict[str, Any]:
        """Finds the square of a picture that a video would show: crop (x,y,size) and notes. Keeps nothing."""
        with studio.store.temporary_folder() as folder, refusals(folder):
            save_upload(portrait, folder / PORTRAIT)
            with reading:
                found = studio.portrait(folder / PORTRAIT, crop)
            return {"crop": str(found.crop), "notes": [without_folder(note, folder) for note in found.notes]}

    return router


def faults(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Returns what OpenAPI says of answers with these codes, and of those that any request may get."""
    return {code: FAULTS[code] for code in (401, 403, *codes)}


@contextlib.contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Makes of an InputError about files in `folder` an answer with code 422."""
    try:
        yield
    except InputError as error:
        raise HTTPException(422, without_folder(str(error), folder)) from None


def save_upload(upload: UploadFile, path: Path) -> None:
    """Writes an upload under a name of ours."""
    with open(path, "xb") as file:
        shutil.copyfileobj(upload.file, file, 2**20)


def _shown(name: str | None, otherwise: str) -> str:
    """Returns the last part of a file's name as a person gave it; it never becomes a path here."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return one_line(last)[:120] or otherwise
