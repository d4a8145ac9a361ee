"""Live avatars: sound in as it comes, video with sound out at the pace of the clock (VASA-1 section 3.3).

A session's thread makes hop after hop. It takes the sound that waits, or silence, in which the avatar idles; makes
motion and frames; and hands them to whoever plays them (`players.py`). It begins each hop when the clock says, and so
never runs ahead of a microphone. It makes less where the machine is too slow, and catches up (`pace.py`).
"""

import dataclasses
import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.errors import InputError, say
from vasa_jax.generation.animator import Avatar
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.serving.fragments import PER_FRAME, RATE
from vasa_jax.serving.live_motion import AHEAD, LiveMotion, hops_of, measure
from vasa_jax.serving.metrics import Metrics
from vasa_jax.serving.pace import Clock, Pace, Point, halvings
from vasa_jax.serving.players import Hop, Player
from vasa_jax.serving.sound_queue import SoundQueue

UNSEEN = 20.0  # seconds without a player, after which a session ends
QUIET = 300.0  # seconds without sound, after which a session ends: videos wait for it
AUDIBLE = 0.003  # RMS of a hop that counts as sound (-50 dB of full scale): a forgotten microphone hears a room
MOST_UNSENT = 16  # fragments that a player may be behind


class Busy(Exception):
    """All sessions are in use."""


class LiveSession:
    """One avatar at work, from `start` until `close`.

    Attributes:
      id: a secret name.
      size: pixels per side of its frames.
      sound: what waits to be spoken.
      ended: set when it is over; `reason` says why.
    """

    def __init__(
        self,
        generator: VideoGenerator,
        avatar: Avatar,
        controls: Controls,
        pace: Pace,
        steps: tuple[int, ...],
        metrics: Metrics,
        *,
        longest: float,
        queue: float,
        sessions: Callable[[], int],
        done: "Callable[[LiveSession], None]",
    ):
        """Nothing is made before `start`.

        steps: of the solver, and for each halving; longest: seconds that it may last; queue: of sound that may wait;
        sessions: how many are open; done: called when it is over.
        """
        self.id, self.reason, self.size = secrets.token_hex(16), "", generator.image_size
        self.ended = threading.Event()
        self.sound = SoundQueue(queue)
        self._metrics, self._sessions, self._done = metrics, sessions, done
        self._pace, self._steps, self._clock, self._until = pace, steps, Clock(), time.monotonic() + longest
        self._motion = LiveMotion(generator, avatar, self._stepped(controls), pace.point.hop)
        self._lock, self._opened = threading.Lock(), time.monotonic()
        self._player: Player | None = None
        self._unseen_since = self._heard_at = self._opened
        self._wanted: Controls | None = None
        self._wanted_avatar: Avatar | None = None
        self._interruptions, self._answered, self._portraits = 0, 0, 0
        self._picture: np.ndarray | None = None  # that was drawn last
        self._speaks = False
        self._frame = 0  # of the next hop, since the start
        self._sample = 0  # of its sound
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)

    @property
    def point(self) -> Point:
        """What it makes at once, and how much of it is drawn."""
        return self._pace.point

    @property
    def costs(self) -> tuple[tuple[float, ...], float]:
        """What motion and frames cost it, see `Pace.costs`."""
        return self._pace.costs

    def start(self) -> None:
        """Begins to make hops, once someone plays them."""
        self._thread.start()

    def close(self, reason: str = "closed") -> None:
        """Ends it; its thread stops after the hop that it makes."""
        self.reason = self.reason or reason
        self.ended.set()

    def join(self) -> None:
        """Waits for its thread."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def play_to(self, player: Player) -> None:
        """Hands every hop from now on to a player, in the place of the one before."""
        with self._lock:
            self._player = player

    def stop_playing(self, player: Player) -> None:
        """Forgets a player, unless another has taken its place."""
        with self._lock:
            if self._player is player:
                self._player, self._unseen_since = None, time.monotonic()

    def plays_to(self, player: Player) -> bool:
        """Returns whether hops are handed to a player."""
        return self._player is player

    def interrupt(self) -> None:
        """Drops the sound that waits; the next hop is silent."""
        self.sound.clear()
        with self._lock:
            self._interruptions += 1
            number, player = self._interruptions, self._player
        if player:
            player.interrupt(number)

    def change_controls(self, controls: Controls) -> None:
        """Changes what is asked of the motion, from the next hop on."""
        self._wanted = controls

    def change_avatar(self, avatar: Avatar) -> None:
        """Changes who is shown, from the next hop on."""
        self._wanted_avatar = avatar

    def _work(self) -> None:
        try:
            self._hops()
        except Exception as error:  # other sessions do not depend on it
            self.close(str(error) if isinstance(error, InputError) else f"the server failed ({type(error).__name__})")
            if not isinstance(error, InputError):
                say("".join(traceback.format_exception(error)), sys.stderr)
        finally:
            self.ended.set()
            self._done(self)

    def _hops(self) -> None:
        clock = self._clock
        while not self.ended.is_set():
            now = time.monotonic()
            if now > self._until:
                return self.close("its time is over; open another")
            if now - self._heard_at > QUIET:
                return self.close(f"nothing was said for {QUIET / 60:g} minutes; open another")
            with self._lock:
                seen = self._player is not None
            if not seen:
                if now - self._unseen_since > UNSEEN:
                    return self.close("nobody plays it")
                clock.rest()
                self.ended.wait(0.02)
                continue
            self.ended.wait(clock.wait(now))
            if skipped := clock.skip(time.monotonic()):
                self._hold(skipped)
            self._hop()

    def _hold(self, frames: int) -> None:
        """Lets time pass for which nothing was made: the picture stays, in silence."""
        self._metrics.skipped.inc(frames / FPS)
        samples = np.zeros(frames * PER_FRAME, np.float32)
        about = self._about(frames, [], speaks=self._speaks, late=True, skipped=True)
        self._send([self._picture], [frames], samples, self._answered, about)

    def _hop(self) -> None:
        """Makes one hop, whose time has begun."""
        start, number = time.monotonic(), self._interruptions
        begun_late = self._clock.behind(start)
        point = self._follow()
        interrupted, self._answered = number != self._answered, number
        ahead = AHEAD if self._sample == 0 else 0
        samples, heard = self.sound.take((point.hop + ahead) * PER_FRAME, begun_late)
        if heard and np.sqrt(np.mean(samples**2)) > AUDIBLE:
            self._heard_at = start
        self._motion.hear(samples)
        motion = self._motion.next_motion()
        moved = time.monotonic()
        point = self._pace.fitting(moved - start, begun_late)  # the clock comes first
        frames = self._motion.draw(motion, point)
        if self._interruptions != number:
            samples = samples * 0  # what was said of it is not heard
        shown = [min(point.stays, point.hop - index) for index in range(0, point.hop, point.stays)]
        drawn, self._speaks = time.monotonic(), heard > 0
        self._clock.made(point.seconds)
        late = self._clock.behind(drawn) > 0
        about = self._about(
            point.hop, frames, speaks=self._speaks, interrupted=interrupted, late=late,
            load=round((drawn - start) / point.seconds, 3),
        )  # fmt: skip
        self._send(frames, shown, samples, number, about)
        end = time.monotonic()
        self._tell(frames, end - start, late)
        self._pace.measured(moved - start, (end - moved) / len(frames), self._clock.behind(end))

    def _follow(self) -> Point:
        """Has the next hop made at the pace's point, with what was asked for last; returns the point."""
        point, used = self._pace.point, self._motion.controls
        wanted, self._wanted = self._wanted, None
        controls = self._stepped(wanted or used)
        if wanted or (used.hop, used.steps) != (point.hop, controls.steps):
            self._motion.change(controls, point.hop)
        if self._wanted_avatar:
            self._motion.change_avatar(self._wanted_avatar)
            self._wanted_avatar = None
            self._portraits += 1
        return point

    def _stepped(self, controls: Controls) -> Controls:
        """Returns controls with the solver's steps of the point in use."""
        return dataclasses.replace(controls, steps=self._steps[self._pace.point.halved])

    def _about(self, hop: int, frames: Sequence[np.ndarray], **more: Any) -> dict[str, Any]:
        """Returns what players are told of a hop."""
        behind = self._clock.behind(time.monotonic())
        return {
            "type": "hop", "start": self._frame / FPS, "seconds": hop / FPS, "rate": round(len(frames) * FPS / hop, 2),
            "steps": self._motion.controls.steps, "heard": self.sound.taken / RATE,
            "waiting": round(self.sound.waiting / RATE, 3), "behind": round(behind, 3), "interrupted": False,
            "skipped": False, "portraits": self._portraits, "load": 0.0, "sessions": self._sessions(),
            **self._metrics.usage(), **more,
        }  # fmt: skip

    def _send(
        self,
        frames: Sequence[np.ndarray],
        shown: Sequence[int],
        samples: np.ndarray,
        number: int,
        about: dict[str, Any],
    ) -> None:
        """Hands the next frames and their sound on; number: of the interruption that they follow."""
        hop = Hop(
            self._frame, frames, shown, self._sample, samples, about["speaks"], number, self._portraits, about,
            about["skipped"],
        )  # fmt: skip
        self._deliver(hop)
        self._frame, self._sample = hop.end, self._sample + len(samples)

    def _deliver(self, hop: Hop) -> None:
        with self._lock:
            player = self._player
        if player and not player.play(hop):
            self.close("its player is too slow")

    def _tell(self, frames: Sequence[np.ndarray], took: float, late: bool) -> None:
        """Counts a hop that has been sent."""
        metrics = self._metrics
        metrics.live_frames.inc(len(frames))
        metrics.latency.observe(took)
        metrics.late.inc(late)
        if self._picture is None:
            metrics.first_frame.observe(time.monotonic() - self._opened)
        self._picture = frames[-1]


class LiveSessions:
    """The sessions of a studio, a limited number of them."""

    def __init__(self, generator: VideoGenerator, config: VASAConfig, metrics: Metrics):
        """Nothing is compiled before `warm_up`, or the first session."""
        self._generator, self._config, self._metrics = generator, config, metrics
        self._sessions: dict[str, LiveSession] = {}
        self._lock, self._warming = threading.Lock(), threading.Lock()
        self._taken = 0  # seats, those of sessions that are being opened too
        settings = config.studio
        self._steps = halvings(settings.live_steps, settings.live_least_steps)
        self._costs: tuple[tuple[float, ...], float] | None = None

    @property
    def most(self) -> int:
        """How many may be open at once: none with weights that do not make hops."""
        return self._config.studio.live_sessions if self._generator.makes_hops else 0

    @property
    def active(self) -> bool:
        """Whether a session is open or being opened."""
        return self._taken > 0

    def warm_up(self) -> tuple[tuple[float, ...], float]:
        """Compiles and measures, once; returns seconds of a window for all steps and each halving, and of a frame.

        They are then those of the session that ended last: the machine may be busy while this measures.
        """
        with self._warming:
            if self._costs is None:
                controls, hops = self._controls(Controls()), hops_of(self._generator)
                self._costs = measure(self._generator, controls, hops, self._steps)
            return self._costs

    def open(self, avatar: Callable[[], Avatar], controls: Controls) -> LiveSession:
        """Returns a new session; Busy where all seats are taken.

        InputError of `avatar()`, for bad controls, and where there is no live avatar.
        """
        settings = self._config.studio
        if not self._generator.makes_hops:
            raise InputError(
                "live: JoyVASA's and Ditto's motion comes too late for a live avatar; use /v1/videos (Speak), or start "
                "the studio with a model trained here"
            )
        if not self.most:
            raise InputError("live: this server has no live avatar; use /v1/videos (Speak)")
        with self._lock:
            if self._taken >= self.most:
                self._metrics.busy.inc()
                raise Busy
            self._taken += 1
        try:
            pace = Pace(*self.warm_up(), hops_of(self._generator))
            session = LiveSession(
                self._generator, avatar(), self._controls(controls), pace, self._steps, self._metrics,
                longest=60 * settings.live_minutes, queue=3600 * self._config.limits.hours,
                sessions=lambda: len(self._sessions), done=self._left,
            )  # fmt: skip
        except BaseException:
            with self._lock:
                self._taken -= 1
            raise
        with self._lock:
            self._sessions[session.id] = session
            self._metrics.sessions.set(len(self._sessions))
        session.start()
        return session

    def get(self, session: str) -> LiveSession | None:
        """Returns an open session."""
        return self._sessions.get(session)

    def close(self) -> None:
        """Ends all of them."""
        for session in list(self._sessions.values()):
            session.close("the server ends")
            session.join()

    def change_controls(self, session: LiveSession, controls: Controls) -> None:
        """Changes a session's controls, within what live sessions may ask for; InputError for bad ones."""
        session.change_controls(self._controls(controls))

    def _controls(self, controls: Controls) -> Controls:
        """The controls of a session: steps, solver and hop are the server's own."""
        hop = hops_of(self._generator)[0]
        settled = dataclasses.replace(
            controls, steps=self._steps[0], solver="dpmpp", hop=hop, look_ahead=0
        )
        self._generator.sampler.schedule(settled.validate("controls"))
        return settled

    def _left(self, session: LiveSession) -> None:
        with self._lock:
            if self._sessions.pop(session.id, None):
                self._taken -= 1
                self._costs = session.costs
            self._metrics.sessions.set(len(self._sessions))
