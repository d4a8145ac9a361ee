"""A job that is not wanted any more ends between two parts of whatever stage it is in."""

import json
import threading

import numpy as np
import pytest
from live_player import wait_until
from tiny_studio import QUICK, ended, post, served, wav

from vasa_jax.data.image_files import read_image
from vasa_jax.data.video_files import write_video
from vasa_jax.generation.job import DEMO
from vasa_jax.serving.worker import Worker

SECONDS = 12.0  # of sound: four pieces that are heard, 25 windows or 60 hops of motion


@pytest.fixture(scope="module")
def take(tmp_path_factory):
    """A source video of six frames."""
    still = read_image(DEMO["image"])
    frames = [np.roll(still, shift, 1) for shift in (0, 2, 4, 6, 4, 2)]
    return write_video(tmp_path_factory.mktemp("take") / "take.mp4", frames).read_bytes()


def speech(client, take, **asked):
    return post(client, json.dumps(json.loads(QUICK) | asked), sound=wav(SECONDS), crop="center")


def dub(client, take):
    files = {"portrait": ("a.mp4", take), "driving": ("b.png", DEMO["image"].read_bytes())}
    motion = '{"dub": true, "align": 0, "driving_crop": "center"}'
    return client.post("/v1/reenactments", files=files, data={"motion": motion, "crop": "center"})


def idle(client, take):
    files = {"portrait": ("a.png", DEMO["image"].read_bytes())}
    data = {"controls": QUICK, "form": '{"idle": 6}', "crop": "center"}
    return client.post("/v1/videos", files=files, data=data)


@pytest.mark.parametrize(
    ("ask", "where"),
    [
        (speech, ("motion", 9, 25)), (lambda *given: speech(*given, hop=5), ("motion", 30, 60)), (dub, ("read", 4, 0)),
        (dub, ("portrait", 4, 6)), (idle, ("motion", 1, 3)), (speech, ("frames", 9, 300)),
    ],
    ids=["windows", "hops", "source looked through", "source read", "idle", "frames"],
)  # fmt: skip
def test_every_stage_is_counted_and_ends_where_it_is_cancelled(generator, tmp_path, monkeypatch, take, ask, where):
    told, cancel, pause = [], threading.Event(), Worker._pause
    cancel.set()

    def noted(self, progress):
        told.append((progress.stage, progress.done, progress.total))
        if cancel.is_set() and told[-1] == where:
            cancel.clear()
            client.delete(f"/v1/videos/{self._running}")
        return pause(self, progress)

    monkeypatch.setattr(Worker, "_pause", noted)
    with served(generator, tmp_path) as (client, _):
        job = ask(client, take)
        assert job.status_code == 201, job.text
        wait_until(lambda: client.get(f"/v1/videos/{job.json()['id']}").status_code == 404, 60)
        assert told[-1] == where
        monkeypatch.setattr(Worker, "_pause", pause)
        if where[0] == "portrait":
            assert ended(client, ask(client, take).json()["id"])["state"] == "done"
