"""A studio as a process: killed and started again, and live clients for minutes. Run by hand (marker slow).

STUDIO_SECONDS (default 60) and STUDIO_CLIENTS (default 2) say how long and how many; STUDIO_CHECKPOINT which weights.
"""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx2 as httpx
import numpy as np
import pytest
from rtc_viewer import Microphone, Viewer
from studio_process import studio_process
from tiny_model import save_tiny_model
from tiny_studio import wav
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vasa_jax.generation.job import DEMO

pytestmark = pytest.mark.slow
SECONDS, CLIENTS = int(os.environ.get("STUDIO_SECONDS", 60)), int(os.environ.get("STUDIO_CLIENTS", 2))
IDLE_CLIENT = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], max_size=None) as socket:
    print("connected", flush=True)
    for message in socket:
        pass
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return os.environ.get("STUDIO_CHECKPOINT") or save_tiny_model(tmp_path_factory.mktemp("tiny"))


def files(seconds):
    return {"portrait": DEMO["image"].read_bytes(), "sound": wav(seconds)}


def state(address, job):
    return httpx.get(f"{address}v1/videos/{job}").json()


def wait_for(done, seconds=120):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_survive_the_end_of_the_server(checkpoint, tmp_path, end):
    model = f"--config.checkpoint={checkpoint}"
    with studio_process(tmp_path, model, "--config.studio.live_sessions=0") as (address, process):
        posted = [httpx.post(f"{address}v1/videos", files=files(8), timeout=60).json()["id"] for _ in range(3)]
        wait_for(lambda: state(address, posted[0])["state"] == "running")
        process.send_signal(end)
        assert process.wait(30) == (0 if end == signal.SIGTERM else -end)
    with studio_process(tmp_path, model, "--config.studio.live_sessions=0") as (address, _):
        wait_for(lambda: all(state(address, job)["state"] == "done" for job in posted))
        left = sorted(path.name for folder in (tmp_path / "files").iterdir() for path in folder.iterdir())
        assert left == ["portrait"] * 3 + ["result.mp4"] * 3 + ["sound"] * 3


def test_live_clients_come_back_after_the_end_of_the_server(checkpoint, tmp_path):
    """The server is killed under a player; started again, it gives the seat anew and has left no files behind."""
    model, portrait = f"--config.checkpoint={checkpoint}", {"portrait": DEMO["image"].read_bytes()}
    for end in (signal.SIGKILL, None):
        with studio_process(tmp_path, model) as (address, process):
            opened = httpx.post(f"{address}v1/live", files=portrait, timeout=120).json()
            with connect(address.replace("http", "ws")[:-1] + opened["socket"], max_size=None) as player:
                for _ in range(4):
                    player.recv(timeout=60)
                assert httpx.post(f"{address}v1/live", files=portrait, timeout=120).status_code == 503
                if end:
                    process.send_signal(end)
                    with pytest.raises(ConnectionClosed):
                        while True:
                            player.recv(timeout=20)
        assert not list((tmp_path / "files").iterdir())


class Client(threading.Thread):
    """Speaks and listens until `end`; holds what came."""

    def __init__(self, address, end):
        super().__init__()
        self.address, self.end, self.hops, self.bytes, self.fault = address, end, [], 0, None

    def run(self):
        try:
            opened = httpx.post(
                f"{self.address}v1/live", files={"portrait": DEMO["image"].read_bytes()}, timeout=120
            ).json()
            self.play(self.address.replace("http", "ws")[:-1] + opened["socket"])
            httpx.delete(f"{self.address[:-1]}{opened['socket']}")
        except Exception as error:
            self.fault = error


    def play(self, path):
        with connect(path, max_size=None) as socket:
            piece, sent = wav(0.1)[44:], 0
            socket.send(json.dumps({"type": "microphone", "rate": 16_000}))
            start = time.monotonic()
            while time.monotonic() < self.end:
                while sent < 10 * (time.monotonic() - start):
                    socket.send(piece)
                    sent += 1
                self.note(socket.recv(timeout=20), start)

    def note(self, message, start):
        if isinstance(message, bytes):
            self.bytes += len(message)
        elif (line := json.loads(message))["type"] == "hop":
            self.hops.append(line | {"at": time.monotonic() - start})


class WebRtcClient(Client):
    """The same over WebRTC, the microphone too."""

    def play(self, path):
        with connect(f"{path}/webrtc") as socket, Viewer(Microphone()) as viewer:
            socket.recv()
            socket.send(json.dumps({"type": "offer", "sdp": viewer.offer()}))
            viewer.accept(json.loads(socket.recv())["sdp"])
            start = time.monotonic()
            while time.monotonic() < self.end:
                self.note(socket.recv(timeout=20), start)
                viewer.pictures = viewer.pictures[-1:]
            times = np.diff([when for _, when, _ in viewer.sounds])
            print(f"{len(times)} pieces of sound, {np.mean(times > 0.021):.2%} with a gap before them")
            assert len(times) > 45 * (time.monotonic() - start - 5) and np.mean(times > 0.021) < 0.01


def memory(address):
    text = httpx.get(f"{address}metrics").text
    return float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE).group(1)) / 2**20


@pytest.mark.parametrize("kind", [Client, WebRtcClient])
def test_live_clients_for_minutes(checkpoint, tmp_path, kind):
    with studio_process(
        tmp_path, f"--config.checkpoint={checkpoint}", f"--config.studio.live_sessions={CLIENTS + 1}"
    ) as (address, _):
        lost = httpx.post(f"{address}v1/live", files={"portrait": DEMO["image"].read_bytes()}, timeout=120).json()
        socket = address.replace("http", "ws")[:-1] + lost["socket"]
        killed = subprocess.Popen([sys.executable, "-c", IDLE_CLIENT, socket], stdout=subprocess.PIPE)
        assert killed.stdout.readline() == b"connected\n"
        clients = [kind(address, time.monotonic() + SECONDS) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        held, start = [], time.monotonic()
        while any(client.is_alive() for client in clients):
            time.sleep(SECONDS / 12)
            if time.monotonic() - start > SECONDS / 3 and killed.poll() is None:
                killed.kill()
            held.append(memory(address))
        before, after = np.mean(held[4:8]), np.mean(held[-4:])
        for client in clients:
            assert client.fault is None
            hops = client.hops
            assert hops[0]["start"] == 0 and all(
                abs(a["start"] + a["seconds"] - b["start"]) < 1e-6 for a, b in itertools.pairwise(hops)
            )  # nothing is dropped
            behind = hops[-1]["at"] - hops[0]["at"] - hops[-1]["start"]
            late = sum(hop["late"] for hop in hops) / len(hops)
            rate = sum(hop["rate"] * hop["seconds"] for hop in hops) / (hops[-1]["start"] + hops[-1]["seconds"])
            most, steps = max(hop["behind"] for hop in hops), np.mean([hop["steps"] for hop in hops])
            longest = max(hop["load"] * hop["seconds"] for hop in hops)
            skipped = sum(hop["seconds"] for hop in hops if hop["skipped"])
            print(
                f"{len(hops)} hops, {100 * late:.1f} % late, {behind:.2f} s behind, at most {most:.2f}, "
                f"{skipped:.2f} s skipped, {rate:.1f} frames/s, {steps:.1f} steps, the longest hop took {longest:.2f} s"
            )
            assert abs(behind) < 2.0
            assert max(hop["waiting"] - hop["behind"] for hop in hops if not hop["skipped"]) < 2.0
        seconds = re.search(r"^process_cpu_seconds_total (\S+)", httpx.get(f"{address}metrics").text, re.MULTILINE)
        print(f"CPU: {float(seconds.group(1)):.0f} s in {time.monotonic() - start:.0f} s")
        print(f"memory: {before:.0f} MiB in the second third, {after:.0f} at the end:", *map(round, held))
        assert after < before + 30
        wait_for(lambda: "vasa_live_sessions 0.0" in httpx.get(f"{address}metrics").text)
