"""The HTTP API of a video's form and of reenactment, with a tiny model."""

import io
import json
import threading
import zipfile

import numpy as np
import pytest
from live_player import wait_until
from PIL import Image
from tiny_studio import QUICK, ended, post, served, wav

from vasa_jax.data.image_files import read_image
from vasa_jax.data.video_files import write_video
from vasa_jax.generation.job import DEMO
from vasa_jax.serving.forms import AskedDriving, names_of
from vasa_jax.serving.worker import Worker

SRT = b"1\n00:00:00,000 --> 00:00:00,300\nhello\n"


@pytest.fixture(scope="module")
def client(generator, tmp_path_factory):
    with served(generator, tmp_path_factory.mktemp("studio")) as (client, _):
        yield client


def png(colour=(200, 30, 30)):
    with io.BytesIO() as file:
        Image.new("RGB", (90, 70), colour).save(file, "PNG")
        return file.getvalue()


def send(client, path="/v1/videos", files=(), **fields):
    plain = {"portrait": ("me.png", DEMO["image"].read_bytes())}
    plain["driving" if path.endswith("reenactments") else "sound"] = ("x.png", DEMO["image"].read_bytes())
    if "sound" in plain:
        plain["sound"] = ("hello.wav", wav())
        fields = {"controls": QUICK, **fields}
    plain |= dict(files)
    plain = {name: value for name, value in plain.items() if value is not None}
    return client.post(path, files=plain, data={"crop": "center", **fields})


def test_a_form_with_files(client):
    form = {"fps": 30, "shape": "portrait", "format": "webm"}
    files = {"backdrop": ("wall.png", png()), "subtitles": ("../words.srt", SRT)}
    answer = send(client, files=files, form=json.dumps(form))
    assert answer.status_code == 201, answer.text
    job = ended(client, answer.json()["id"])
    assert job["state"] == "done", job
    result, settings = job["result"], job["settings"]
    assert (result["width"], result["height"], result["fps"], result["frames"]) == (64, 114, 30, 12)
    assert settings["output"] == "video.webm"
    assert settings["backdrop"] == "wall.png" and settings["subtitles"] == "words.srt"
    video = client.get(f"/v1/videos/{job['id']}/result")
    assert video.headers["content-type"] == "video/webm" and video.content[:4] == b"\x1a\x45\xdf\xa3"
    text = client.get(f"/v1/videos/{job['id']}/subtitles")
    assert text.headers["content-type"].startswith("text/vtt") and "00:00:00.000 --> 00:00:00.300\nhello" in text.text
    plain = ended(client, send(client).json()["id"])["id"]
    assert client.get(f"/v1/videos/{plain}/subtitles").status_code == 404


def test_a_sequence_and_a_loop(client):
    form = {"backdrop": "transparent", "format": "zip", "idle": 0.4}
    job = ended(client, send(client, files={"sound": None}, form=json.dumps(form)).json()["id"])
    assert job["state"] == "done" and job["result"]["frames"] == 10 and "audio" not in job["settings"]
    video = client.get(f"/v1/videos/{job['id']}/result")
    assert video.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(video.content)) as archive:
        assert Image.open(archive.open("00009.png")).mode == "RGBA" and "sound.wav" not in archive.namelist()


def test_a_driving_video_is_counted_and_may_be_cancelled(generator, tmp_path, monkeypatch):
    """Reading takes minutes on a CPU: it tells how far it is, and ends between two frames."""
    still, told, cancel = read_image(DEMO["image"]), [], threading.Event()
    cancel.set()
    driving = write_video(tmp_path / "driving.mp4", [np.roll(still, shift, 1) for shift in (0, 2, 4, 6, 4, 2)])
    fields = {"files": {"driving": ("x.mp4", driving.read_bytes())}, "motion": '{"align": 0}'}
    pause = Worker._pause

    def noted(self, progress):
        told.append(progress)
        if cancel.is_set() and (progress.stage, progress.done, progress.total) == ("driving", 4, 6):
            cancel.clear()
            client.delete(f"/v1/videos/{self._running}")
        return pause(self, progress)

    monkeypatch.setattr(Worker, "_pause", noted)
    with served(generator, tmp_path / "studio") as (client, _):
        first = send(client, "/v1/reenactments", **fields).json()["id"]
        wait_until(lambda: client.get(f"/v1/videos/{first}").status_code == 404, 60)
        seen = [(one.done, one.total, one.left is None) for one in told if one.stage == "driving" and one.done]
        assert seen == [(n, 0, True) for n in range(1, 7)] + [(n, 6, False) for n in range(1, 5)]
        assert {one.stage for one in told} == {"read", "driving"}
        assert ended(client, send(client, "/v1/reenactments", **fields).json()["id"])["state"] == "done"


def test_reenactment(client):
    motion = {"region": "pose", "mode": "absolute", "driving_multiplier": 0.5, "driving_crop": "center"}
    answer = send(client, "/v1/reenactments", motion=json.dumps(motion), form='{"fps": 24, "backdrop": "green"}')
    assert answer.status_code == 201, answer.text
    job = ended(client, answer.json()["id"])
    assert job["state"] == "done", job
    assert job["job"] == "reenact" and job["result"]["frames"] == 1
    assert job["settings"] == {
        "image": "me.png", "output": "video.mp4", "video": "x.png", "crop": "center", "fps": 24, "backdrop": "green",
        **motion,
    }  # fmt: skip
    told = client.get("/v1/about").json()["motion"]
    assert next(item for item in told if item["name"] == "region")["choices"] == ["all", "pose", "expression"]
    assert not {"face_models", "fps", "stitching"} & {item["name"] for item in told}
    assert "face_models" not in names_of(AskedDriving)


@pytest.mark.parametrize(
    ("path", "files", "fields", "words"),
    [
        ("videos", {}, {"form": '{"backdrop": "/etc/passwd"}'}, "form.backdrop: names a file"),
        ("videos", {}, {"form": '{"backdrop": "wall.png"}'}, "form.backdrop: names a file"),
        ("videos", {}, {"form": '{"subtitles": "/etc/passwd"}'}, "no setting 'subtitles'"),
        ("videos", {}, {"form": '{"backdrop": "transparent"}'}, "form.format: mp4 holds no transparency"),
        ("videos", {}, {"form": '{"backdrop": "gren"}'}, "form.backdrop: 'gren' is none"),
        ("videos", {}, {"form": '{"shape": "9:99"}'}, "form.shape"),
        ("videos", {}, {"form": '{"fps": NaN}'}, "form"),
        ("videos", {}, {"form": '{"fps": 61}'}, "form.fps: 61 is out of range"),
        ("videos", {}, {"form": '{"paste": 1}'}, "form.paste"),
        ("videos", {}, {"form": "[]"}, "form: holds no object"),
        ("videos", {}, {"form": '{"idle": 2}'}, "a loop is silent"),
        ("videos", {"sound": None}, {}, "audio: not given"),
        ("videos", {"backdrop": ("a", b"x")}, {}, "backdrop: is not a picture"),
        ("videos", {"backdrop": ("a", png())}, {"form": '{"backdrop": "green"}'}, "a picture was sent too"),
        ("videos", {"backdrop": ("a", png())}, {"form": '{"paste": true}'}, "the matte knows the square alone"),
        ("videos", {"subtitles": ("a", b"\xff\xff")}, {}, "subtitles.txt: is not UTF-8"),
        ("videos", {"subtitles": ("a", b"")}, {}, "subtitles.txt: is empty"),
        ("videos", {"subtitles": ("a", b"WEBVTT\n\nx")}, {}, "subtitles.vtt: holds no subtitles"),
        ("reenactments", {"driving": ("a", b"x")}, {}, "driving: "),
        ("reenactments", {"driving": None}, {}, "driving"),
        ("reenactments", {}, {"motion": '{"face_models": "/etc"}'}, "no setting 'face_models'"),
        ("reenactments", {}, {"motion": '{"region": "nose"}'}, "motion.region"),
        ("reenactments", {}, {"motion": '{"driving_crop": "a"}'}, "driving"),
        ("reenactments", {}, {"form": '{"idle": 1}'}, "form.idle"),
    ],
)
def test_what_is_refused(client, path, files, fields, words):
    if path == "reenactments" and "motion" not in fields:
        fields = {"motion": '{"driving_crop": "center"}', **fields}
    answer = send(client, f"/v1/{path}", files=files, **fields)
    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert words in detail and detail.isprintable() and "config." not in detail, detail


def test_jobs_of_an_older_studio_are_still_made(generator, tmp_path):
    """Jobs that were stored before there were forms have none."""
    with served(generator, tmp_path) as (client, studio):
        job = post(client, QUICK, crop="center").json()["id"]
        ended(client, job)
        with studio.store.new_folder() as folder:
            for name in ("portrait", "sound"):
                (folder / name).write_bytes((studio.store.folder(job) / name).read_bytes())
            old = {"image": "a", "audio": "b", "crop": "center", "background": "", "controls": {"steps": 1}}
            studio.store.add(folder.name, old, 5)
        studio.worker.wake()
        assert ended(client, folder.name)["state"] == "done"
