"""A player over WebRTC, in a thread of its own: what a browser does, without one."""

import asyncio
import contextlib
import fractions
import json
import threading
import time

import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

RATE, HOME = 48_000, ["127.0.0.1"]


class Microphone(MediaStreamTrack):
    """A tone of 20 ms pieces while `on`, else silence."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.on, self._number, self._begin = True, 0, time.monotonic()

    async def recv(self):
        await asyncio.sleep(max(self._begin + 0.02 * self._number - time.monotonic(), 0))
        tone = 6000 * np.sin(2 * np.pi * 440 * np.arange(960) / RATE) * self.on
        frame = AudioFrame.from_ndarray(tone.astype("<i2")[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 960 * self._number, fractions.Fraction(1, RATE)
        self._number += 1
        return frame


class Viewer:
    """Offers, plays, and notes what came.

    Attributes:
      pictures: (when it came, its time in seconds, the frame) of each; sounds: (when, time, loudness) of each 20 ms.
    """

    def __init__(self, microphone=None, kinds=("audio", "video")):
        self.pictures, self.sounds, self.microphone = [], [], microphone
        self._watches = []
        self._kinds, self._loop = kinds, asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if hasattr(self, "peer"):
            self._do(self.peer.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def offer(self) -> str:
        return self._do(self._offer())

    def accept(self, answer: str) -> None:
        self._do(self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer")))

    def connect(self, socket) -> dict:
        """Does the talking over a socket; returns the server's hello."""
        hello = json.loads(socket.receive_text())
        socket.send_text(json.dumps({"type": "offer", "sdp": self.offer()}))
        answer = json.loads(socket.receive_text())
        assert answer["type"] == "answer"
        self.accept(answer["sdp"])
        return hello | answer

    def _do(self, work, seconds=20):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    async def _offer(self) -> str:
        self.peer = RTCPeerConnection(RTCConfiguration([]))
        for kind in self._kinds:
            if kind == "audio" and self.microphone:
                self.peer.addTrack(self.microphone)
            elif kind == "data":
                self.peer.createDataChannel("words")
            else:
                self.peer.addTransceiver(kind, "recvonly")
        for transceiver in self.peer.getTransceivers():
            connection = transceiver.sender.transport.transport.iceGatherer._connection
            gather = connection.get_component_candidates
            connection.get_component_candidates = lambda component, addresses, gather=gather: gather(component, HOME)

        @self.peer.on("track")
        def track(track):
            self._watches.append(asyncio.ensure_future(self._watch(track)))

        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def _watch(self, track):
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                now = time.monotonic()
                if track.kind == "video":
                    self.pictures.append((now, float(frame.time), frame.to_ndarray(format="rgb24")))
                else:
                    loudness = float(np.abs(frame.to_ndarray().astype(np.float32)).mean()) / 32768
                    self.sounds.append((now, float(frame.time), loudness))
