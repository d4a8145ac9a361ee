"""One avatar's motion and frames, hop by hop, whose hop, controls and portrait may change on the way."""

import dataclasses
import time
from collections import deque

import jax
import numpy as np

from vasa_jax.conventions import HISTORY, SAMPLE_RATE, SAMPLES_PER_FRAME, TAIL
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.stream import Session, StreamBatch
from vasa_jax.serving.fragments import PER_FRAME, RATE
from vasa_jax.serving.pace import HOPS, Point

AHEAD = 2  # frames of sound that are read before their hop: resampling holds 36 ms back, the features 5


def hops_of(generator: VideoGenerator) -> tuple[int, ...]:
    """Returns the hops that a generator's weights can make."""
    return tuple(hop for hop in HOPS if hop <= generator.sampler.transformer.window) or (1,)


class LiveMotion:
    """Feeds a stream; changes of hop and controls open another one that remembers the motion and the sound."""

    def __init__(self, generator: VideoGenerator, avatar: Avatar, controls: Controls, hop: int):
        """InputError for controls that the weights cannot follow."""
        import soxr

        self._avatar, self._generator = avatar, generator
        self._resample = soxr.ResampleStream(RATE, SAMPLE_RATE, 1, dtype="float32").resample_chunk
        self._ahead: deque[np.ndarray] = deque()  # 16 kHz sound that no hop has had
        self._heard = np.zeros(HISTORY * SAMPLES_PER_FRAME, np.float32)  # the latest sound that one has
        self._batch, self._session = self._open(controls, hop)
        self._draws = 1 if jax.default_backend() == "cpu" else 5  # frames at once; on a CPU one by one is as fast

    @property
    def controls(self) -> Controls:
        """The controls in use; the hop among them."""
        return self._session.schedule.controls

    def change_avatar(self, avatar: Avatar) -> None:
        """Shows another portrait from the next hop on; position and scale vary around its own."""
        self._avatar = self._session.avatar = avatar

    def change(self, controls: Controls, hop: int) -> None:
        """Goes on with other controls or another hop; InputError as at the start, and nothing has changed then."""
        past = self._session.past
        batch, session = self._open(controls, hop)
        session.write(self._heard)
        session.index = HISTORY // hop  # so that what was just written is the past of the next hop
        session.past = past
        self._batch, self._session = batch, session

    def hear(self, samples: np.ndarray) -> None:
        """Takes sound, float32 (N,) at 48 kHz; a hop needs its own and `AHEAD` frames more."""
        self._ahead.append(self._resample(samples))

    def next_motion(self) -> np.ndarray:
        """Returns the motion (hop, 137) of the next hop; ValueError where its sound has not been heard."""
        need = self.controls.hop * SAMPLES_PER_FRAME
        sound = np.concatenate([*self._ahead, np.zeros(0, np.float32)])
        if len(sound) < need + TAIL:
            raise ValueError(f"a hop needs {need + TAIL} samples, there are {len(sound)}")
        self._ahead = deque([sound[need:]])
        # The stream has had the first TAIL samples with the hop before.
        self._session.write(sound[TAIL if self._tail_given else 0 : need + TAIL])
        self._tail_given = True
        self._heard = np.concatenate([self._heard, sound[:need]])[-len(self._heard) :]
        ((_, motion),) = self._batch.advance_motion()
        return motion

    def draw(self, motion: np.ndarray, point: Point) -> list[np.ndarray]:
        """Returns the frames of a hop's motion that are drawn, uint8 (n, n, 3) each."""
        chosen = motion[:: point.stays]
        return list(np.concatenate(list(self._generator.render(self._avatar, chosen, self._draws))))

    def _open(self, controls: Controls, hop: int) -> tuple[StreamBatch, Session]:
        controls = dataclasses.replace(controls, hop=hop, look_ahead=0)
        batch = self._generator.stream_batch(1, controls)
        self._tail_given = False
        return batch, batch.open(self._avatar)


def measure(
    generator: VideoGenerator, controls: Controls, hops: tuple[int, ...], steps: tuple[int, ...]
) -> tuple[tuple[float, ...], float]:
    """Compiles what live sessions need; returns seconds of a window for each number of steps, and of a drawn frame."""
    size = generator.image_size
    avatar = generator.prepare(np.full((size, size, 3), 128, np.uint8))
    live = LiveMotion(generator, avatar, controls, hops[0])

    def window(hop: int, count: int) -> tuple[np.ndarray, float]:
        live.change(dataclasses.replace(controls, steps=count), hop)
        for _ in range(2):  # the first compiles
            live.hear(np.zeros((hop + AHEAD) * PER_FRAME, np.float32))
            start = time.perf_counter()
            motion = live.next_motion()
            took = time.perf_counter() - start
        return motion, took

    for hop in hops[:-1]:
        window(hop, steps[0])
    motion, first = window(hops[-1], steps[0])
    times = (first, *(window(hops[-1], count)[1] for count in steps[1:]))
    drawn = Point(hops[-1], 1)
    for _ in range(2):
        start = time.perf_counter()
        count = len(live.draw(motion[:3], drawn))
        frame_time = (time.perf_counter() - start) / count
    return times, frame_time
