"""A live avatar over WebRTC: sound and pictures by UDP, which loses packets rather than waiting for them.

A browser's offer comes over the session's WebSocket, with the same key, origin and limits as the other player's. The
answer goes back there. The server names its addresses, and speaks to nobody who has not first sent it a check with the
session's password. So an offer cannot make it send packets to others (as ICE lite, RFC 8445 section 2.5). Only where
the operator named STUN or TURN servers does it use the addresses of the offer.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from vasa_jax.errors import InputError
from vasa_jax.serving.fragments import RATE
from vasa_jax.serving.players import Hop, Send
from vasa_jax.serving.playout import BLOCK, Playout

LONGEST_OFFER = 32_768  # characters
MOST_LINES = 600  # of an offer
PATIENCE = 15.0  # seconds in which a connection must come about
SAME = 10  # blocks after which a picture that does not change is sent again
MOST_HELD = {"audio": 10, "video": 2}  # frames that wait for a slow encoder
CREDENTIAL_HOURS = 12
SECTIONS = ["audio", "video"]  # what an offer holds, once each
CODECS = ("audio/opus", "video/VP8")  # of these; every browser has both


def ice_servers(urls: tuple[str, ...], secret: str) -> list[dict[str, str]]:
    """Returns STUN and TURN servers as browsers take them.

    secret: shared with the TURN servers, from which names and passwords are made that end after hours (coturn's
      `static-auth-secret`); empty where none is used.
    """
    servers = [{"urls": url} for url in urls]
    if secret:
        name = f"{int(time.time()) + 3600 * CREDENTIAL_HOURS}:studio"
        word = base64.b64encode(hmac.new(secret.encode(), name.encode(), hashlib.sha1).digest()).decode()
        for server in servers:
            if server["urls"].startswith("turn"):
                server |= {"username": name, "credential": word}
    return servers


class _Outgoing(MediaStreamTrack):
    """What one sender encodes; the oldest is dropped where it is too slow."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self._frames, self._there = deque(maxlen=MOST_HELD[kind]), asyncio.Event()

    def give(self, frame: AudioFrame | VideoFrame, block: int) -> None:
        """Adds a frame that belongs to a block of 20 ms since the start."""
        frame.pts, frame.time_base = block * BLOCK, Fraction(1, RATE)
        self._frames.append(frame)
        self._there.set()

    async def recv(self) -> AudioFrame | VideoFrame:
        while not self._frames:
            self._there.clear()
            await self._there.wait()
        return self._frames.popleft()


class WebRtcPlayer:
    """One connection to a browser. Made, `answer`ed and `close`d on the event loop; see `players.Player`."""

    def __init__(
        self, send: Send, hear: Callable[[np.ndarray, int], None], hosts: list[str], servers: list[dict[str, str]]
    ):
        """send: takes lines of JSON; hear: float32 (N,) of the microphone and its rate.

        hosts: addresses on which its UDP port is opened, empty = all; servers: see `ice_servers`.
        """
        self._send, self._hear, self._hosts, self._servers = send, hear, hosts, servers
        self._playout, self._tasks = Playout(), set()
        self._peer = RTCPeerConnection(RTCConfiguration([RTCIceServer(**server) for server in servers]))
        self._sound, self._pictures = _Outgoing("audio"), _Outgoing("video")
        self._peer.addTransceiver(self._sound, "sendrecv")
        self._peer.addTransceiver(self._pictures, "sendonly")
        for transceiver, codec in zip(self._peer.getTransceivers(), CODECS):
            known = RTCRtpSender.getCapabilities(transceiver.kind).codecs
            transceiver.setCodecPreferences([item for item in known if item.mimeType == codec])
            self._open_on_hosts(transceiver.sender.transport.transport)
        self.connected, self.gone = asyncio.Event(), asyncio.Event()

        @self._peer.on("connectionstatechange")
        def changed() -> None:
            if self._peer.connectionState == "connected":
                self.connected.set()
            elif self._peer.connectionState in ("failed", "closed"):
                self.gone.set()

        @self._peer.on("track")
        def track(incoming: MediaStreamTrack) -> None:
            if incoming.kind == "audio":
                self._begin(self._listen(incoming))

    async def answer(self, offer: str) -> str:
        """Returns the answer to an offer, both SDP; InputError for what is none."""
        text = checked_offer(offer, keep_addresses=bool(self._servers))
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(text, "offer"))
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as error:  # the library's parser has no class for a text that is no offer
            line = f"offer: is none that can be answered ({type(error).__name__}); offer audio and video"
            raise InputError(line) from None
        return self._peer.localDescription.sdp

    def start(self) -> None:
        """Begins to send, at the pace of the clock."""
        self._begin(self._pump())

    def play(self, hop: Hop) -> bool:
        """Takes a hop of the session's thread."""
        delay = self._playout.put(hop)
        return self._send(json.dumps(hop.about | {"delay": round(delay, 3), "stalls": self._playout.stalls}))

    def interrupt(self, number: int) -> None:
        """Ends the sound and closes the mouth with the next 20 ms."""
        self._playout.interrupt(number)

    async def close(self) -> None:
        """Ends the connection and frees its port."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._peer.close()

    def _begin(self, work) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)

    def _open_on_hosts(self, transport) -> None:
        """Has a connection's ports opened on the wanted addresses alone; the library knows no setting for it."""
        if self._hosts:
            connection = transport.iceGatherer._connection
            gather = connection.get_component_candidates
            connection.get_component_candidates = lambda component, addresses: gather(component, self._hosts)

    async def _pump(self) -> None:
        """Gives both tracks what is due. Their times are counted in the same blocks, so that they stay in step."""
        loop, block, last, sent = asyncio.get_running_loop(), 0, None, -SAME
        begin = loop.time()
        while True:
            samples, picture = self._playout.next()
            pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2")
            frame = AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
            frame.sample_rate = RATE
            self._sound.give(frame, block)
            if picture is not None and (picture is not last or block - sent >= SAME):
                last, sent = picture, block
                self._pictures.give(VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"), block)
            block += 1
            await asyncio.sleep(max(begin + block * BLOCK / RATE - loop.time(), 0))

    async def _listen(self, incoming: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await incoming.recv()
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels)).mean(1, dtype=np.float32)
                self._hear(samples / 32768.0, frame.sample_rate)


def checked_offer(offer: str, keep_addresses: bool) -> str:
    """Returns an offer of SDP, without the addresses of who made it unless they are to be used.

    InputError for one that is too large, or offers anything but one audio and one video section.
    """
    lines = offer.replace("\r\n", "\n").split("\n")
    if len(offer) > LONGEST_OFFER or len(lines) > MOST_LINES:
        raise InputError(f"offer: is too large; send up to {LONGEST_OFFER} characters and {MOST_LINES} lines of SDP")
    kinds = [line[2:].split(" ")[0] for line in lines if line.startswith("m=")]
    if sorted(kinds) != SECTIONS or lines[0] != "v=0":
        raise InputError("offer: is no SDP with one audio and one video section; offer these, without data channels")
    if not any(re.match("a=fingerprint:sha-(256|384|512) ", line, re.IGNORECASE) for line in lines):
        raise InputError("offer: has no fingerprint; without a=fingerprint:sha-256 nobody knows who is there")
    if not keep_addresses:
        lines = [line for line in lines if not re.match("a=(candidate|end-of-candidates)", line)]
    return "\r\n".join(lines)
