"""The page opens by itself for a person at a screen, and for nobody else."""

import asyncio
import os
import pty
import sys
import time
from types import SimpleNamespace

import pytest

from vasa_jax.config import StudioConfig
from vasa_jax.serving import server as module
from vasa_jax.serving.first_page import open_page

ADDRESS = "http://127.0.0.1:7860/"
SCREEN = {"DISPLAY": ":0"}


@pytest.fixture
def terminal():
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file:
        yield file
    os.close(ours)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """A browser, which notes what it opens; call it for that."""
    noted, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {noted}.part && mv {noted}.part {noted}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setattr("webbrowser._tryorder", None)  # it is looked for once in a process
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")

    def read():
        end = time.monotonic() + 20
        while not noted.exists() and time.monotonic() < end:
            time.sleep(0.02)
        return noted.read_text()

    return read


@pytest.mark.parametrize("screen", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_person_at_a_screen_sees_it(opened, terminal, monkeypatch, screen):
    monkeypatch.setenv(screen, ":0")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert open_page(ADDRESS) and opened() == ADDRESS


@pytest.mark.parametrize("there", [{}, SCREEN | {"SSH_CONNECTION": "192.0.2.7 1 192.0.2.8 22"}])
def test_nobody_sees_it(opened, terminal, monkeypatch, there):
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    assert not open_page(ADDRESS)


def test_no_terminal(opened, monkeypatch, tmp_path):
    monkeypatch.setenv("DISPLAY", ":0")
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "stdout", log)
        assert not open_page(ADDRESS)


@pytest.mark.parametrize(
    ("host", "wanted", "opens"), [("127.0.0.1", True, 1), ("127.0.0.1", False, 0), ("0.0.0.0", True, 0)]
)
def test_the_server_opens_its_own_address(monkeypatch, host, wanted, opens):
    found = []
    monkeypatch.setattr(module, "open_page", found.append)
    settings = StudioConfig(host=host, port=0, open_page=wanted)
    studio = SimpleNamespace(config=SimpleNamespace(studio=settings), closing=SimpleNamespace(set=lambda: None))

    async def application(scope, receive, send):
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def serve():
        server = module.StudioServer(application, studio)
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        await server.shutdown()
        return port

    port = asyncio.run(serve())
    assert found == opens * [f"http://127.0.0.1:{port}/"]
