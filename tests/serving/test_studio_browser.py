"""The page in a real browser: videos are made and play, for mouse, keyboard, phone.

Run with `pytest -m browser -n 0 tests/serving`; pictures of the page go to $STUDIO_PICTURES.
"""

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sounds import wav
from studio_page import FAULTS, IN_VIEW, choose, file, picture, until
from studio_process import CHROMIUM

from vasa_jax.data.image_files import read_image
from vasa_jax.data.video_files import write_video
from vasa_jax.generation.job import DEMO

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")]

PLAYED = "video => ({time: video.currentTime, size: video.videoWidth, sound: video.webkitAudioDecodedByteCount})"


def test_a_video_is_made_and_plays(visit):
    page = visit()
    choose(page, "speak", sound=file("hello.wav", 1.2))
    page.click("#speak summary:has-text('Controls')")
    page.fill("#speak [data-control=gaze] >> nth=0", "10")
    page.click("#speak [type=submit]")
    page.wait_for_selector("#speak-jobs .fault")  # half a gaze
    page.fill("#speak [data-control=gaze] >> nth=1", "-5")
    page.fill("#speak [data-control=steps]", "2")
    assert "empty = the model's own" in page.text_content("#speak .control:has([data-control=blink_rate]) .hint")
    page.fill("#speak [data-control=blink_rate]", "")
    picture(page, "speak")
    page.click("#speak summary:has-text('Controls')")
    page.click("#speak [type=submit]")
    page.wait_for_selector("[data-state=done] video")
    video = page.locator("[data-state=done] video")
    video.evaluate("video => video.play()")
    until(page, "document.querySelector('[data-state=done] video').currentTime > 0.5")
    played = video.evaluate(PLAYED)
    assert played["size"] >= 64 and played["sound"] > 0
    settings = page.locator("[data-state=done] pre").text_content().partition("video.jsonl:\n")[2]
    assert json.loads(settings) == json.loads(settings) | {
        "audio": "hello.wav", "gaze": [10, -5], "steps": 2, "blink_rate": None,
    }  # fmt: skip
    picture(page, "speak_done")
    with page.expect_download() as download:
        page.click("text=Download")
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    page.click("[data-state=done] >> text=Remove")
    page.wait_for_selector("[data-state=done]", state="detached")
    assert FAULTS == []


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)])
def test_what_a_button_brings_is_in_view_and_stays_when_the_page_is_loaded_anew(visit, size):
    page = visit(viewport=dict(zip(("width", "height"), size)))
    choose(page, "speak", sound=file("hello.wav", 0.6))
    page.click("#speak summary:has-text('Controls')")
    page.fill("#speak [data-control=gaze] >> nth=0", "10")
    page.click("#speak [type=submit]")
    page.wait_for_selector("#speak-jobs .fault")
    assert page.locator("#speak-jobs .fault").evaluate(IN_VIEW)
    page.fill("#speak [data-control=gaze] >> nth=0", "")
    page.click("#speak [type=submit]")
    page.wait_for_selector("#speak-jobs [data-job]")
    assert page.locator("#speak-jobs [data-job]").evaluate(IN_VIEW)
    page.reload()
    page.wait_for_selector("#speak-jobs [data-state=done] video")
    assert page.text_content("#speak-jobs strong") == "portrait.png · hello.wav"
    assert not page.locator("#perform-jobs [data-job]").count()
    other = page.context.new_page()  # what one tab makes is not another's
    other.goto(visit.address)
    other.wait_for_selector("body[data-ready]")
    page.click("[data-state=done] >> text=Remove")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.wait_for_timeout(300)
    assert not page.locator("[data-job]").count() + other.locator("[data-job]").count()
    page.click("#tab-live")
    choose(page, "live")
    page.click("#live-open")
    until(page, "document.getElementById('live-video').currentTime > 0.2")
    assert page.locator("#live-video").evaluate(IN_VIEW)
    page.click("#live-close")
    page.wait_for_selector("#live-state:has-text('ended')")
    assert FAULTS == []


def test_the_crop_is_dragged_and_moved_by_keys(visit):
    page = visit()
    choose(page, "speak")
    square = page.locator("#speak .crop div")
    before = [int(number) for number in square.get_attribute("data-crop").split(",")]
    square.press("ArrowRight")
    after = [int(number) for number in square.get_attribute("data-crop").split(",")]
    assert after[0] > before[0] and after[1:] == before[1:]
    square.press("-")
    assert int(square.get_attribute("data-crop").split(",")[2]) < before[2]
    box = square.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert int(square.get_attribute("data-crop").split(",")[0]) < after[0]


COPY = """async () => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 200;
  const pen = canvas.getContext('2d');
  pen.fillStyle = 'teal';
  pen.fillRect(0, 0, 200, 200);
  const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
  await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]);
}"""


def test_camera_clipboard_microphone_and_text(visit):
    """Every other way in: a picture of camera and clipboard, what the microphone hears, a text in a voice."""
    page = visit()
    page.context.grant_permissions(["camera", "microphone", "clipboard-read", "clipboard-write"])
    page.click("#speak >> text=Camera")
    until(page, "document.querySelector('#camera-dialog video').videoWidth > 0")
    page.click("text=Take the picture")
    page.wait_for_selector("#speak [role=status]:has-text('camera.png')")
    page.evaluate(COPY)
    page.click("#speak >> text=Paste")
    page.wait_for_selector("#speak [role=status]:has-text('clipboard.png')")
    page.click("#speak >> text=Record")
    page.wait_for_timeout(1500)
    page.click("#speak >> text=Stop")
    page.wait_for_selector("#speak [role=status]:has-text('microphone.webm')")
    choose(page, "speak")
    page.click("#speak [type=submit]")
    page.wait_for_selector("[data-state=done] video")
    if not page.locator("#speak [aria-label='text to speak']").count():
        return  # no voice is installed
    assert page.locator("#speak [aria-label=voice] option").count() > 10
    page.fill("#speak [aria-label='text to speak']", "Good morning to everybody.")
    page.select_option("#speak [aria-label=voice]", "en-us+f3")
    page.click("#speak >> text=Speak it")
    page.wait_for_selector("#speak [role=status]:has-text('text.wav')")
    picture(page, "speak_text")
    assert len(FAULTS) == 2 and all("422" in fault for fault in FAULTS)  # camera's and clipboard's picture show no face


DROP = """async ([selector, name, text]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)), dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  const drop = new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
  return document.querySelector(selector).dispatchEvent(drop);  // false: the browser does not open the file
}"""


def test_files_may_be_dropped(visit):
    page = visit("perform")
    for part, name, content in (("portrait", "me.png", DEMO["image"].read_bytes()),
                                ("driving", "take.webm", b"no video"), ("sound", "hello.wav", wav(0.4))):  # fmt: skip
        place = f"#perform [data-{part}]"
        data = base64.b64encode(content).decode()
        assert page.evaluate(DROP, [f"{place} .buttons", name, data]) is False
        page.wait_for_selector(f"{place} [role=status]:has-text('{name}')", state="attached")
        assert page.evaluate(DROP, [f"{place} input[type=file]", "other", data]) is True  # which takes it by itself
    assert page.evaluate(DROP, ["footer", "lost.png", ""]) is False
    page.wait_for_selector("#perform .crop div")


def test_progress_and_cancel(visit):
    page = visit()
    choose(page, "speak", sound=file("long.wav", 60))
    page.click("#speak [type=submit]")
    page.wait_for_selector("[data-state=running] .state:has-text(' of 1500, ')")
    picture(page, "speak_progress")
    page.click("[data-state=running] >> text=Cancel")
    page.wait_for_selector("[data-job]", state="detached")
    assert FAULTS == []


def test_faults_are_told_in_a_line(visit):
    page = visit()
    page.locator("#speak input[aria-label='portrait file']").set_input_files(
        {"name": "me.png", "mimeType": "image/png", "buffer": b"nothing"}
    )
    page.wait_for_selector("#speak .fault:has-text('is not a picture')")
    page.click("#speak [type=submit]")
    page.wait_for_selector("#speak-jobs .fault:has-text('is not a picture')")


def test_two_people_do_not_mix(visit):
    pages = [visit() for _ in range(2)]
    for page, seconds in zip(pages, (0.8, 1.6)):
        choose(page, "speak", sound=file(f"sound{seconds}.wav", seconds))
        page.click("#speak [type=submit]")
    for page, seconds in zip(pages, (0.8, 1.6)):
        page.wait_for_selector("[data-state=done] video")
        assert page.locator("[data-state]").count() == 1
        until(page, "document.querySelector('[data-state=done] video').readyState > 0")
        length = page.locator("[data-state=done] video").evaluate("video => video.duration")
        assert length == pytest.approx(seconds, abs=0.03)


SHARES = """video => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const alpha = [...data].filter((_, index) => index % 4 === 3);
  const share = (test) => alpha.filter(test).length / alpha.length;
  return [share((value) => value === 0), share((value) => value > 40)];
}"""


def test_a_transparent_video_with_subtitles(visit):
    """The browser sees through the frame where the head is not, and shows the text."""
    page = visit()
    choose(page, "speak", sound=file("hello.wav", 1.0))
    page.click("#speak summary:has-text('The video')")
    page.select_option("#speak [data-control=backdrop] >> nth=0", "transparent")
    assert page.input_value("#speak [data-control=format]") == "webm"
    page.select_option("#speak [data-control=shape]", "landscape")
    page.select_option("#speak [data-control=fps]", "30")
    page.fill("#speak textarea", "Hello there. How are you?")
    page.click("#speak [type=submit]")
    page.wait_for_selector("[data-state=done] video")
    page.locator("[data-state=done] video").evaluate("video => { video.loop = true; return video.play(); }")
    until(page, "document.querySelector('[data-state=done] video').currentTime > 0.2")
    clear, seen = page.locator("[data-state=done] video").evaluate(SHARES)
    assert clear > 0.4 and seen > 0.05
    until(page, "document.querySelector('[data-state=done] video').textTracks[0].cues?.length === 2")
    settings = page.locator("[data-state=done] pre").text_content()
    assert '"backdrop":"transparent"' in settings and '"output":"video.webm"' in settings
    picture(page, "transparent")
    page.check("#speak [data-control=paste]")
    assert page.input_value("#speak [data-control=backdrop] >> nth=0") == ""
    assert page.is_disabled("#speak select[data-control=backdrop]")
    assert FAULTS == []


def test_perform(visit, tmp_path):
    still = read_image(DEMO["image"])
    driving = write_video(tmp_path / "driving.mp4", [np.roll(still, shift, 1) for shift in (0, 2, 4, 6, 4, 2)])
    page = visit("perform")
    choose(page, "perform")
    page.click("#perform [type=submit]")
    page.wait_for_selector("#perform-jobs .fault:has-text('driving video: choose')")
    page.locator("#perform input[aria-label='driving video file']").set_input_files(driving)
    page.select_option("#perform [data-control=region]", "pose")
    page.fill("#perform [data-control=driving_multiplier]", "0.5")
    picture(page, "perform")
    page.click("#perform [type=submit]")
    page.wait_for_selector("#perform [data-state=done] video")
    until(page, "document.querySelector('#perform [data-state=done] video').readyState > 1")
    command = page.locator("#perform [data-state=done] pre").text_content()
    for word in ("configs/reenact.py", "video=driving.mp4", "region=pose", "driving_multiplier=0.5"):
        assert word in command
    picture(page, "perform_done")
    assert FAULTS == []


PARTS = ["all", "head only", "face only"]


def test_look(visit):
    page = visit("look")
    page.locator("#look input[aria-label='sound file']").set_input_files(file("hello.wav", 0.6))
    page.click("#look [type=submit]")
    until(page, "document.querySelectorAll('#look [data-state=done] video').length === 3")
    page.reload()  # what has been made stays, in its order
    until(page, "document.querySelectorAll('#look [data-state=done] video').length === 3")
    assert [text.partition(": ")[2] for text in page.locator("#look strong").all_text_contents()] == PARTS
    page.click("#look-play")
    until(page, "[...document.querySelectorAll('#look video')].every(video => video.currentTime > 0.1)")
    picture(page, "look")
    with page.expect_download() as download:
        page.click("#look-contact")
    with Image.open(download.value.path()) as sheet:
        assert sheet.size == (8 * 160, 3 * 182)
        rows = np.asarray(sheet.convert("L"), np.float32)
        if folder := os.environ.get("STUDIO_PICTURES"):
            sheet.save(Path(folder) / "contact_sheet.png")
    page.locator("#look input[aria-label='sound file']").set_input_files(file("long.wav", 30))
    page.locator("#look-portraits").set_input_files(3 * [str(DEMO["image"])])
    page.click("#look [type=submit]")
    until(page, "document.querySelectorAll('#look [data-job]').length === 9")
    for left in range(8, -1, -1):  # nine jobs leave the browser room for their end
        page.locator("#look [data-job] button").last.click()
        until(page, f"document.querySelectorAll('#look [data-job]').length === {left}", seconds=10)
    assert all(rows[22 + 182 * row : 182 * (row + 1), 160 * column + 2 : 160 * column + 158].std() > 3
               for row in range(3) for column in range(8))  # fmt: skip
    assert FAULTS == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_keyboard_and_colours(visit, scheme):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    choose(page, "speak")
    for tab in ("speak", "perform", "live", "look"):
        page.click(f"#tab-{tab}")
        page.evaluate(f"[...document.querySelectorAll('#{tab} details')].forEach((part) => {{ part.open = true; }})")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert "None" not in page.text_content(f"#{tab}")
        picture(page, f"phone_{tab}_{scheme}")
    page.focus("#tab-look")
    page.keyboard.press("Home")
    assert page.locator("#tab-speak").get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#perform") and not page.is_visible("#speak")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(number) for number in re.findall(r"\d+", ground)[:3]) < 200) == (scheme == "dark")


def tab_to(page, selector):
    """Presses Tab until an element has the focus, which is seen at every step; players mark their own buttons."""
    shown = "element => getComputedStyle(element.closest('.button') ?? element).outlineStyle !== 'none'"
    for _ in range(60):
        page.keyboard.press("Tab")
        here = page.evaluate_handle("document.activeElement")
        assert here.evaluate("element => element.matches('body, audio, video')") or here.evaluate(shown)
        if here.evaluate("(element, selector) => element.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not lead to {selector}")


def test_a_video_by_keyboard_alone(visit):
    page = visit()
    tab_to(page, "#tab-speak")
    tab_to(page, "#speak fieldset[data-portrait] .buttons button:last-child")
    page.keyboard.press("Enter")
    page.wait_for_selector("#speak .crop div")
    tab_to(page, "#speak .crop div")
    page.keyboard.press("ArrowRight")
    tab_to(page, "#speak fieldset[data-sound] .buttons button:last-child")
    page.keyboard.press("Enter")
    page.wait_for_selector("#speak [role=status]:has-text('speech.wav')")
    tab_to(page, "#speak details:has([data-form]) summary")
    page.keyboard.press("Space")
    tab_to(page, "#speak [data-control=shape]")
    page.keyboard.type("square")
    tab_to(page, "#speak [type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=done] video")
    assert '"shape":"square"' in page.text_content("[data-state=done] pre") and "crop" in page.text_content("pre")
    tab_to(page, "[data-state=done] a[download]")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    assert FAULTS == []


def test_a_page_that_is_not_secure_says_why_it_hears_nothing(visit):
    """Where it is opened by HTTP from another machine, the browser hides camera, microphone and clipboard."""
    page = visit()
    page.add_init_script("for (const name of ['mediaDevices', 'clipboard']) "
                         "Object.defineProperty(navigator, name, { value: undefined });")  # fmt: skip
    page.reload()
    page.wait_for_selector("body[data-ready]")
    for button, told in (("Record", "microphone only to pages from localhost or by HTTPS; choose a file"),
                         ("Camera", "camera only to pages from localhost or by HTTPS; choose a file"),
                         ("Paste", "press Ctrl+V, or choose a file")):  # fmt: skip
        page.click(f"#speak >> text={button}")
        page.wait_for_selector(f"#speak .fault:has-text('{told}')")
    assert FAULTS == []
