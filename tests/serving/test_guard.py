"""Who may ask what: hosts, sites, keys and sizes, on an application that only answers."""

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from vasa_jax.serving.guard import COOKIE, Guard, cookie_of

KEY = "0123456789abcdef"
HERE = "http://127.0.0.1:7860"


def client(key="", names=("127.0.0.1", "localhost", "[::1]"), largest=1000, seconds=5.0):
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST", "OPTIONS"])
    async def answer(request: Request):
        return {"read": len(await request.body())}

    @app.websocket("/v1/live/a")
    async def live(socket: WebSocket):
        await socket.accept()
        await socket.send_text("hello")

    app.add_middleware(Guard, key=key, names=names, largest=largest, seconds=seconds)
    return TestClient(app, base_url=HERE)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:7860", "[::1].evil"])
def test_other_hosts_are_refused(host):
    assert client().get("/v1/about", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "LOCALHOST:1", "[::1]:7860"])
def test_own_hosts(host):
    assert client().get("/v1/about", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:8000", "file://"])
def test_other_sites_are_refused(origin):
    answer = client().post("/v1/videos", headers={"origin": origin})
    assert answer.status_code == 403 and "another site" in answer.json()["detail"]
    assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(WebSocketDisconnect), client().websocket_connect("/v1/live/a", headers={"origin": origin}):
        pass


def test_own_page_and_programs():
    assert client().post("/v1/videos", headers={"origin": HERE}).status_code == 200
    for headers in ({}, {"origin": HERE}):
        with client().websocket_connect("/v1/live/a", headers={"host": "127.0.0.1:7860", **headers}) as socket:
            assert socket.receive_text() == "hello"


def test_pictures_of_other_sites_cannot_read():
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert client().get("/v1/videos/x/result", headers={"sec-fetch-site": site}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"cookie": f"a=b; {COOKIE}={cookie_of(KEY)}"}],
)
def test_keys(headers):
    guarded = client(KEY)
    assert guarded.get("/v1/about", headers=headers).status_code == 200
    assert guarded.get("/metrics", headers=headers).status_code == 200
    wrong = {name: value[:-1] for name, value in headers.items()}
    for bad in (wrong, {}, {"authorization": KEY}, {"cookie": f"{COOKIE}={KEY}"}, {"x-api-key": "schlüssel".encode()}):
        assert guarded.get("/v1/about", headers=bad).status_code == 401
        assert guarded.get("/metrics", headers=bad).status_code == 401
    with pytest.raises(WebSocketDisconnect), guarded.websocket_connect("/v1/live/a", headers={"host": "127.0.0.1"}):
        pass
    assert guarded.get("/").status_code == guarded.get("/v1/health").status_code == 200


def test_sizes():
    few = client(largest=1000)
    assert few.post("/v1/videos", content=b"x" * 1000).json() == {"read": 1000}
    assert few.post("/v1/videos", content=b"x" * 1001).status_code == 413
    pieces = few.post("/v1/videos", content=(b"x" * 100 for _ in range(11)))  # says no length
    assert pieces.status_code == 413 and "MiB" in pieces.json()["detail"]
    for length in ("-1", "1e3", "9" * 5000, "²"):
        assert few.post("/v1/videos", headers={"content-length": length.encode()}).status_code in (400, 413)


def test_answers_keep_to_themselves():
    headers = client().get("/").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    asked = client().options("/v1/videos", headers={"access-control-request-method": "POST"})
    assert not [name for name in asked.headers if name.startswith("access-control")]
