"""The job that says whether a file is marked: videos, pictures, copies without the manifest, hostile files."""

import av
import cv2
import numpy as np
import pytest
from marked_pictures import smooth_pictures

from vasa_jax.config import VASAConfig
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import LARGEST_FRAME
from vasa_jax.generation.detect import describe, detect, detect_file, detect_frames
from vasa_jax.generation.provenance import write_generated
from vasa_jax.generation.watermark import Payload, marked
from vasa_jax.models.face import face_codec
from vasa_jax.models.variants import FACE_VARIANTS

PAYLOAD = Payload(0x0C0FFEE)


def moving(seconds, seed=0, size=256, fps=25):
    """A still ground with a blurred square that wanders over it, uint8 (T, size, size, 3)."""
    frames = np.repeat(smooth_pictures(1, size, seed), int(seconds * fps), 0)
    for number, frame in enumerate(frames):
        left = 40 + number % 100
        frame[80:180, left : left + 60] = cv2.GaussianBlur(frame[80:180, left : left + 60], (0, 0), 5)
    return frames


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    return write_generated(path, marked(moving(1), PAYLOAD), None, PAYLOAD, "model")


def test_a_marked_video(video, capsys):
    found = detect(VASAConfig(job="detect", video=str(video)))
    assert found.marked and found.evidence.payload == PAYLOAD
    shown = capsys.readouterr().out
    assert f"{video}: marked" in shown and "0c0ffee, version 1" in shown and "manifest  valid" in shown


def sizes():
    """The squares of every codec, the largest of config.size, and whole photographs, upright, across and large."""
    squares = {LARGEST_FRAME, *(face_codec(name)[0].image_size for name in FACE_VARIANTS)}
    return [*((side, side) for side in sorted(squares)), (480, 270), (300, 402), (720, 1280)]


@pytest.mark.parametrize("shape", sizes())
def test_round_trip_at_every_size_the_product_writes(shape, tmp_path):
    """Marked, written with its manifest, read again: found, read, and both say the same."""
    ground = cv2.resize(smooth_pictures(1, 256, seed=6)[0], shape[::-1])
    path = tmp_path / "a.mp4"
    write_generated(path, marked(np.repeat(ground[None], 10, 0), PAYLOAD), None, PAYLOAD, "model")
    found = detect_file(path)
    assert found.marked and found.evidence.scale == 1 and not found.evidence.mirrored
    assert found.evidence.payload == PAYLOAD and found.manifest.mark == str(PAYLOAD)


def test_mark_stays_when_the_manifest_goes(video, tmp_path):
    """What `ffmpeg -c copy -map_metadata -1` does."""
    bare = tmp_path / "bare.mp4"
    with av.open(str(video)) as source, av.open(str(bare), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    found = detect_file(bare)
    assert found.manifest.state == "none"
    assert found.marked and found.evidence.payload == PAYLOAD


def test_an_unmarked_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving(1))
    found = detect_file(path)
    assert not found.marked and found.manifest.state == "none"
    assert "no mark found" in describe(path, found)


def test_a_picture(tmp_path):
    picture = marked(smooth_pictures(1, 256), PAYLOAD)[0]
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    found = detect_file(path)
    assert found.marked and found.windows == 1 and found.evidence.payload == PAYLOAD


def test_a_mark_that_begins_later_is_found_where_it_is():
    frames = moving(5, seed=3, fps=4)
    evidence, start, windows = detect_frames(np.concatenate([frames, marked(frames, PAYLOAD)]), 4)
    assert evidence.marked and start == 5 and windows == 2


def test_errors_of_all_windows_sum_to_one():
    """The p-value of window i is multiplied by i (i + 1): 1/2 + 1/6 + 1/12 + ... = 1."""
    assert sum(1 / (i * (i + 1)) for i in range(1, 10_000)) == pytest.approx(1, abs=2e-4)
    still = smooth_pictures(1, 64, seed=5)
    once = detect_frames(still, 25)[0].p_value
    thrice, _, windows = detect_frames(np.repeat(still, 15, 0), 1)
    assert windows == 3 and thrice.p_value == pytest.approx(once)  # equal windows: the first counts least


def test_short_rests_are_left_out():
    still = smooth_pictures(1, 64)[0]
    for frames, windows in ((1, 1), (10, 1), (14, 1), (15, 2), (24, 2), (25, 3)):
        assert detect_frames([still] * frames, 2)[2] == windows


@pytest.mark.parametrize("name", ["", "missing.mp4", "folder", "empty.mp4", "noise.mp4", "noise.png", "cut.mp4"])
def test_hostile_files_end_in_one_line(name, tmp_path, video):
    path = tmp_path / name if name else ""
    if name == "folder":
        path.mkdir()
    elif name == "empty.mp4":
        path.write_bytes(b"")
    elif name.startswith("noise"):
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif name == "cut.mp4":
        path.write_bytes(video.read_bytes()[:3000])
    with pytest.raises(InputError) as fault:
        detect(VASAConfig(job="detect", video=str(path)))
    assert "\n" not in str(fault.value) and (name or "config.video") in str(fault.value)
