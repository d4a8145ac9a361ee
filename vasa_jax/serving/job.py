"""The `studio` job: the page, the live avatar and the HTTP API, until it is stopped."""

import importlib.util
import ipaddress
import os
import re
import socket
import threading
from pathlib import Path

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError, say
from vasa_jax.files import read_bytes
from vasa_jax.generation.provenance import point_to_responsible_use
from vasa_jax.serving.loopback import is_loopback

NEEDED = {  # modules of the extra `studio` -> their packages
    "fastapi": "fastapi", "uvicorn": "uvicorn", "websockets": "websockets", "multipart": "python-multipart",
    "prometheus_client": "prometheus_client", "aiortc": "aiortc",
}  # fmt: skip
SHORTEST_KEY = 16  # characters
KEY_VARIABLE = "VASA_JAX_KEY"
CPU_BATCH = 2  # frames decoded at once on a CPU, where more are no faster: 0.3 s of a core, after which a job may end
ICE_SERVER = r"(stun|turns?):[A-Za-z0-9.-]+(:\d{1,5})?(\?transport=(udp|tcp))?"


def studio(config: VASAConfig, workdir: str | Path) -> None:
    """Serves until SIGINT or SIGTERM. Jobs are kept in `workdir`, and go on when it is started again.

    InputError where the extra `studio` is not installed, an address cannot be used or lacks a key.
    """
    needs_the_extra()
    key = api_key(config)
    secret = ice_secret(config)
    check_address(config.studio.host, config.studio.port)
    point_to_responsible_use()
    say("loading the networks ...")
    import jax

    from vasa_jax.generation.generator import VideoGenerator
    from vasa_jax.serving.app import create_app
    from vasa_jax.serving.server import StudioServer
    from vasa_jax.serving.studio import Studio

    batch = min(config.decode_batch, CPU_BATCH) if jax.default_backend() == "cpu" else config.decode_batch
    generator = VideoGenerator.from_pretrained(
        config.checkpoint, batch, mark=config.mark, size=config.size,
        motion_generator=config.motion_generator,
    )  # fmt: skip
    opened = Studio(config, generator, Path(workdir), secret)
    if opened.live.most:
        threading.Thread(target=opened.live.warm_up, name="warm up", daemon=True).start()
    server = StudioServer(create_app(opened, key), opened)
    server.run()
    say("stopped; what waits is made when the studio is started again")


def needs_the_extra() -> None:
    """Raises InputError for what is not installed of the extra `studio`."""
    missing = [package for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"studio: {', '.join(missing)} not installed; run `pip install {' '.join(missing)}`")


def api_key(config: VASAConfig) -> str:
    """Returns the key that requests must name, empty where none is needed; InputError where one is missing or short."""
    settings, key = config.studio, os.environ.get(KEY_VARIABLE, "")
    if settings.key_file:
        key = read_key(settings.key_file)
    elif key:
        check_key(key, KEY_VARIABLE)
    if not key and (settings.names or not is_loopback(settings.host)):
        name = f"names: {settings.names[0]}" if settings.names else f"host: {settings.host}"
        raise InputError(
            f"config.studio.{name} can be reached from other machines; give config.studio.key_file or set "
            f"{KEY_VARIABLE}, or use 127.0.0.1 alone"
        )
    return key


def ice_secret(config: VASAConfig) -> str:
    """Returns the secret shared with TURN servers, empty where there is none; InputError for settings that are none."""
    settings = config.studio
    for url in settings.ice:
        if not re.fullmatch(ICE_SERVER, url):
            raise InputError(
                f"config.studio.ice: {url} is no server; write stun:HOST:PORT or turn:HOST:PORT?transport=udp"
            )
    for host in settings.udp_hosts:
        if not is_address(host):
            raise InputError(f"config.studio.udp_hosts: {host} is no address; write numbers, such as 192.0.2.7")
    return read_key(settings.ice_secret_file) if settings.ice_secret_file else ""


def is_address(host: str) -> bool:
    """Returns whether a text is an address of IPv4 or IPv6, no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def read_key(path: str) -> str:
    """Returns what a file of one line holds; InputError where it is no key."""
    key = read_bytes(path, "give a file with one line, the key", 4096).decode("utf-8", "replace").strip()
    if not key:
        raise InputError(f"{path}: is empty; write a key of {SHORTEST_KEY} characters or more into it")
    check_key(key, path)
    return key


def check_key(key: str, where: str) -> None:
    """Raises InputError for what anybody could guess, or no header can hold."""
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"{where}: is no key; use {SHORTEST_KEY} or more letters and digits")


def check_address(host: str, port: int) -> None:
    """Raises InputError for an address that cannot be listened on, before the networks are loaded."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        fault = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(
            f"config.studio.host, port: {host}:{port} cannot be listened on ({fault}); choose another"
        ) from None
