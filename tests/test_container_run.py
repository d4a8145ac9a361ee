"""The built container at work, as compose.yaml runs it, on a network that leads nowhere. Run by hand, with an engine:

    docker build -f docker/Dockerfile -t vasa_jax . && pytest -n 0 -m slow -s tests/test_container_run.py

VASA_JAX_IMAGE (default vasa_jax) says which image.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import httpx2 as httpx
import pytest
from sounds import wav

from vasa_jax.data.video_files import read_video
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.provenance import read_manifest

ROOT = Path(__file__).parents[1]
IMAGE = os.environ.get("VASA_JAX_IMAGE", "vasa_jax")
HEALTHY = 300  # seconds until it must be, at the latest


def docker(*words: str) -> str:
    answer = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def has_image() -> bool:
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode
    )


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not has_image(), reason=f"no engine with an image {IMAGE} here")]


def as_composed(name: str) -> list[str]:
    """Words of `docker run` for what compose.yaml says of the service, but for ports: its network leads nowhere."""
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["studio"]
    assert service.keys() == {
        "build", "environment", "ports", "volumes", "read_only", "tmpfs", "cap_drop", "security_opt", "restart",
        "stop_grace_period",
    }  # fmt: skip
    words = ["--read-only"] if service["read_only"] else []
    for option, values in (
        ("--tmpfs", service["tmpfs"]), ("--cap-drop", service["cap_drop"]), ("--restart", [service["restart"]]),
        ("--security-opt", service["security_opt"]),
        ("--volume", [f"{name}_{volume}" for volume in service["volumes"]]),
    ):  # fmt: skip
        words += [word for value in values for word in (option, value)]
    return words


@pytest.fixture
def container():
    """The name of a running container, which ends with its volumes and its network."""
    name = f"vasa_jax_test_{secrets.token_hex(4)}"
    docker("network", "create", "--internal", name)
    try:
        docker("run", "-d", "--name", name, "--network", name, "-e", f"VASA_JAX_KEY={name}", *as_composed(name), IMAGE)
        yield name
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True)
        subprocess.run(["docker", "network", "rm", name], capture_output=True)
        subprocess.run(["docker", "volume", "rm", f"{name}_jobs", f"{name}_home"], capture_output=True)


def told(name: str, what: str) -> str:
    return docker("inspect", "-f", "{{" + what + "}}", name)


def healthy(name: str) -> float:
    """Waits until the engine calls it healthy; returns the seconds."""
    start = time.monotonic()
    while (state := told(name, ".State.Health.Status")) != "healthy":
        assert state == "starting" and time.monotonic() - start < HEALTHY, docker("logs", name)
        time.sleep(1)
    return time.monotonic() - start


def client_of(name: str) -> httpx.Client:
    address = json.loads(told(name, "json .NetworkSettings.Networks"))[name]["IPAddress"]
    return httpx.Client(base_url=f"http://{address}:7860", timeout=60, headers={"Authorization": f"Bearer {name}"})


def done(client: httpx.Client, job: str, seconds: float = 600) -> dict:
    end = time.monotonic() + seconds
    while (state := client.get(f"/v1/videos/{job}").json())["state"] in ("waiting", "running"):
        assert time.monotonic() < end, state
        time.sleep(0.5)
    assert state["state"] == "done", state
    return state["result"]


def post(client: httpx.Client, seconds: float) -> str:
    files = {"portrait": DEMO["image"].read_bytes(), "sound": wav(seconds)}
    return client.post("/v1/videos", files=files).raise_for_status().json()["id"]


def test_it_makes_a_video_and_outlives_its_end(container, tmp_path):
    print(f"healthy after {healthy(container):.0f} s")
    status = docker("exec", container, "cat", "/proc/1/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert "0" not in fields["Uid"].split() and int(fields["CapEff"], 16) == 0 and int(fields["NoNewPrivs"]) == 1
    assert subprocess.run(["docker", "exec", container, "touch", "/a"], capture_output=True).returncode
    with client_of(container) as client:
        assert client.get("/v1/about", headers={"Authorization": "Bearer another-key"}).status_code == 401
        job = post(client, 1.0)
        made = done(client, job)
        print(f"{made['frames']} frames of {made['width']} pixels in {made['took']:.0f} s")
        path = tmp_path / "made.mp4"
        path.write_bytes(client.get(f"/v1/videos/{job}/result").content)
        waits = post(client, 2.0)
    assert len(list(read_video(path).frames)) == made["frames"] == 25
    assert read_manifest(path).state == "valid"
    docker("stop", "-t", "30", container)
    assert told(container, ".State.ExitCode") == "0"
    docker("start", container)
    healthy(container)
    with client_of(container) as client:
        assert client.get(f"/v1/videos/{job}").json()["state"] == "done"
        assert done(client, waits)["frames"] == 50
        assert client.get(f"/v1/videos/{job}/result").content == path.read_bytes()
