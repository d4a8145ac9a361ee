"""The HTTP API of videos, from upload to file, with a tiny model."""

import io
import json
import sqlite3
import struct
import wave
import zlib

import pytest
from PIL import Image
from tiny_studio import ended, post, served, wav

from vasa_jax.data.video_files import read_video
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.provenance import read_manifest
from vasa_jax.generation.watermark import Payload
from vasa_jax.serving.worker import Worker

CENTRE = {"crop": "center"}  # no search for a face


@pytest.fixture(scope="module")
def opened(generator, tmp_path_factory):
    with served(generator, tmp_path_factory.mktemp("studio")) as both:
        yield both


@pytest.fixture
def client(opened):
    return opened[0]


def test_a_video(client, opened, generator, tmp_path):
    answer = post(client, background="white")
    job = answer.json()
    assert answer.status_code == 201
    assert (job["settings"]["image"], job["settings"]["audio"]) == ("me.png", "hello.wav")
    events = client.get(f"/v1/videos/{job['id']}/events")
    told = [json.loads(line[6:]) for line in events.text.split("\n\n") if line.startswith("data")]
    assert events.headers["content-type"].startswith("text/event-stream") and told[-1]["state"] == "done"
    result = told[-1]["result"]
    assert result["frames"] == 10 and result["width"] == result["height"] == 64 and result["crop"] == "12,4,488"
    video = client.get(f"/v1/videos/{job['id']}/result")
    assert video.headers["content-type"] == "video/mp4" and len(video.content) == result["bytes"]
    path = tmp_path / "video.mp4"
    path.write_bytes(video.content)
    manifest = read_manifest(path)
    assert manifest.state == "valid" and manifest.mark == result["mark"] and manifest.model == generator.model
    part = client.get(f"/v1/videos/{job['id']}/result", headers={"range": "bytes=4-7"})
    assert part.status_code == 206 and part.content == b"ftyp"
    assert client.delete(f"/v1/videos/{job['id']}").status_code == 204
    assert client.get(f"/v1/videos/{job['id']}").status_code == 404
    assert not list((opened[1].store.folder(job["id"])).parent.iterdir())


def test_the_settings_are_a_line_of_a_job_list(generator, tmp_path, monkeypatch):
    from vasa_jax.config import VASAConfig
    from vasa_jax.generation.job_list import generate_listed

    controls = {"steps": 2, "gaze": [10, -5], "emotion": "happiness:0.5", "hop": 5}
    monkeypatch.setattr(Worker, "start", lambda self: None)
    with served(generator, tmp_path / "studio") as (client, _):
        settings = post(client, json.dumps(controls), **CENTRE).json()["settings"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me.png").write_bytes(DEMO["image"].read_bytes())
    (tmp_path / "hello.wav").write_bytes(wav())
    (tmp_path / "list.jsonl").write_text(json.dumps(settings))
    seen = []
    generate_listed(VASAConfig(jobs=str(tmp_path / "list.jsonl")), lambda job: seen.append(job) or tmp_path)
    assert seen[0].crop == "center" and seen[0].steps == 2 and tuple(seen[0].gaze) == (10, -5)


def test_the_command_line_makes_the_same_video(client, generator, tmp_path, monkeypatch):
    monkeypatch.setattr(Payload, "random", classmethod(lambda cls: cls(7)))  # else each has a mark of its own
    sound, image = tmp_path / "sound.wav", DEMO["image"]
    sound.write_bytes(wav())
    job = post(client, '{"steps": 1, "seed": 5}').json()["id"]
    ended(client, job)
    (tmp_path / "served.mp4").write_bytes(client.get(f"/v1/videos/{job}/result").content)
    generator.generate(image, sound, steps=1, seed=5).save(tmp_path / "own.mp4")
    frames = [list(read_video(tmp_path / name).frames) for name in ("served.mp4", "own.mp4")]
    assert len(frames[0]) == len(frames[1]) == 10
    assert all((a == b).all() for a, b in zip(*frames))


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 pixels in a few bytes."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(10**6)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def large() -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (2000, 1500)).save(file, "PNG")
        return file.getvalue()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"portrait": b"<html>"}, "portrait: is not a picture"),
        ({"portrait": b""}, "portrait: is empty"),
        ({"portrait": bomb()}, "portrait: "),
        ({"portrait": large()}, "too many"),
        ({"portrait": DEMO["image"].read_bytes()[:2000]}, "damaged or cut short"),
        ({"sound": b"RIFF"}, "sound: "),
        ({"sound": DEMO["image"].read_bytes()}, "sound: "),
        ({"sound": wav(90)}, "sound: "),
        ({"sound": b"#EXTM3U\nfile:///etc/passwd\n"}, "sound: "),
        ({"controls": "[]"}, "controls: holds no object"),
        ({"controls": "{"}, "controls: not JSON"),
        ({"controls": '{"gaze": [90, 0]}'}, "controls.gaze: 90 is out of range"),
        ({"controls": '{"gase": 1}'}, "did you mean 'gaze'"),
        ({"controls": '{"steps": 51}'}, "controls.steps"),
        ({"controls": '{"look_ahead": 3}'}, "look_ahead"),
        ({"controls": '{"image": "/etc/passwd"}'}, "no control 'image'"),
        ({"crop": "1,2"}, "crop"),
        ({"background": "nocolour"}, "background"),
    ],
)  # fmt: skip
def test_bad_uploads_get_one_line_and_leave_nothing(client, opened, given, words):
    before = sorted((opened[1].store._files).iterdir())
    answer = post(client, **{"crop": "center", **given})
    detail = answer.json()["detail"]
    assert answer.status_code == 422 and words in detail and "\n" not in detail, detail
    assert "/" not in detail.replace("e.g.", "") or "studio" not in detail  # no folder of the server
    assert sorted((opened[1].store._files).iterdir()) == before


def test_paths_lead_nowhere(client):
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fapp.py", "/..\\app.py", "/%00"):
        assert client.get(path).status_code in (400, 404)
    for job in ("..", "%2e%2e%2fjobs.sqlite", "0" * 32, "a/../../jobs.sqlite", "%00"):
        for method, end in (("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", "")):
            assert client.request(method, f"/v1/videos/{job}{end}").status_code in (404, 405)


def test_a_crop_is_found_and_nothing_kept(client, opened):
    answer = client.post("/v1/crops", files={"portrait": DEMO["image"].read_bytes()})
    assert answer.json() == {"crop": "12,4,488", "notes": []}
    answer = client.post("/v1/crops", files={"portrait": DEMO["image"].read_bytes()}, data={"crop": "0,0,100"})
    assert answer.json()["crop"] == "0,0,100"
    assert client.post("/v1/crops", files={"portrait": b"none"}).status_code == 422


def test_queue_cancel_and_restart(generator, tmp_path, monkeypatch):
    """A full queue says so; a cancelled job leaves nothing; a stopped one is made by the next start."""
    monkeypatch.setattr(Worker, "start", lambda self: None)  # nobody works
    with served(generator, tmp_path, waiting=2) as (client, _):
        jobs = [post(client, **CENTRE).json() for _ in range(2)]
        assert [job["ahead"] for job in jobs] == [0, 1]
        full = post(client, **CENTRE)
        assert full.status_code == 429 and full.headers["retry-after"]
        assert client.get(f"/v1/videos/{jobs[0]['id']}/result").status_code == 409
        assert "vasa_waiting 2.0" in client.get("/metrics").text
        assert client.delete(f"/v1/videos/{jobs[0]['id']}").status_code == 204
        assert client.get(f"/v1/videos/{jobs[1]['id']}").json()["ahead"] == 0
    monkeypatch.undo()
    with served(generator, tmp_path) as (client, _):
        assert ended(client, jobs[1]["id"])["state"] == "done"
        assert 'vasa_videos_total{state="done"} 1.0' in client.get("/metrics").text
        assert [path.name for path in (tmp_path / "files").iterdir()] == [jobs[1]["id"]]


def test_a_running_job_is_cancelled_at_a_frame_and_put_back_at_the_end(generator, tmp_path, monkeypatch):
    import threading

    reached, go = threading.Event(), threading.Event()
    frames = VideoGenerator.render

    def slow(self, *arguments):
        for batch in frames(self, *arguments):
            reached.set()
            go.wait(20)
            yield batch

    monkeypatch.setattr(VideoGenerator, "render", slow)
    with served(generator, tmp_path) as (client, _):
        job = post(client, **CENTRE).json()["id"]
        assert reached.wait(30) and client.get(f"/v1/videos/{job}").json()["state"] == "running"
        client.delete(f"/v1/videos/{job}")
        go.set()
        again = post(client, **CENTRE).json()["id"]
        assert ended(client, again)["state"] == "done" and client.get(f"/v1/videos/{job}").status_code == 404
        reached.clear(), go.clear()
        last = post(client, **CENTRE).json()["id"]
        assert reached.wait(30)
        threading.Timer(0.2, go.set).start()
    with served(generator, tmp_path) as (client, _):
        assert ended(client, last)["state"] == "done"


def test_a_fault_of_ours_is_told_without_its_text(generator, tmp_path, monkeypatch, capsys):
    def broken(self, *arguments, **settings):
        raise RuntimeError("secret of /etc/passwd")

    monkeypatch.setattr(VideoGenerator, "generate", broken)
    with served(generator, tmp_path) as (client, _):
        answer = ended(client, post(client, **CENTRE).json()["id"])
    assert answer["state"] == "failed" and answer["error"] == "the server failed (RuntimeError)"
    assert "secret" in capsys.readouterr().err


def test_a_full_disk_does_not_end_the_worker(generator, tmp_path, monkeypatch, capsys):
    from vasa_jax.serving.store import JobStore

    plain, faults = JobStore.start_next, [sqlite3.OperationalError("database or disk is full")]

    def start_next(self):
        if faults:
            raise faults.pop()
        return plain(self)

    monkeypatch.setattr(JobStore, "start_next", start_next)
    monkeypatch.setattr("vasa_jax.serving.worker.RETRY", 0.05)
    with served(generator, tmp_path) as (client, _):
        assert ended(client, post(client, **CENTRE).json()["id"])["state"] == "done"
    assert "jobs: database or disk is full" in capsys.readouterr().err


def test_texts_are_spoken(client):
    pytest.importorskip("espeakng_loader")
    answer = client.post("/v1/speech", json={"text": "Hello\x00 there \U0001f600"})
    with wave.open(io.BytesIO(answer.content)) as sound:
        assert sound.getframerate() == 16_000 and 0.3 < sound.getnframes() / 16_000 < 3
    bad = ({"text": " "}, {"text": "a", "voice": "xx"}, {"text": "a", "voice": "../x"}, {}, {"text": "a" * 2001})
    assert {client.post("/v1/speech", json=word).status_code for word in bad} == {422}
    assert client.post("/v1/speech", content=b'{"text": "\\ud800"}').status_code == 422


def test_requests_of_another_form_are_one_line(client):
    """What the web library itself refuses: its own answer repeats the input, which may be no JSON at all."""
    words = (b"NaN", b"Infinity", b"1e999", b"[]", b"{}", b"null", b"5", b'{"a": NaN}', b"[[[]]]")
    bodies = [b'{"text": %s}' % word for word in words] + [b'{"key": %s}' % word for word in words]
    for path in ("/v1/speech", "/v1/login"):
        for body in (b"\xff", b"[" * 5000):  # what is not parsed at all
            assert client.post(path, content=body).status_code in (400, 422)
        for body in [*bodies, *words, b"", b"{", b'{"\\ud800": 1}']:
            answer = client.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 422, (path, body)
            detail = answer.json()["detail"]
            assert isinstance(detail, str) and detail.isprintable() and "; " in detail and len(detail) < 1100, detail
    for answer in (client.post("/v1/videos"), client.post("/v1/crops"), client.post("/v1/videos", data={"sound": "x"})):
        assert answer.status_code == 422 and "; " in answer.json()["detail"]


def test_login_gives_a_cookie(generator, tmp_path):
    with served(generator, tmp_path, key="0123456789abcdef") as (client, _):
        assert client.get("/v1/about").status_code == 401 and post(client).status_code == 401
        assert client.post("/v1/login", json={"key": "0123456789abcdeg"}).status_code == 401
        answer = client.post("/v1/login", json={"key": "0123456789abcdef"})
        assert answer.status_code == 204 and "HttpOnly" in answer.headers["set-cookie"]
        assert client.get("/v1/about").json()["size"] == 64


def test_the_document_names_every_route_and_control(client):
    document = client.get("/v1/openapi.json").json()
    assert {"/v1/videos", "/v1/videos/{job}/events", "/v1/crops"} <= document["paths"].keys()
    told = {item["name"]: item for item in client.get("/v1/about").json()["controls"]}
    assert client.get("/v1/examples/portrait").content == DEMO["image"].read_bytes()
    assert client.get("/v1/examples/x").status_code == 422
    assert told["gaze"] == told["gaze"] | {"low": -60, "high": 60, "unit": "degrees", "count": 2}
    assert told["steps"]["high"] == 50 and told["animate"]["choices"] == ["all", "pose", "dynamics"]




def test_behind_a_proxy_the_health_check_of_the_same_machine_is_answered(generator, tmp_path):
    with served(generator, tmp_path, key="0123456789abcdef", host="0.0.0.0", names=("a.org",)) as (client, _):
        hosts = ("127.0.0.1:7860", "a.org", "b.org", "0.0.0.0.b.org")
        codes = [client.get("/v1/health", headers={"host": host}).status_code for host in hosts]
        assert codes == [200, 200, 421, 421]
        assert client.get("/v1/about", headers={"host": "127.0.0.1:7860"}).status_code == 401
