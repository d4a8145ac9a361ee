"""A session of a live avatar in this process, and what its sockets say."""

import json
import time

from vasa_jax.generation.job import DEMO

HEADERS = {"host": "127.0.0.1:7860"}


def open_one(client, **fields):
    return client.post("/v1/live", files={"portrait": DEMO["image"].read_bytes()}, data={"crop": "center", **fields})


class Player:
    """Reads a session's messages: its lines, and all its bytes."""

    def __init__(self, socket):
        self.socket, self.stream, self.lines = socket, b"", []

    def next_hop(self):
        while True:
            message = self.socket.receive()
            if message.get("bytes"):
                self.stream += message["bytes"]
                if self.lines[-1]["type"] == "hop":
                    return self.lines[-1]
            elif message.get("text"):
                self.lines.append(json.loads(message["text"]))
                if self.lines[-1]["type"] == "end":
                    return self.lines[-1]
            else:
                return {**message, "type": "closed"}

    def until(self, wanted, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            hop = self.next_hop()
            if wanted(hop):
                return hop
            assert hop["type"] != "closed", hop
        raise AssertionError("it did not come")

    def send(self, **word):
        self.socket.send_text(json.dumps(word))


def wait_until(done, seconds=5):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)
