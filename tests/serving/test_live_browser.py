"""The live avatar in a real browser: it hears, speaks, stops at once, and shares its seats.

Run with `pytest -m browser -n 0 tests/serving`; pictures of the page go to $STUDIO_PICTURES.
"""

import json
import re
import time

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image
from studio_page import FAULTS, Visit, choose, picture, until
from studio_process import CHROMIUM

from vasa_jax.data.image_files import read_image
from vasa_jax.generation.job import DEMO

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")]

SPEAKS = (
    "document.getElementById('live').player.hopAt(document.getElementById('live-video').currentTime)?.speaks === true"
)


def figures(page):
    return page.evaluate("document.getElementById('live').figures")


NOTE_CROPS = """() => {
  const plain = window.fetch;
  window.crops = [];
  window.fetch = (path, options) => {
    if (path === "v1/live") window.crops.push(options.body.get("crop"));
    return plain(path, options);
  };
}"""


def test_live(visit):
    page = visit("live")
    choose(page, "live")
    page.evaluate(NOTE_CROPS)
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 1.5")
    video = page.locator("#live-video")
    found = page.locator("#live .crop div").get_attribute("data-crop")
    assert page.evaluate("window.crops") == [found]  # the face is not looked for again
    first = video.evaluate("video => video.getVideoPlaybackQuality().totalVideoFrames")
    page.click("#live-microphone")
    until(page, "document.getElementById('live').figures?.latency > 0")
    page.wait_for_timeout(4000)
    picture(page, "live")
    now = figures(page)
    print("live:", json.dumps(now), page.locator("#live-figures").inner_text().replace("\n", "; "))
    assert abs(now["skew"]) <= 0.04 and 0 < now["latency"] < 3
    assert video.evaluate("video => video.getVideoPlaybackQuality().totalVideoFrames") > first + 10
    assert video.evaluate("video => video.webkitAudioDecodedByteCount") > 0
    page.click("#live-microphone")
    page.click("#live-example")
    until(page, SPEAKS)
    page.keyboard.press("Escape")
    until(page, "document.getElementById('live-rest').classList.contains('shown')", seconds=0.2)
    until(page, "document.getElementById('live').figures?.interrupt > 0")
    page.wait_for_timeout(1200)
    assert not page.evaluate("document.getElementById('live-rest').classList.contains('shown')")
    assert not video.evaluate("video => video.muted")
    print("interrupt:", figures(page)["interrupt"])
    page.fill("#live-text input", "Good morning.") if page.is_visible("#live-text") else None
    page.click("#live-close")
    page.wait_for_selector("#live-state:has-text('ended')")
    assert FAULTS == []


# Loudness of what the page hears from the avatar and from its own microphone, and light of the picture, every 10 ms.
WATCH = """async () => {
  const context = new AudioContext(), video = document.getElementById('live-video');
  const spy = (stream) => {
    const node = context.createAnalyser(), samples = new Float32Array(node.fftSize = 512);
    context.createMediaStreamSource(stream).connect(node);
    return () => { node.getFloatTimeDomainData(samples); return Math.hypot(...samples) / Math.sqrt(samples.length); };
  };
  const heard = spy(video.srcObject), own = spy(await navigator.mediaDevices.getUserMedia({ audio: true }));
  window.watched = [];
  setInterval(() => window.watched.push([performance.now(), heard(), own()]), 10);
}"""


def onsets(times, loud):
    """When it becomes loud after a quarter of a second of silence."""
    on = np.asarray(loud) > 0.02
    return [times[i] for i in range(25, len(on)) if on[i] and not on[i - 25 : i].any()]


def test_live_over_webrtc(visit):
    """Frames and sound come in step; the microphone goes out and comes back; an interruption is heard at once."""
    page = visit("live")
    choose(page, "live")
    page.select_option("#live-connection", "webrtc")
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 1.5")
    assert page.evaluate("document.getElementById('live').player.peer.connectionState") == "connected"
    page.evaluate(WATCH)
    page.click("#live-microphone")
    until(page, "document.getElementById('live').figures?.latency > 0")
    page.wait_for_timeout(6000)
    picture(page, "live_webrtc")
    now = figures(page)
    times, heard, own = np.transpose(page.evaluate("window.watched"))
    delays = [min((b - a for b in onsets(times, heard) if b > a), default=np.nan) for a in onsets(times, own)]
    print("webrtc:", json.dumps(now), page.locator("#live-figures").inner_text().replace("\n", "; "))
    print("microphone to loudspeaker, ms:", np.round(delays))
    assert abs(now["skew"]) <= 0.04 and 0 < now["latency"] < 3 and now["firstFrame"] < 10
    assert 0 < np.nanmedian(delays) < 1900  # the microphone's noise begins anew every 2 s
    page.click("#live-microphone")
    page.wait_for_timeout(1500)
    page.click("#live-example")
    until(page, "window.watched.at(-1)[1] > 0.02")
    page.keyboard.press("Escape")
    pressed = page.evaluate("document.getElementById('live').player.pressed")
    page.wait_for_timeout(1000)
    late = [at - pressed for at, loud, _ in page.evaluate("window.watched") if loud > 0.02 and at > pressed]
    print("interruption to silence, ms:", max(late, default=0))
    assert max(late, default=0) < 200
    page.click("#live-close")
    page.wait_for_selector("#live-state:has-text('ended')")
    assert FAULTS == []


def test_where_udp_is_blocked_the_socket_plays(visit):
    page = visit("live")
    page.add_init_script("delete window.RTCPeerConnection")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.select_option("#live-connection", "webrtc")
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 0.5")
    assert "now over the WebSocket" in page.text_content("#live-state")
    page.click("#live-close")
    page.wait_for_selector("#live-state:has-text('ended')")


WITHOUT = {
    "MediaSource": "window.ManagedMediaSource = window.MediaSource; delete window.MediaSource;",
    "any source": "delete window.MediaSource; delete window.ManagedMediaSource;",
}


@pytest.mark.parametrize(("lacks", "plays"), [("MediaSource", "over the socket"), ("any source", "connected")])
def test_browsers_of_phones(visit, lacks, plays):
    """iPhones have a ManagedMediaSource alone, older ones neither: these play over WebRTC."""
    page = visit("live")
    page.add_init_script(WITHOUT[lacks])
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 0.5")
    player = "document.getElementById('live').player"
    assert page.evaluate(f"{player}.peer?.connectionState ?? 'over the socket'") == plays
    page.click("#live-close")
    page.wait_for_selector("#live-state:has-text('ended')")
    assert FAULTS == []


# Who interrupts the first word of a face sees its mouth closed too.
RESTS_AT_ONCE = """() => {
  const { player } = document.getElementById('live');
  Object.assign(player, { hasRest: false, quietSince: null });
  player.tend();
  return player.hasRest;
}"""


def test_pause_and_another_portrait_on_the_same_connection(visit, tmp_path):
    page = visit("live")
    choose(page, "live")
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 0.5")
    page.evaluate("window.first = document.getElementById('live').player.socket")
    assert page.evaluate(RESTS_AT_ONCE)
    page.click("#live-example")
    until(page, SPEAKS)
    page.click("#live-pause")
    until(page, f"!({SPEAKS})")
    page.wait_for_timeout(1500)
    assert not page.evaluate(SPEAKS)
    other = tmp_path / "other.png"
    Image.fromarray(read_image(DEMO["image"])[:, ::-1]).save(other)
    choose(page, "live", portrait=str(other))
    page.click("#live-change")
    until(page, "document.getElementById('live').player.portraits === 1")
    page.click("#live-pause")
    until(page, SPEAKS)  # what was left of the sentence
    assert page.evaluate("window.first === document.getElementById('live').player.socket")
    page.click("#live-close")
    page.wait_for_selector("#live-state:has-text('ended')")
    assert FAULTS == []


def test_two_live_sessions_and_a_busy_answer(visit):
    pages = [visit("live") for _ in range(3)]
    for page in pages[:2]:
        page.click("#live-open")
        until(page, "document.getElementById('live-video').currentTime > 0.5")
    pages[2].click("#live-open")
    until(pages[2], "document.getElementById('live-state').textContent.includes('busy')")
    pages[0].context.close()  # a lost client gives its seat back
    pages[1].click("#live-close")
    pages[1].wait_for_selector("#live-state:has-text('ended')")
    pages[2].click("#live-open")
    until(pages[2], "document.getElementById('live-video').currentTime > 0.5")
    pages[2].click("#live-close")


def test_a_page_that_is_left_gives_its_seat_back_at_once(browser, address):
    """The microphone of a page that is closed does not hold the machine, for which videos wait."""
    pages = Visit(browser, address)
    page = pages("live")
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 0.5")
    page.click("#live-microphone")
    page.wait_for_timeout(500)
    assert live_sessions(address) == 1
    pages.close()
    end = time.monotonic() + 5
    while live_sessions(address):
        assert time.monotonic() < end
        time.sleep(0.1)


def live_sessions(address):
    return float(re.search(r"^vasa_live_sessions (\S+)", httpx.get(f"{address}metrics").text, re.MULTILINE).group(1))
