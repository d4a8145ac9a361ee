"""The studio's start: keys, addresses, and what is told when something is missing."""

import importlib.util
import socket
import tomllib
from pathlib import Path

import pytest
from hostile import refused

from vasa_jax.config import StudioConfig, VASAConfig
from vasa_jax.main import parse
from vasa_jax.serving.job import KEY_VARIABLE, NEEDED, api_key, check_address, studio

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef"


def config(**settings):
    return VASAConfig(job="studio", studio=StudioConfig(**settings)).validate()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_no_key_is_needed_here(host):
    assert api_key(config(host=host)) == ""


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"host": "::"}, {"host": "10.1.1.5"}, {"names": ("a.org",)}])
def test_a_key_is_needed_elsewhere(settings, monkeypatch, tmp_path):
    refused(lambda: api_key(config(**settings)), "can be reached from other machines", KEY_VARIABLE)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert api_key(config(**settings)) == KEY
    path = tmp_path / "key"
    path.write_text("another-key-of-20-letters\n")
    assert api_key(config(**settings, key_file=str(path))) == "another-key-of-20-letters"


@pytest.mark.parametrize("text", ["", "short", "two words of the key", "ü" * 20, "a" * 5000])
def test_bad_keys(text, tmp_path):
    path = tmp_path / "key"
    path.write_text(text)
    refused(lambda: api_key(config(key_file=str(path))), "key")
    refused(lambda: api_key(config(key_file=str(tmp_path / "none"))), "none")


def test_addresses():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(lambda: check_address("127.0.0.1", taken.getsockname()[1]), "cannot be listened on")
    refused(lambda: check_address("no.such.host.invalid", 80), "cannot be listened on")
    check_address("127.0.0.1", 0)


@pytest.mark.parametrize(("module", "package"), NEEDED.items())
def test_a_missing_package_is_named(monkeypatch, tmp_path, module, package):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else found(name))
    refused(lambda: studio(config(), tmp_path), f"{package} not installed", f"pip install {package}`")


def test_the_packages_are_those_of_the_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [word.partition(">=")[0] for word in extras["studio"]] == list(NEEDED.values())


def test_the_shipped_configuration():
    made, _ = parse(["main", "--config", "configs/studio.py", "--config.studio.port=0", "--config.studio.live_steps=6"])
    assert (made.job, made.studio.host, made.studio.port, made.studio.live_steps) == ("studio", "127.0.0.1", 0, 6)
    assert made.limits.hours < 0.1 and made.mark
