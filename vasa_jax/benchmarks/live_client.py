"""One client of a live avatar, as a browser is one: it opens a session, speaks, and notes what comes back when."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vasa_jax.conventions import FPS, SAMPLE_RATE
from vasa_jax.errors import InputError
from vasa_jax.serving.fragments import fragment_ends

PIECE = 0.1  # seconds of sound that are sent at once
AHEAD = 2 / FPS  # seconds of sound that the server takes before their hop
SILENT = 60.0  # seconds without a message after which a server counts as lost
BOUNDARY = "vasa-jax-live-benchmark"


@dataclass(frozen=True)
class Arrival:
    """A hop: what the server says of it, and seconds since the request for the session."""

    about: dict[str, Any]
    at: float
    latency: float | None  # seconds since its first sound was spoken, None where it has none
    skew: float  # seconds by which the pictures so far end after the sound so far


class LiveClient(threading.Thread):
    """Speaks for some seconds, in a thread.

    Attributes:
      arrivals: hops that came.
      fault: the exception that ended it, None where none did.
    """

    def __init__(
        self, address: str, headers: dict[str, str], portrait: bytes, samples: np.ndarray, seconds: float,
        patience: float,
    ):  # fmt: skip
        """Prepares a client of http://HOST:PORT.

        headers: of its requests; portrait: bytes of a picture; samples: int16 (N,) at 16 kHz, said again and again;
        patience: seconds in which a request must be answered.
        """
        super().__init__(name="live client", daemon=True)
        self._address, self._headers, self._portrait = address, headers, portrait
        self._samples, self._seconds, self._sent, self._patience = samples, seconds, 0, patience
        self.arrivals: list[Arrival] = []
        self.fault: Exception | None = None

    def run(self) -> None:
        """Does it all; an exception is kept for whoever joins the thread."""
        try:
            self._start = time.monotonic()
            opened = json.loads(
                request(self._address, "/v1/live", self._headers, self._portrait, patience=self._patience)
            )
            try:
                self._talk(self._address.replace("http", "ws", 1) + opened["socket"])
            finally:
                self._leave(opened["socket"])
        except Exception as error:  # told to the main thread
            self.fault = error

    def _leave(self, path: str) -> None:
        """Ends the session and waits until its seat is free: it makes its hop to the end."""
        until = time.monotonic() + SILENT
        with contextlib.suppress(InputError):  # it is not there any more
            while time.monotonic() < until:
                request(self._address, path, self._headers, method="DELETE")
                time.sleep(0.05)

    def _talk(self, path: str) -> None:
        from websockets.sync.client import connect

        with connect(path, max_size=None, additional_headers=self._headers) as socket:
            socket.send(json.dumps({"type": "microphone", "rate": SAMPLE_RATE}))
            speaking = time.monotonic()
            silence, about = speaking, None
            while (now := time.monotonic()) < speaking + self._seconds:
                due = int((now - speaking) / PIECE)  # pieces that have been spoken by now
                for number in range(self._sent, due):
                    socket.send(self._piece(number))
                    self._sent = due
                try:
                    message = socket.recv(timeout=PIECE / 2)
                except TimeoutError:
                    if now - silence > SILENT:
                        raise InputError(f"{self._address}: says nothing; look at the studio's own output") from None
                    continue
                silence = time.monotonic()
                if isinstance(message, str):
                    line = json.loads(message)
                    about = line if line["type"] == "hop" else None
                    if line["type"] == "end":
                        raise InputError(f"{self._address}: the session ended ({line['reason']}); give it more time")
                elif about:
                    self._note(about, message, silence - speaking)

    def _piece(self, number: int) -> bytes:
        count = round(PIECE * SAMPLE_RATE)
        return np.take(self._samples, np.arange(number * count, (number + 1) * count), mode="wrap").tobytes()

    def _note(self, about: dict[str, Any], fragment: bytes, spoken: float) -> None:
        """Notes a hop that came when `spoken` seconds of sound had been spoken."""
        first = about["heard"] - about["seconds"] - AHEAD
        heard = about["speaks"] and not about["skipped"] and first >= 0
        latency = spoken - first if heard else None
        ends = fragment_ends(fragment)
        self.arrivals.append(Arrival(about, time.monotonic() - self._start, latency, ends[0] - ends[1]))


def request(
    address: str, path: str, headers: dict[str, str], portrait: bytes | None = None, method: str = "POST",
    patience: float = 600.0,
) -> bytes:  # fmt: skip
    """Returns the answer to a request, with a picture as a form where one is given.

    InputError for a refusal, and for no answer within `patience` seconds.
    """
    body, headers = None, dict(headers)
    if portrait is not None:
        head = 'Content-Disposition: form-data; name="portrait"; filename="portrait"'
        body = f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + portrait + f"\r\n--{BOUNDARY}--\r\n".encode()
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    asked = urllib.request.Request(address + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=patience) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        fault = error.read().decode("utf-8", "replace")[:300]
        raise InputError(f"{address}: refuses ({error.code} {fault}); look at its settings") from None
    except TimeoutError:
        raise InputError(
            f"{address}: gave no answer in {patience:g} s, perhaps it compiles; raise config.live_benchmark.start"
        ) from None
    except OSError as error:
        raise InputError(f"{address}: does not answer ({error}); start a studio there") from None


def speak_together(clients: Sequence[LiveClient]) -> None:
    """Runs clients at once and waits for all; raises the first fault of theirs."""
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for client in clients:
        if client.fault:
            raise client.fault
