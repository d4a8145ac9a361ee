"""Live avatars over WebRTC, with a tiny model and a client of the same protocol on this machine."""

import asyncio
import contextlib
import json
import socket as sockets
import time

import numpy as np
import pytest
from live_player import HEADERS, Player, open_one, wait_until
from rtc_viewer import Microphone, Viewer
from starlette.websockets import WebSocketDisconnect
from tiny_studio import served, wav

from vasa_jax.config import StudioConfig
from vasa_jax.errors import InputError
from vasa_jax.generation.job import DEMO
from vasa_jax.serving import live_sockets
from vasa_jax.serving.fragments import PER_FRAME, RATE
from vasa_jax.serving.job import ice_secret
from vasa_jax.serving.players import Hop
from vasa_jax.serving.webrtc import LONGEST_OFFER, MOST_LINES, WebRtcPlayer, checked_offer, ice_servers

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def opened(generator, tmp_path_factory):
    with served(generator, tmp_path_factory.mktemp("studio"), live_steps=1) as both:
        yield both


@pytest.fixture
def client(opened):
    return opened[0]


@pytest.fixture
def path(client, opened):
    """A session's socket; the session ends with the test."""
    path = open_one(client).json()["socket"]
    yield path
    if session := opened[1].live.get(path.rpartition("/")[2]):
        session.close()
    wait_until(lambda: not opened[1].live.active)


@pytest.fixture(scope="module")
def offer():
    """What a client offers, and the names and passwords in it."""
    with Viewer() as viewer:
        return viewer.offer()


def webrtc(client, path, **headers):
    return client.websocket_connect(f"{path}/webrtc", headers=HEADERS | headers)


def port_of(answer: str) -> int:
    return int(next(line for line in answer.split("\r\n") if line.startswith("a=candidate")).split(" ")[5])


def is_free(port: int) -> bool:
    with sockets.socket(type=sockets.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def test_a_session(client, path):
    """It is seen in silence, speaks what the microphone hears and what is posted, and stops when interrupted."""
    microphone = Microphone()
    microphone.on = False
    with webrtc(client, path) as socket, Viewer(microphone) as viewer:
        said = viewer.connect(socket)
        hosts = {line.split(" ")[4] for line in said["sdp"].split("\r\n") if line.startswith("a=candidate")}
        assert hosts == {"127.0.0.1"} and said["servers"] == []
        player = Player(socket)
        player.next_line = lambda: json.loads(socket.receive_text())
        wait_until(lambda: len(viewer.pictures) > 10)
        assert viewer.pictures[0][2].shape == (64, 64, 3) and max(loud for _, _, loud in viewer.sounds) < 1e-3
        microphone.on = True
        wait_until(lambda: viewer.sounds[-1][2] > 0.05)
        microphone.on = False
        wait_until(lambda: viewer.sounds[-1][2] < 1e-3)
        other = {"portrait": DEMO["image"].read_bytes()}
        before = np.mean([frame for *_, frame in viewer.pictures[-3:]], axis=0)
        assert client.put(f"{path}/portrait", files=other, data={"crop": "0,0,120"}).status_code == 204
        wait_until(lambda: np.abs(viewer.pictures[-1][2] - before).mean() > 5)
        assert client.post(f"{path}/sound", files={"sound": wav(5)}).status_code == 202
        wait_until(lambda: viewer.sounds[-1][2] > 0.01)
        socket.send_text('{"type": "interrupt"}')
        pressed = time.monotonic()
        time.sleep(0.4)
        last = max(when for when, _, loud in viewer.sounds if loud > 0.01) - pressed
        print(f"interruption to silence: {last:.3f} s, 0.08 of them this client's own buffer")
        assert last < 0.28
        lines = []
        while not any(line["interrupted"] for line in lines):
            lines.append(player.next_line())
        assert lines[-1]["waiting"] < 0.4 and {"delay", "stalls"} <= lines[-1].keys()  # the posted sound is dropped
        times = [time for _, time, _ in viewer.sounds]
        np.testing.assert_allclose(np.diff(times), 0.02, atol=1e-6)
        socket.send_text('{"type": "report", "latency": 0.4, "skew": -0.01}')
        assert client.delete(path).status_code == 204
        while (line := player.next_line())["type"] != "end":
            pass
        assert line["reason"] == "closed"
    assert "vasa_live_skew_seconds_count 1.0" in client.get("/metrics").text
    wait_until(lambda: is_free(port_of(said["sdp"])))


def test_sound_and_pictures_have_one_clock():
    """A flash and a beep that belong together leave with the same time, whatever waits, stalls and repetitions."""

    async def watch():
        player = WebRtcPlayer(lambda line: True, lambda *sound: None, ["127.0.0.1"], [])
        moments = {"audio": [], "video": []}

        async def follow(track, events):
            while True:
                frame = await track.recv()
                events.append((frame.pts / RATE, frame.to_ndarray()))

        tracks = (player._sound, player._pictures)
        tasks = [asyncio.ensure_future(follow(track, moments[track.kind])) for track in tracks]
        player.start()
        sent = 0
        for number in range(6):
            first = 5 * number
            frames = [np.full((64, 64, 3), 255 * (first + index == 22), np.uint8) for index in range(5)]
            upto = (first + 7) * PER_FRAME
            times = np.arange(sent, upto)
            samples = np.where(times // PER_FRAME == 22, 0.5, 0).astype(np.float32)
            player.play(Hop(first, frames, [1] * 5, sent, samples, True, 0, 0, {}))
            sent = upto
            await asyncio.sleep(0.3 if number == 1 else 0.15)  # one comes late
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await player.close()
        flash = [when for when, frame in moments["video"] if frame.mean() > 100]
        beep = [when for when, sound in moments["audio"] if np.abs(sound).max() > 1000]
        return flash, beep, player._playout.stalls

    flash, beep, stalls = asyncio.run(watch())
    assert stalls and flash[0] == pytest.approx(beep[0], abs=0.0201) and len(beep) == 2


HOSTILE = {
    "nothing": lambda offer: "",
    "no SDP": lambda offer: "v=0",
    "noise": lambda offer: "v=0\r\nm=audio \x00\uffff\r\nm=video 9\r\na=",
    "huge": lambda offer: offer + "a=x\r\n" * LONGEST_OFFER,
    "many lines": lambda offer: offer + "a\r\n" * MOST_LINES,
    "only sound": lambda offer: offer[: offer.index("m=video")],
    "twice": lambda offer: offer + offer[offer.index("m=video") :],
    "words": lambda offer: offer + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    "no password": lambda offer: "\r\n".join(line for line in offer.split("\r\n") if "ice-" not in line),
    "no fingerprint": lambda offer: "\r\n".join(line for line in offer.split("\r\n") if "fingerprint" not in line),
    "odd fingerprint": lambda offer: offer.replace("a=fingerprint:sha-", "a=fingerprint:md"),
    "other codecs": lambda offer: offer.replace("VP8/", "XXX/").replace("opus/", "PCMX/"),
    "bad numbers": lambda offer: offer.replace("m=audio ", "m=audio 99999999999999999999 "),
    "odd roles": lambda offer: offer.replace("a=setup:actpass", "a=setup:holdconn"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_offers_end_the_socket_alone(client, path, offer, kind, caplog):
    """One line says why; the session can be played afterwards; nothing is logged as a fault of the server."""
    with webrtc(client, path) as socket:
        socket.receive_text()
        socket.send_text(json.dumps({"type": "offer", "sdp": HOSTILE[kind](offer)}))
        start = time.monotonic()
        end = socket.receive()
        assert end["type"] == "websocket.close" and end["code"] == 1008, end
        assert end["reason"].startswith(("offer:", "message:")) and ";" in end["reason"]
        assert time.monotonic() - start < 2
    with client.websocket_connect(path, headers=HEADERS) as socket:
        assert Player(socket).next_hop()["type"] == "hop"
    assert not [record for record in caplog.records if record.exc_info or "never retrieved" in record.message]


FIRST = ['{"type": "interrupt"}', '{"type": "offer"}', '{"type": "offer", "sdp": 5}', "[]", "none", b"\0\0"]


@pytest.mark.parametrize("word", FIRST)
def test_an_offer_comes_first(client, path, word):
    with webrtc(client, path) as socket:
        socket.receive_text()
        (socket.send_bytes if isinstance(word, bytes) else socket.send_text)(word)
        assert socket.receive()["code"] == 1008


def test_who_leaves_on_the_way_leaves_nothing(client, opened, path, offer, monkeypatch):
    """Before an offer, after it, and with an offer that nobody follows up: ports are closed, the seat is kept."""
    with webrtc(client, path) as socket:
        socket.receive_text()
    with webrtc(client, path) as socket:
        socket.receive_text()
        socket.send_text(json.dumps({"type": "offer", "sdp": offer}))
        port = port_of(json.loads(socket.receive_text())["sdp"])
        assert not is_free(port)
    wait_until(lambda: is_free(port))
    monkeypatch.setattr(live_sockets, "PATIENCE", 0.2)
    with webrtc(client, path) as socket:
        socket.receive_text()
        socket.send_text(json.dumps({"type": "offer", "sdp": offer}))
        port = port_of(json.loads(socket.receive_text())["sdp"])
        assert "no connection came about" in socket.receive()["reason"]
    wait_until(lambda: is_free(port))
    assert opened[1].live.get(path.rpartition("/")[2]) is not None
    with webrtc(client, path) as socket:  # and who never says anything
        socket.receive_text()
        assert "no offer came" in socket.receive()["reason"]


def test_an_offer_cannot_make_the_server_send_to_others(client, path, offer):
    with sockets.socket(type=sockets.SOCK_DGRAM) as victim, webrtc(client, path) as socket:
        victim.bind(("127.0.0.1", 0))
        victim.settimeout(0.5)
        line = f"a=candidate:1 1 udp 2130706431 127.0.0.1 {victim.getsockname()[1]} typ host\r\n"
        named = "\r\n".join(line for line in offer.split("\r\n") if not line.startswith("a=candidate"))
        named = named.replace("a=end-of-candidates\r\n", line + "a=end-of-candidates\r\n")
        assert line in named
        socket.receive_text()
        socket.send_text(json.dumps({"type": "offer", "sdp": named}))
        assert json.loads(socket.receive_text())["type"] == "answer"
        with pytest.raises(TimeoutError):
            victim.recv(2000)


def test_noise_on_the_port_disturbs_nobody(client, path):
    noise = np.random.default_rng(0)
    with webrtc(client, path) as socket, Viewer() as viewer, sockets.socket(type=sockets.SOCK_DGRAM) as other:
        port = port_of(viewer.connect(socket)["sdp"])
        for size in noise.integers(0, 1400, 400):
            data = noise.bytes(int(size))
            for start in (b"", b"\x80\x60", b"\x16\xfe\xff", b"\0\1\0\x08\x21\x12\xa4\x42"):  # RTP, DTLS, STUN
                other.sendto(start + data, ("127.0.0.1", port))
        wait_until(lambda: len(viewer.pictures) > 5)
        count = len(viewer.pictures)
        other.sendto(b"\x80\xc8" + noise.bytes(1000), ("127.0.0.1", port))
        wait_until(lambda: len(viewer.pictures) > count + 5)


def test_another_player_takes_the_place(client, path):
    """Of the two over WebRTC the first is told; a third over the other socket gets whole fragments."""
    with webrtc(client, path) as first, Viewer() as one:
        one.connect(first)
        wait_until(lambda: one.pictures)
        with webrtc(client, path) as second, Viewer() as two:
            two.connect(second)
            wait_until(lambda: two.pictures)
            assert "another player" in Player(first).until(lambda line: line["type"] == "closed")["reason"]
            with client.websocket_connect(path, headers=HEADERS) as third:
                assert Player(third).next_hop()["start"] > 0
                assert "another player" in Player(second).until(lambda line: line["type"] == "closed")["reason"]


def test_who_may_ask(generator, tmp_path):
    """Key, origin and host are asked for as at every other door; WebRTC can be turned off."""
    with served(generator, tmp_path, KEY, live_steps=1, webrtc=False) as (client, _):
        held = {"authorization": f"Bearer {KEY}"}
        portrait = {"portrait": DEMO["image"].read_bytes()}
        path = client.post("/v1/live", files=portrait, data={"crop": "center"}, headers=held).json()["socket"]
        odd = ({}, {"authorization": "Bearer x"}, held | {"origin": "http://evil.example"},
               held | {"host": "evil.example"}, held | {"sec-fetch-site": "cross-site"})  # fmt: skip
        for headers in odd:
            with pytest.raises(WebSocketDisconnect) as refused, webrtc(client, path, **headers):
                pass
            assert refused.value.code == 1008 and "WebRTC is off" not in refused.value.reason
        with pytest.raises(WebSocketDisconnect) as refused, webrtc(client, path, **held):
            pass
        assert "WebRTC is off" in refused.value.reason
        with pytest.raises(WebSocketDisconnect) as refused, webrtc(client, f"/v1/live/{'0' * 32}", **held):
            pass
        assert client.get("/v1/about", headers=held).json()["webrtc"] is False


def test_the_longest_offers_are_read_quickly(offer):
    codecs = "".join(f"a=rtpmap:{i} opus/48000\r\na=fmtp:{i} x=1\r\n" for i in range(250))
    text = checked_offer(offer + codecs, keep_addresses=False)

    async def refused():
        player = WebRtcPlayer(lambda line: True, lambda *sound: None, ["127.0.0.1"], [])
        try:
            start = time.monotonic()
            with contextlib.suppress(InputError):
                await player.answer(text)
            return time.monotonic() - start
        finally:
            await player.close()

    assert asyncio.run(refused()) < 1.5


def test_passwords_of_turn_servers_end():
    """As coturn's `use-auth-secret` reads them: HMAC-SHA1 of a name that begins with the second of its end."""
    plain, turn = ice_servers(("stun:stun.example.org", "turn:turn.example.org:3478"), "x" * 16)
    assert plain == {"urls": "stun:stun.example.org"} and turn["urls"] == "turn:turn.example.org:3478"
    assert time.time() < int(turn["username"].partition(":")[0]) < time.time() + 86_400
    assert len(turn["credential"]) == 28 and ice_servers(("turn:a",), "y" * 16)[0]["credential"] != turn["credential"]
    assert ice_servers(("turn:a",), "") == [{"urls": "turn:a"}]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"ice": ("http://x",)}, "is no server; write stun:HOST:PORT"),
        ({"ice": ("turn:a b",)}, "is no server"),
        ({"udp_hosts": ("example.org",)}, "is no address"),
        ({"ice_secret_file": "none.txt"}, "none.txt"),
    ],
)
def test_bad_settings_are_told(settings, line):
    from vasa_jax.config import VASAConfig

    with pytest.raises(InputError, match=line):
        ice_secret(VASAConfig(job="studio", studio=StudioConfig(**settings)))
