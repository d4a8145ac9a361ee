"""What live sessions are made of, without a model: waiting sound, and fragments of MP4."""

import io

import av
import numpy as np
import pytest

from vasa_jax.conventions import FPS
from vasa_jax.serving.fragments import PER_FRAME, RATE, FragmentWriter
from vasa_jax.serving.players import FragmentPlayer, Hop
from vasa_jax.serving.sound_queue import MOST_BEHIND, MOST_RESERVE, RESERVE, SoundQueue


def test_whole_sounds_are_said_in_order_and_then_silence():
    queue = SoundQueue(1.0)
    first, second = np.full(100, 0.1, np.float32), np.full(50, 0.2, np.float32)
    assert queue.say(first) and queue.say(second) and not queue.say(np.zeros(RATE, np.float32))
    got, heard = queue.take(120)
    np.testing.assert_array_equal(got, np.r_[first, second[:20]])
    got, more = queue.take(120)
    np.testing.assert_array_equal(got, np.r_[second[20:], np.zeros(90)])
    assert (heard, more, queue.waiting, queue.taken) == (120, 30, 0, 150)


def test_a_microphone_starts_with_a_reserve_and_stays_near():
    queue = SoundQueue(10.0)
    piece = np.full(round(MOST_RESERVE * RATE / 2), 0.1, np.float32)
    queue.hear(piece, RATE)
    queue.hear(piece, RATE)
    assert queue.take(100)[1] == 0
    queue.hear(piece, RATE)
    assert queue.take(100)[1] == 100 and queue.take(100, behind=1.0)[1] == 100
    queue.hear(np.zeros(round(2 * MOST_BEHIND * RATE), np.float32), RATE)
    assert queue.take(100, behind=1.0)[1] == 100 and queue.waiting > 2 * MOST_BEHIND * RATE
    assert queue.take(100)[1] == 100 and queue.waiting == round(MOST_RESERVE * RATE)
    queue.hear(np.zeros(round(20 * RATE), np.float32), RATE)
    assert queue.waiting == 10 * RATE


def test_small_pieces_have_a_small_reserve():
    queue, piece = SoundQueue(10.0), np.full(960, 0.1, np.float32)  # 20 ms, as a browser sends them
    for _ in range(5):
        queue.hear(piece, RATE)
    assert queue.take(RATE)[1] == (5 - RESERVE) * 960 and queue.waiting == RESERVE * 960


@pytest.mark.parametrize("hop", [0.2, 0.4, 1.0])
def test_a_microphone_is_heard_whole_whatever_the_hop(hop):
    """It arrives in uneven pieces; from its first sample on nothing is missing and no gap is put in."""
    queue, rng, sent, arrived, taken = SoundQueue(10.0), np.random.default_rng(0), 0, 0.0, []
    for number in range(1, round(10 / hop)):
        while arrived < number * hop:
            piece = rng.integers(1000, 4000)
            queue.hear(np.arange(sent + 1, sent + piece + 1, dtype=np.float32), RATE)
            sent, arrived = sent + piece, (sent + piece) / RATE + rng.uniform(0, 0.05)
        taken.append(queue.take(round(hop * RATE))[0])
    heard = np.concatenate(taken)
    begin = np.flatnonzero(heard)[0]
    np.testing.assert_array_equal(heard[begin:], np.arange(1, len(heard) - begin + 1))
    assert begin <= 2 * hop * RATE and queue.waiting < (MOST_RESERVE + 0.1) * RATE


def test_a_sound_that_is_said_is_not_lost_in_the_microphones():
    """While it is said, the microphone is not heard; then it is again, and all of it counts as taken."""
    queue, piece = SoundQueue(10.0), np.full(round(0.1 * RATE), 0.1, np.float32)
    for _ in range(4):
        queue.hear(piece, RATE)
    assert queue.take(round(0.2 * RATE))[1] == 0.2 * RATE
    assert queue.say(np.full(RATE, 0.5, np.float32))
    taken = []
    for _ in range(10):
        queue.hear(piece, RATE), queue.hear(piece, RATE)
        taken.append(queue.take(round(0.2 * RATE))[0])
    said = np.concatenate(taken)
    on = np.flatnonzero(said == 0.5)
    assert len(on) == RATE and on[-1] - on[0] == RATE - 1 and said[-1] == np.float32(0.1)
    assert queue.taken + queue.waiting == 24 * len(piece) + RATE


def test_another_rate_keeps_the_length():
    queue = SoundQueue(10.0)
    for _ in range(100):
        queue.hear(np.zeros(160, np.float32), 16_000)
    assert abs(queue.waiting - RATE) < 0.02 * RATE


def test_pause_and_clear():
    queue = SoundQueue(10.0)
    queue.say(np.ones(100, np.float32))
    queue.paused = True
    assert queue.take(10)[1] == 0 and queue.waiting == 100
    queue.paused = False
    assert queue.take(10)[1] == 10
    queue.clear()
    assert queue.waiting == 0 and queue.take(10)[1] == 0


def test_fragments_play_and_keep_picture_and_sound_together():
    """Flashes and beeps of each second are at the same time in what is decoded, whatever the hops."""
    writer, time = FragmentWriter(64), np.arange(4 * RATE) / RATE
    sound = np.where((time % 1 < 0.08) & (time > 0.5), 0.5 * np.sin(2000 * np.pi * time), 0).astype(np.float32)
    stream, frame, sent = writer.start, 0, 0
    for hop, stays in ((5, 1), (25, 1), (10, 1), (5, 5), (5, 1), (10, 2), (25, 1)):
        shown = [min(stays, hop - index) for index in range(0, hop, stays)]
        frames = [
            np.full((64, 64, 3), 255 if number % 25 < 2 and number > 12 else 16, np.uint8)
            for number in range(frame, frame + hop, stays)
        ]
        upto = (frame + hop + 1) * PER_FRAME
        stream += writer.fragment(frame, frames, shown, sound[sent:upto])
        frame, sent = frame + hop, upto
    with av.open(io.BytesIO(stream)) as file:
        assert [track.codec_context.name for track in file.streams] == ["h264", "aac"]
        pictures = [(float(f.time), f.to_ndarray(format="gray").mean()) for f in file.decode(video=0)]
    with av.open(io.BytesIO(stream)) as file:
        blocks = list(file.decode(audio=0))
    assert float(blocks[0].time) == 0.0
    heard = np.abs(np.concatenate([block.to_ndarray()[0] for block in blocks])) > 0.1
    assert len(heard) > (frame - 0.75) * PER_FRAME  # the sound ends 30 ms before the frames, at the most
    on = np.flatnonzero(heard)
    beeps = on[np.r_[True, np.diff(on) > RATE / 2]] / RATE
    flashes = [time for (time, light), (_, before) in zip(pictures[1:], pictures) if light > 128 > before]
    np.testing.assert_allclose(beeps, [1, 2, 3], atol=0.003)
    np.testing.assert_allclose(flashes, [1, 2, 3], atol=1e-6)
    gaps = np.diff([time for time, _ in pictures])
    np.testing.assert_allclose(gaps[:40], 0.04, atol=1e-6)
    assert gaps[40] == pytest.approx(0.2)  # one frame for a hop of five
    assert 'avc1.' in writer.mime and "mp4a.40.2" in writer.mime


def test_a_key_frame_on_request():
    writer = FragmentWriter(64)
    frames = [np.full((64, 64, 3), 80, np.uint8)] * 2

    def keys(**how):
        data = writer.fragment(keys.frame, frames, [1, 1], np.zeros(2 * PER_FRAME, np.float32), **how)
        keys.frame += 2
        with av.open(io.BytesIO(writer.start + data)) as file:
            return [packet.is_keyframe for packet in file.demux(video=0) if packet.size]

    keys.frame = 0
    assert keys() == [True, False]
    assert keys()[0] is False and keys(key=True) == [True, False]


def test_few_pictures_are_sent_as_often_as_many():
    """Browsers show a frame up to half of its length early or late: of one that stays for 0.4 s, 0.2 s."""
    sent = []
    player = FragmentPlayer(64, lambda data: sent.append(data) is None)
    frames = [np.full((64, 64, 3), level, np.uint8) for level in (60, 180)]
    samples = np.zeros(12 * PER_FRAME, np.float32)
    player.play(Hop(0, frames, [10, 2], 0, samples, True, 0, 0, {"interrupted": False}))
    player.play(Hop(12, frames[:1], [50], 12 * PER_FRAME, samples, True, 0, 0, {"interrupted": False}, skipped=True))
    with av.open(io.BytesIO(b"".join(part for part in sent if isinstance(part, bytes)))) as file:
        shown = [(float(frame.time), frame.to_ndarray(format="gray").mean()) for frame in file.decode(video=0)]
    times, levels = np.transpose(shown)
    np.testing.assert_allclose(times, np.arange(13) / FPS, atol=1e-6)  # the time that is skipped is one frame's
    assert (levels[:10] < 120).all() and (levels[10:12] > 120).all() and levels[12] < 120
