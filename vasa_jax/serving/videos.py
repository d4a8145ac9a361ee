"""/v1/videos: portrait, sound and controls in; a job, its events, and a video out."""

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
from vasa_jax.data.image_files import parse_colour
from vasa_jax.errors import InputError, one_line
from vasa_jax.files import parse_json
from vasa_jax.generation.control_track import checked_controls
from vasa_jax.generation.controls import Controls
from vasa_jax.serving.answers import CONTROLS_HELP, Fault, VideoJob
from vasa_jax.serving.store import DONE, FINAL, ID, WAITING, Job
from vasa_jax.serving.studio import Studio
from vasa_jax.serving.worker import PORTRAIT, RESULT, SOUND, without_folder

LOOK = 0.25  # seconds between looks at a job whose events are read
CROP_HELP = "x,y,size in pixels, or center; empty = find the face"
REST = 15.0  # seconds after which a stream of events shows that it lives
FAULTS: dict[int | str, dict[str, Any]] = {
    code: {"model": Fault} for code in (401, 403, 404, 408, 409, 413, 422, 429, 503)
}  # fmt: skip


def videos_router(studio: Studio) -> APIRouter:
    """Returns the routes of videos."""
    router = APIRouter(prefix="/v1", tags=["videos"])
    reading = threading.Lock()  # one upload is decoded at a time: memory is bounded by config.limits

    def known(job: str) -> Job:
        found = studio.store.get(job) if ID.fullmatch(job) else None
        if found is None:
            raise HTTPException(404, "no such video; it may have been removed")
        return found

    def told(job: Job) -> VideoJob:
        ahead = studio.store.ahead(job) if job.state == WAITING else 0
        return VideoJob.of(job, studio.worker.progress(job.id), ahead)

    @router.post("/videos", status_code=201, responses=faults(413, 422, 429))
    def make_video(
        portrait: Annotated[UploadFile, File(description="a picture, or a video whose best early frame is taken")],
        sound: Annotated[UploadFile, File(description="speech: a sound file, or a video with sound")],
        controls: Annotated[str, Form(description=CONTROLS_HELP)] = "{}",
        crop: Annotated[str, Form(description=CROP_HELP, max_length=60)] = "",
        background: Annotated[str, Form(description="colour behind a cut-out", max_length=60)] = "",
    ) -> VideoJob:
        """Puts a video into the queue. Files are known by their content, not by their names."""
        if studio.closing.is_set():
            raise HTTPException(503, "the server ends; ask again in a minute", {"Retry-After": "60"})
        with studio.store.new_folder() as folder, refusals(folder):
            asked = checked_controls(parse_json(controls, "controls", "give a JSON object"), "controls")
            if Controls(**asked).steps > (most := studio.config.studio.steps):
                raise InputError(f"controls.steps: more than this server makes; choose 1 to {most}")
            parse_colour(background, "background")
            save_upload(portrait, folder / PORTRAIT)
            save_upload(sound, folder / SOUND)
            with reading:
                read_audio(folder / SOUND, studio.config.limits)
                studio.generator.read_portrait(folder / PORTRAIT, crop, background, studio.config.limits)
            settings = {
                "image": _shown(portrait.filename, "portrait"), "audio": _shown(sound.filename, "sound"),
                "crop": crop, "background": background, "controls": asked,
            }  # fmt: skip
            job = studio.store.add(folder.name, settings, studio.config.studio.waiting)
            if job is None:
                raise HTTPException(429, "the queue is full; ask again in a minute", {"Retry-After": "60"})
        studio.worker.wake()
        return told(job)

    @router.get("/videos/{job}", responses=faults(404))
    def get_video(job: str) -> VideoJob:
        """Tells how far a job is."""
        return told(known(job))

    @router.delete("/videos/{job}", status_code=204, responses=faults(404))
    def delete_video(job: str) -> None:
        """Cancels a job, or removes a finished one, with all its files."""
        studio.worker.remove(known(job))

    @router.get("/videos/{job}/result", response_class=FileResponse, responses=faults(404, 409))
    def get_result(job: str) -> FileResponse:
        """Gives the finished MP4; parts of it on request, as players ask for them."""
        found = known(job)
        if found.state != DONE:
            raise HTTPException(409, f"the video is not there: its job is {found.state}; read its events")
        path = studio.store.folder(job) / RESULT
        return FileResponse(path, media_type="video/mp4", filename="video.mp4", content_disposition_type="inline")

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
        crop: Annotated[str, Form(max_length=60)] = "",
    ) -> dict[str, Any]:
        """Finds the square of a picture that a video would show: crop (x,y,size) and notes. Keeps nothing."""
        with studio.store.temporary_folder() as folder, refusals(folder):
            save_upload(portrait, folder / PORTRAIT)
            with reading:
                found = studio.generator.read_portrait(folder / PORTRAIT, crop, "", studio.config.limits)
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
