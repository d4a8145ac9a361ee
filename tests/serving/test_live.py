"""Live avatars over a WebSocket, with a tiny model."""

import asyncio
import dataclasses
import io
import itertools
import json
import os
import socket
import subprocess
import threading
import time
import types

import av
import numpy as np
import pytest
import uvicorn
from live_player import HEADERS, Player, open_one, wait_until
from scipy.io import wavfile
from tiny_studio import served, wav

from vasa_jax import main
from vasa_jax.benchmarks import live_clients
from vasa_jax.benchmarks.live_client import request
from vasa_jax.config import LiveBenchmarkConfig, VASAConfig
from vasa_jax.conventions import HISTORY
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.job import DEMO
from vasa_jax.serving.fragments import PER_FRAME
from vasa_jax.serving.live import MOST_UNSENT, LiveSession
from vasa_jax.serving.live_motion import AHEAD, LiveMotion
from vasa_jax.serving.live_sockets import Playing
from vasa_jax.serving.metrics import Metrics
from vasa_jax.serving.pace import Pace, Point

STEPS = 1


@pytest.fixture(scope="module")
def opened(generator, tmp_path_factory):
    with served(generator, tmp_path_factory.mktemp("studio"), live_steps=STEPS) as both:
        yield both


@pytest.fixture
def client(opened):
    return opened[0]


def portrait(seed=0):
    return np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8)


def sound(frames, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, frames * PER_FRAME).astype(np.float32)


def hops(live, samples, count, frame=0):
    """The motion of `count` hops; sound from frame `frame` on was given."""
    made = []
    for _ in range(count):
        upto = frame + live.controls.hop
        live.hear(samples[(frame + AHEAD if frame else 0) * PER_FRAME : (upto + AHEAD) * PER_FRAME])
        made.append(live.next_motion())
        frame = upto
    return np.concatenate(made)


def test_a_change_keeps_the_motion_and_the_sound(generator):
    """After a history's length another stream goes on with the very same motion."""
    avatar, samples = generator.prepare(portrait()), sound(HISTORY + 15 + AHEAD)
    controls = Controls(steps=STEPS)
    plain, changed = (LiveMotion(generator, avatar, controls, 5) for _ in range(2))
    straight = hops(plain, samples, HISTORY // 5 + 3)
    before = hops(changed, samples, HISTORY // 5)
    changed.change(changed.controls, 5)
    after = hops(changed, samples, 3, HISTORY)
    np.testing.assert_array_equal(np.concatenate([before, after]), straight)
    assert np.ptp(straight, axis=0).max() > 0
    changed.change(changed.controls, 10)
    assert hops(changed, sound(20), 1, 1).shape == (10, 137)


def test_motion_is_that_of_a_stream(generator):
    """Live motion is a stream's, for the sound resampled as a stream."""
    import soxr

    avatar, samples = generator.prepare(portrait()), sound(15 + AHEAD)
    live = hops(LiveMotion(generator, avatar, Controls(steps=STEPS), 5), samples, 3)
    heard = soxr.ResampleStream(48_000, 16_000, 1, dtype="float32").resample_chunk(samples)
    batch = generator.stream_batch(1, Controls(steps=STEPS), hop=5)
    session, motion = batch.open(avatar), []
    session.write(heard)
    while moved := batch.advance_motion():
        motion.append(moved[0][1])
    np.testing.assert_array_equal(live, np.concatenate(motion)[:15])


def test_the_solvers_steps_follow_the_pace(generator):
    """They are halved where motion costs too much and whole again, whatever the controls that a client asks for."""
    dear, cheap = Pace((3.0, 0.3), 0.01), Pace((0.01, 0.005), 0.001)
    session = LiveSession(
        generator, generator.prepare(portrait()), Controls(steps=7), dear, (7, 3), Metrics(),
        longest=1, queue=1, sessions=lambda: 1, done=lambda session: None,
    )  # fmt: skip
    assert dear.point.halved == 1 and session._motion.controls.steps == 3
    session.change_controls(Controls(steps=7, seed=5))
    assert session._follow() == dear.point and session._motion.controls.steps == 3
    session._pace = cheap
    session._follow()
    used = session._motion.controls
    assert (used.steps, used.hop, used.seed) == (7, cheap.point.hop, 5)


def test_drawn_frames_are_marked_frames_of_the_motion(generator):
    avatar = generator.prepare(portrait())
    live = LiveMotion(generator, avatar, Controls(steps=STEPS), 5)
    motion = hops(live, sound(5 + AHEAD), 1)
    drawn = live.draw(motion, Point(5, 2))
    whole = np.concatenate(list(generator.render(avatar, motion, 1)))
    np.testing.assert_array_equal(np.stack(drawn), whole[::2])


def test_a_session(client, opened):
    """Idles, speaks what it is given, stops at once when interrupted, changes face and mood, and ends."""
    session = open_one(client)
    assert session.status_code == 201, session.text
    path = session.json()["socket"]
    busy = open_one(client)
    assert busy.status_code == 503 and "busy: all 1 live sessions are in use" in busy.json()["detail"]
    assert busy.headers["retry-after"] and opened[1].live.active
    with client.websocket_connect(path, headers=HEADERS) as socket:
        player = Player(socket)
        idle = player.next_hop()
        assert player.lines[0]["type"] == "hello" and not idle["speaks"] and idle["start"] == 0
        assert idle["sessions"] == 1 and idle["device_memory"] is None
        start = time.monotonic()
        said = client.post(f"{path}/sound", files={"sound": wav(2)}).json()
        assert said["seconds"] == pytest.approx(2.0, abs=0.01)
        player.until(lambda hop: hop["speaks"])
        assert client.post(f"{path}/interrupt").status_code == 204
        stopped = player.until(lambda hop: hop["interrupted"])
        assert not stopped["speaks"] and stopped["waiting"] == 0
        other = {"portrait": DEMO["image"].read_bytes()}
        assert client.put(f"{path}/portrait", files=other, data={"crop": "0,0,300"}).status_code == 204
        assert client.put(f"{path}/controls", data={"controls": '{"emotion": "fear"}'}).status_code == 204
        assert client.put(f"{path}/controls", data={"controls": '{"emotion": "joy"}'}).status_code == 422
        player.send(type="microphone", rate=16_000)
        for _ in range(4):
            socket.send_bytes(np.full(1600, 3000, "<i2").tobytes())
        player.until(lambda hop: hop["speaks"])
        player.send(type="report", latency=0.4, skew=-0.01)
        last = player.until(lambda hop: time.monotonic() - start > 2)
        assert last["cores"] > 0
        played = last["start"] + last["seconds"]
        assert played <= time.monotonic() - start + 1.5  # it does not run ahead of the clock
        assert client.delete(path).status_code == 204
        assert player.until(lambda line: line["type"] == "end")["reason"] == "closed"
    with av.open(io.BytesIO(player.stream)) as file:
        times = [float(frame.time) for frame in file.decode(video=0)]
    end = [line["start"] + line["seconds"] for line in player.lines if line["type"] == "hop"][-1]
    assert times == sorted(times) and times[0] == 0 and end - 1 <= times[-1] < end
    text = client.get("/metrics").text
    assert "vasa_live_skew_seconds_count 1.0" in text and "vasa_live_busy_total 1.0" in text
    assert "vasa_live_first_frame_seconds_count 1.0" in text and 'vasa_live_players_total{over="websocket"} 1.0' in text
    wait_until(lambda: not opened[1].live.active)
    assert client.delete(path).status_code == 404 and "vasa_live_sessions 0.0" in client.get("/metrics").text


def test_a_session_begins_with_what_the_one_before_has_learnt(client, opened, monkeypatch):
    """A machine that was busy when it was measured draws little at first, and only in the first session."""
    live = opened[1].live
    live.warm_up()
    monkeypatch.setattr(live, "_costs", ((0.5,), 0.5))
    seen = []
    for _ in range(2):
        answer = open_one(client).json()
        seen.append(answer["rate"])
        with client.websocket_connect(answer["socket"], headers=HEADERS) as socket:
            Player(socket).next_hop()
        client.delete(answer["socket"])
        wait_until(lambda: not live.active)
    assert seen[0] == 5 < seen[1]


def test_a_session_that_was_held_up_is_at_once_up_with_the_clock(client, opened, monkeypatch):
    """The time is skipped: picture and sound last as long as the clock says, and steps and lateness are told."""
    monkeypatch.setattr("vasa_jax.serving.pace.MOST_BEHIND", 0.3)
    path = open_one(client).json()["socket"]
    session = opened[1].live.get(path.rpartition("/")[2])
    with client.websocket_connect(path, headers=HEADERS) as socket:
        player = Player(socket)
        first, start = player.next_hop(), time.monotonic()
        draw = session._motion.draw
        monkeypatch.setattr(session._motion, "draw", lambda *given: (time.sleep(1.0), draw(*given))[1])
        late = player.until(lambda hop: hop["late"])
        monkeypatch.setattr(session._motion, "draw", draw)
        skipped = player.until(lambda hop: hop["skipped"])
        last = player.until(lambda hop: not hop["late"])
        now = time.monotonic() - start
    assert (first["steps"], first["behind"], late["skipped"]) == (STEPS, 0.0, False) and late["behind"] > 0.3
    assert skipped["seconds"] > 0.3 and skipped["rate"] == 0
    assert last["behind"] == 0.0 and last["start"] - first["start"] == pytest.approx(now, abs=0.3)
    lines = [line for line in player.lines if line["type"] == "hop"]
    for one, other in itertools.pairwise(lines):
        assert one["start"] + one["seconds"] == pytest.approx(other["start"])
    with av.open(io.BytesIO(player.stream)) as file:
        times = np.array([float(frame.time) for frame in file.decode(video=0)])
    assert (np.diff(times) >= skipped["seconds"] - 1e-6).any()
    assert "vasa_live_skipped_seconds_total" in client.get("/metrics").text
    session.close()
    wait_until(lambda: not opened[1].live.active)


def test_a_player_that_is_lost_may_come_back(client, opened):
    path = open_one(client).json()["socket"]
    with client.websocket_connect(path, headers=HEADERS) as socket:
        first = Player(socket).next_hop()
    with client.websocket_connect(path, headers=HEADERS) as socket:
        player = Player(socket)
        again = player.next_hop()
        assert player.lines[0]["type"] == "hello" and again["start"] >= first["start"]
    with av.open(io.BytesIO(player.stream)) as file:  # it can be decoded from there on
        assert next(file.decode(video=0)).is_corrupt is False
    opened[1].live.get(path.rpartition("/")[2]).close()
    wait_until(lambda: not opened[1].live.active)


def test_a_player_that_does_not_read_ends_the_session(client, opened):
    """What waits for it is bounded, and so is the time for which it keeps its seat."""

    async def unread():
        playing = Playing(None, None, opened[1])
        return [await asyncio.sleep(0, playing._send("line")) for _ in range(3 * MOST_UNSENT)]

    answers = asyncio.run(unread())
    assert answers[: MOST_UNSENT] == [True] * MOST_UNSENT and answers[-1] is False

    class Slow:
        def play(self, hop):
            return False

        def interrupt(self, number):
            pass

    session = opened[1].live.get(open_one(client).json()["session"])
    session.play_to(Slow())
    assert session.ended.wait(5) and session.reason == "its player is too slow"
    wait_until(lambda: not opened[1].live.active)


NONSENSE = ["no json", "[]", '{"type": "dance"}', '{"type": "microphone", "rate": 1}', '{"type": "' + "x" * 5000 + '"}']


@pytest.mark.parametrize("word", NONSENSE)
def test_nonsense_ends_the_player(client, opened, word):
    path = open_one(client).json()["socket"]
    with client.websocket_connect(path, headers=HEADERS) as socket:
        socket.send_text(word)
        end = Player(socket).until(lambda line: line["type"] == "closed")
        assert end["code"] == 1008 and end["reason"]
    opened[1].live.get(path.rpartition("/")[2]).close()
    wait_until(lambda: not opened[1].live.active)


def test_bad_requests_take_no_seat(client, opened):
    assert client.post("/v1/live", files={"portrait": b"none"}).status_code == 422
    assert open_one(client, controls='{"gaze": [99, 0]}').status_code == 422
    assert client.post("/v1/live/0/sound", files={"sound": wav()}).status_code == 404
    assert not opened[1].live.active
    with pytest.raises(Exception), client.websocket_connect(f"/v1/live/{'0' * 32}", headers=HEADERS):  # noqa: B017
        pass


def tone(first, seconds):
    """A piece of a tone as a text-to-speech program sends it: WAV of 24 kHz, from a second on."""
    times = np.arange(round(24_000 * first), round(24_000 * (first + seconds))) / 24_000
    with io.BytesIO() as file:
        wavfile.write(file, 24_000, (8000 * np.sin(2 * np.pi * 300 * times)).astype(np.int16))
        return file.getvalue()


def test_sound_in_pieces_is_one_sound(client, opened):
    """Pieces that are posted one after the other are spoken without a gap; a pause holds them back."""
    path = open_one(client).json()["socket"]
    with client.websocket_connect(path, headers=HEADERS) as socket:
        player = Player(socket)
        player.next_hop()
        player.send(type="pause")
        for piece in range(4):
            assert client.post(f"{path}/sound", files={"sound": tone(0.4 * piece, 0.4)}).status_code == 202
        for _ in range(3):
            assert not player.next_hop()["speaks"]
        player.send(type="resume")
        player.until(lambda hop: hop["speaks"])
        done = player.until(lambda hop: not hop["speaks"])
        assert done["heard"] == pytest.approx(1.6, abs=1e-3) and done["waiting"] == 0
    with av.open(io.BytesIO(player.stream)) as stream:
        sound = np.concatenate([block.to_ndarray()[0] for block in stream.decode(audio=0)])
    level = np.sqrt(np.convolve(sound**2, np.ones(480) / 480, "same"))  # of 10 ms
    on = np.flatnonzero(level > 0.05)
    assert len(on) / 48_000 == pytest.approx(1.6, abs=0.02) and on[-1] - on[0] < len(on) + 480
    opened[1].live.get(path.rpartition("/")[2]).close()
    wait_until(lambda: not opened[1].live.active)


@pytest.fixture(scope="module")
def address(opened):
    """The same studio on a port of its own."""
    config = uvicorn.Config(opened[0].app, port=0, ws="websockets-sansio", lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_the_benchmarks_own_studio_is_as_it_is_asked_for(monkeypatch):
    """Codec and size are those of the job; one that does not start is told in a line."""
    commands = []

    def started(command, stdout, **settings):
        commands.append(command)
        stdout.write("error: no such folder\n")
        stdout.flush()
        return subprocess.Popen(["true"])

    plain = types.SimpleNamespace(Popen=started, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT)
    monkeypatch.setattr(live_clients, "subprocess", plain)
    config = VASAConfig(job="benchmark_live", checkpoint="mine", size=512)
    with pytest.raises(InputError, match="did not start"), live_clients.own_studio(config, 7):
        pass
    for setting in ("checkpoint=mine", "size=512", "studio.live_sessions=7"):
        assert f"--config.{setting}" in commands[0]


def test_the_benchmark_measures_what_its_clients_get(address, opened, tmp_path, capsys):
    settings = LiveBenchmarkConfig(sessions=(1,), seconds=2.0, address=address + "/")
    (row,) = main.run(VASAConfig(job="benchmark_live", live_benchmark=settings), tmp_path)
    assert row.sessions == 1 and 0 < row.first_frame < 3 and 0.2 < row.latency < 2
    assert 0 <= row.late <= 1 and row.behind < 1.5 and 0 < row.frames_per_second < 25.1
    assert row.skew < 0.022  # a packet of AAC
    assert 0 < row.cores < os.cpu_count() + 0.1 and 50 < row.memory < 50_000 and row.gpu is None
    assert json.loads((tmp_path / "live.json").read_text()) == [dataclasses.asdict(row)]
    text = (tmp_path / "live.md").read_text()
    assert capsys.readouterr().out == text and text.splitlines()[-1].startswith("| 1 | ")
    wait_until(lambda: not opened[1].live.active)


def test_a_studio_that_takes_its_time_is_told_by_what_it_does(monkeypatch):
    """How long it may take is a setting; it is ended then."""
    started = []

    def slow(command, stdout, **settings):
        stdout.write("loading the networks ...\n")
        stdout.flush()
        started.append(subprocess.Popen(["sleep", "60"]))
        return started[0]

    plain = types.SimpleNamespace(
        Popen=slow, DEVNULL=subprocess.DEVNULL, STDOUT=subprocess.STDOUT, TimeoutExpired=subprocess.TimeoutExpired
    )
    monkeypatch.setattr(live_clients, "subprocess", plain)
    config = VASAConfig(job="benchmark_live", live_benchmark=LiveBenchmarkConfig(start=1.0))
    line = r"not open after 1 s \(loading the networks \.\.\.\); raise config\.live_benchmark\.start"
    with pytest.raises(InputError, match=line), live_clients.own_studio(config, 1):
        pass
    assert started[0].poll() is not None


def test_a_server_that_does_not_answer_in_time_may_compile():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=r"no answer in 0\.2 s, perhaps it compiles; raise config"):
            request(address, "/v1/live", {}, patience=0.2)


@pytest.mark.parametrize(
    ("changes", "line"),
    [({"sessions": (2,)}, "refuses .503 .*all 1 live"), ({"address": "http://127.0.0.1:9"}, "does not answer")],
)
def test_a_benchmark_that_cannot_be_is_one_line(address, opened, tmp_path, changes, line):
    settings = LiveBenchmarkConfig(**{"sessions": (1,), "seconds": 0.5, "address": address, **changes})
    with pytest.raises(InputError, match=line):
        main.run(VASAConfig(job="benchmark_live", live_benchmark=settings), tmp_path)
    assert not list(tmp_path.iterdir())
    wait_until(lambda: not opened[1].live.active)


def test_nobody_plays_it(generator, tmp_path, monkeypatch):
    monkeypatch.setattr("vasa_jax.serving.live.UNSEEN", 0.2)
    with served(generator, tmp_path, live_steps=STEPS) as (client, studio):
        assert open_one(client).status_code == 201
        wait_until(lambda: not studio.live.active)


@pytest.mark.parametrize("level", [None, 0.001, 0.1])
def test_nothing_is_said(generator, tmp_path, monkeypatch, level):
    """A microphone that hears a quiet room says nothing either, and one that hears a voice does."""
    monkeypatch.setattr("vasa_jax.serving.live.QUIET", 0.6)
    piece = (32_767 * (level or 0.0) * np.random.default_rng(0).normal(size=4800)).astype("<i2").tobytes()
    with served(generator, tmp_path, live_steps=STEPS) as (client, _):
        path = open_one(client).json()["socket"]
        with client.websocket_connect(path, headers=HEADERS) as socket:
            player, hops = Player(socket), 0
            player.send(type="microphone", rate=48_000)
            while (line := player.next_hop())["type"] == "hop" and hops < 12:
                hops += 1
                for _ in range(round(10 * line["seconds"]) if level else 0):
                    socket.send_bytes(piece)
            assert ("nothing was said" in line.get("reason", "")) == (level != 0.1)
            player.socket.close()


def test_the_end_of_the_server_ends_a_session(generator, tmp_path):
    with served(generator, tmp_path, live_steps=STEPS) as (client, studio):
        path = open_one(client).json()["socket"]
        with client.websocket_connect(path, headers=HEADERS) as socket:
            player = Player(socket)
            player.next_hop()
            threading.Timer(0.1, studio.closing.set).start()
            assert player.until(lambda line: line["type"] == "end")["reason"] == "the server ends"
