"""The one worker of the queue: it makes the videos, tells how far it is, and stops when it is asked to."""

import contextlib
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vasa_jax.config import VASAConfig
from vasa_jax.data.subtitles import as_vtt, within
from vasa_jax.errors import InputError, one_line, say
from vasa_jax.files import write_text
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.provenance import Signer
from vasa_jax.generation.reenactment import reenact
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.serving.forms import AskedDriving, AskedForm, video_form
from vasa_jax.serving.metrics import Metrics
from vasa_jax.serving.store import CANCELLED, DONE, FAILED, Job, JobStore
from vasa_jax.settings import part_of

T = TypeVar("T")

PORTRAIT, SOUND, DRIVING, BACKDROP, CUES = "portrait", "sound", "driving", "backdrop", "cues.vtt"  # files of a job
PROGRAMS = 12  # combinations of steps, solver and hop, and sizes of frames, whose compiled code is kept
RETRY = 5.0  # seconds after a failure of the disk
SWEEP = 60.0  # seconds between looks for old jobs


class _Cancelled(Exception):
    """The job is not wanted any more."""


class _Closing(Exception):
    """The server ends; the job is done when it is started again."""


@dataclass(frozen=True)
class Progress:
    """How far the running job is. stage: what it does; done, total: its parts; left: seconds, None where not known.

    Parts are frames, and of motion that is made of speech pieces of sound, then windows.
    """

    stage: str = "starting"
    done: int = 0
    total: int = 0
    left: float | None = None


class Worker:
    """Makes one job after the other in a thread of its own."""

    def __init__(
        self,
        store: JobStore,
        config: VASAConfig,
        generator: VideoGenerator,
        live: Callable[[], bool],
        metrics: Metrics,
        signer: Signer | None = None,
    ):
        """live: whether a live session needs the machine: videos wait for it."""
        self._store, self._config, self._generator, self._live = store, config, generator, live
        self._metrics, self._signer = metrics, signer
        self._wake, self._closing = threading.Event(), threading.Event()
        self._running: str | None = None
        self._taking = threading.Lock()  # a job that is removed is not taken at the same time
        self._cancelled: set[str] = set()
        self._progress = Progress()
        self._programs: set[tuple] = set()
        self._began = 0.0
        self._thread = threading.Thread(target=self._work, name="videos", daemon=True)

    def start(self) -> None:
        """Starts with what waits."""
        self._thread.start()

    def wake(self) -> None:
        """Tells that a job waits."""
        self._wake.set()

    def close(self) -> None:
        """Stops at the next frame; the running job goes back into the queue."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def progress(self, job: str) -> Progress | None:
        """Returns how far a job is, None if it does not run."""
        return self._progress if job == self._running else None

    def remove(self, job: Job) -> None:
        """Cancels a job wherever it is, and removes its files, at once or as soon as it has stopped."""
        with self._taking:
            if job.id == self._running:
                self._cancelled.add(job.id)
            else:
                self._store.remove(job.id)

    def _work(self) -> None:
        swept = -SWEEP
        while not self._closing.is_set():
            try:
                if time.monotonic() - swept > SWEEP:
                    swept = time.monotonic()
                    self._store.remove_old(3600 * self._config.studio.keep_hours)
                if not self._take():
                    self._wake.wait(SWEEP)
                    self._wake.clear()
            except (sqlite3.Error, OSError) as error:  # a full disk, say
                say(f"jobs: {one_line(str(error))}; tried again in {RETRY:g} s", sys.stderr)
                self._closing.wait(RETRY)

    def _take(self) -> bool:
        """Does the next job; False where none waits."""
        with self._taking:
            job = self._store.start_next()
            if job is None:
                return False
            self._progress, self._running = Progress(), job.id
        state = None
        try:
            state = self._do(job)
        finally:
            with self._taking:
                self._running = None
                if job.id in self._cancelled:
                    self._cancelled.discard(job.id)
                    self._store.remove(job.id)
                    state = CANCELLED
        if state:
            self._metrics.videos.labels(state).inc()
        return True

    def _do(self, job: Job) -> str | None:
        folder = self._store.folder(job.id)
        try:
            result = self._make(job, folder)
        except _Cancelled:
            return CANCELLED
        except _Closing:
            self._store.put_back(job.id)
            return None
        except Exception as error:  # whatever it is, the other jobs do not depend on it
            known = isinstance(error, InputError)
            if not known:
                say("".join(traceback.format_exception(error)), sys.stderr)
            text = without_folder(str(error), folder) if known else f"the server failed ({type(error).__name__})"
            self._store.end(job.id, FAILED, text)
            return FAILED
        self._store.end(job.id, DONE, result=result)
        self._metrics.frames.inc(result["frames"])
        return DONE

    def _make(self, job: Job, folder: Path) -> dict[str, Any]:
        settings, start = job.settings, time.perf_counter()
        asked, form = asked_form(settings, folder)
        sound = folder / SOUND if settings["audio"] else None
        shared = {
            "form": form, "crop": settings["crop"], "background": settings["background"], "paste": asked.paste,
            "limits": self._config.limits, "stage": self._stage,
            "watch": lambda parts, count: self._counted(parts, count, self._progress.stage),
        }  # fmt: skip
        if settings.get("job") == "reenact":
            how = AskedDriving(**settings["motion"], fps=asked.fps, face_models=self._config.face_models)
            video, _ = reenact(
                self._generator, folder / PORTRAIT, folder / DRIVING, how, audio=sound, **shared
            )
        else:
            controls = Controls(**settings["controls"])
            self._make_room((controls.steps, controls.solver, controls.hop, controls.look_ahead))
            how = part_of(Driving, self._config)
            video = self._generator.generate(folder / PORTRAIT, sound, controls, fps=asked.fps, how=how, **shared)
        self._make_room((*video.size, asked.paste, video.transparent))
        total = len(video.motion)
        if video.subtitles:
            write_text(folder / CUES, as_vtt(within(video.subtitles, video.seconds)))
        path = video.save(
            folder / result_name(settings),
            stage=self._stage,
            progress=lambda frames: self._counted(frames, total),
            signer=self._signer,
        )
        return {
            "frames": total,
            "seconds": video.seconds,
            "fps": video.fps,
            "width": video.size[1],
            "height": video.size[0],
            "subtitles": bool(video.subtitles),
            "bytes": path.stat().st_size,
            "crop": str(video.crop),
            "mark": str(video.avatar.payload) if video.avatar.payload else None,
            "notes": [without_folder(one_line(note), folder) for note in video.notes],
            "took": round(time.perf_counter() - start, 3),
        }

    def _make_room(self, program: tuple) -> None:
        """Forgets compiled code when requests have asked for many kinds of it: it is never freed otherwise."""
        import jax

        self._programs.add(program)
        if len(self._programs) > PROGRAMS and not self._live():
            jax.clear_caches()
            self._programs.clear()

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        if name not in ("decode", "write"):  # which are told frame by frame
            self._pause(Progress(name))
        yield

    def _counted(self, parts: Iterable[T], total: int, stage: str = "frames") -> Iterator[T]:
        """Tells how far a stage is with its parts, and stops between two of them; total: 0 where it is not known."""
        start, paused = time.monotonic(), 0.0
        for done, part in enumerate(parts, 1):
            yield part
            spent = time.monotonic() - start - paused
            left = spent / done * (total - done) if total else None
            paused += self._pause(Progress(stage, done, total, left))

    def _pause(self, progress: Progress) -> float:
        """Tells the progress, and returns the seconds that were waited for live sessions."""
        start = time.monotonic()
        while True:
            if self._running in self._cancelled:
                raise _Cancelled
            if self._closing.is_set():
                raise _Closing
            if not self._live():
                break
            self._progress = Progress("waits for the live avatar", progress.done, progress.total)
            time.sleep(0.1)
        self._progress = progress
        return time.monotonic() - start


def asked_form(settings: dict[str, Any], folder: Path) -> tuple[AskedForm, VideoForm]:
    """Returns what a job asks of its form, and that form with the job's own files."""
    form = AskedForm(**settings.get("form", {}))  # jobs of older studios have none
    subtitles = folder / settings["subtitles"] if settings.get("subtitles") else None
    return form, video_form(form, folder / BACKDROP, subtitles)


def result_name(settings: dict[str, Any]) -> str:
    """Returns the name of a job's finished file."""
    return f"result.{settings.get('form', {}).get('format', 'mp4')}"


def without_folder(text: str, folder: Path) -> str:
    """Returns a line about a job's files as the user knows them: `portrait: ...`, without the server's folder."""
    return text.replace(f"{folder}/", "").replace("config.", "")
