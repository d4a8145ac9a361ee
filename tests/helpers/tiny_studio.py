"""A studio with a tiny model, over HTTP in this process, and as a server of its own."""

import contextlib
import time
from pathlib import Path

from fastapi.testclient import TestClient
from sounds import wav

from vasa_jax.config import StudioConfig, VASAConfig
from vasa_jax.generation.job import DEMO
from vasa_jax.limits import InputLimits
from vasa_jax.serving.app import create_app
from vasa_jax.serving.studio import Studio

LIMITS = InputLimits(hours=0.02, megapixels=2, memory=0.25)
QUICK = '{"steps": 1, "pose_anchor": "absolute"}'


@contextlib.contextmanager
def served(generator, folder: Path, key: str = "", asked: dict | None = None, **settings):
    """Yields (client, studio) of an application at work; asked: other settings than those of the studio."""
    config = VASAConfig(job="studio", limits=LIMITS, studio=StudioConfig(**settings), **(asked or {})).validate()
    studio = Studio(config, generator, folder)
    with TestClient(create_app(studio, key), base_url="http://127.0.0.1:7860") as client:
        yield client, studio


def post(client, controls: str = QUICK, portrait: bytes | None = None, sound: bytes | None = None, **fields):
    """Posts a video; by default of the shipped portrait and a short noise."""
    files = {
        "portrait": ("../../me.png", DEMO["image"].read_bytes() if portrait is None else portrait),
        "sound": ("a/b/hello.wav", wav() if sound is None else sound),
    }
    return client.post("/v1/videos", files=files, data={"controls": controls, **fields})


def ended(client, job: str, seconds: float = 60) -> dict:
    """Returns a job when it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = client.get(f"/v1/videos/{job}").json()
        if answer["state"] in ("done", "failed"):
            return answer
        time.sleep(0.02)
    raise AssertionError(f"not done: {answer}")
