"""What the studio counts and measures, for Prometheus and for the page."""

import threading
import time

import jax
import prometheus_client as prometheus

from vasa_jax.serving.gpu_share import GpuShare

SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
CPU_SECONDS = 1.0  # over which the cores in use are counted
SKEWS = (-0.2, -0.1, -0.04, -0.02, -0.01, 0.0, 0.01, 0.02, 0.04, 0.1, 0.2)


class Metrics:
    """One registry for one studio: tests make many in one process.

    videos: ended jobs by state; frames: of videos; waiting: jobs in the queue; sessions: open live sessions; busy: live
    sessions refused; late: hops that missed their time; skipped: seconds of sessions that were too far behind, for
    which no hop was made; live_frames: sent; first_frame: seconds from opening to the first picture sent; latency:
    seconds from the last sound of a hop's arrival to its pictures' leaving; seen_latency, skew: as browsers report
    them, sound sent to picture shown, and picture over sound; players: begun, by what carries them; device_memory:
    bytes in use on an accelerator; gpu: share of the time in which it works, no line without one. CPU seconds and
    memory of the process are there too.
    """

    def __init__(self):
        registry = self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        counter, gauge, histogram = prometheus.Counter, prometheus.Gauge, prometheus.Histogram
        self.videos = counter("vasa_videos", "jobs that have ended", ["state"], registry=registry)
        self.frames = counter("vasa_video_frames", "frames of finished videos", registry=registry)
        self.waiting = gauge("vasa_waiting", "jobs in the queue", registry=registry)
        self.sessions = gauge("vasa_live_sessions", "open live sessions", registry=registry)
        self.busy = counter("vasa_live_busy", "live sessions refused because all were in use", registry=registry)
        self.late = counter("vasa_live_late", "hops of live sessions that missed their time", registry=registry)
        self.skipped = counter("vasa_live_skipped_seconds", "of live sessions too far behind", registry=registry)
        self.live_frames = counter("vasa_live_frames", "frames of live sessions", registry=registry)
        self.first_frame = histogram(
            "vasa_live_first_frame_seconds", "opening to first picture sent", buckets=SECONDS, registry=registry
        )
        self.latency = histogram(
            "vasa_live_latency_seconds", "a hop's last sound to its pictures sent", buckets=SECONDS, registry=registry
        )
        self.seen_latency = histogram(
            "vasa_live_seen_latency_seconds", "browsers: sound to picture", buckets=SECONDS, registry=registry
        )
        self.skew = histogram(
            "vasa_live_skew_seconds", "browsers: picture over sound", buckets=SKEWS, registry=registry
        )

        self.players = counter("vasa_live_players", "players of live sessions", ["over"], registry=registry)
        self.device_memory = gauge("vasa_device_memory_bytes", "in use on the accelerator", registry=registry)
        self.gpu = gauge("vasa_gpu_busy", "share of the time in which it works", ["device"], registry=registry)
        self._gpu_share = GpuShare()
        self._lock, self._counted, self._cores = threading.Lock(), (time.monotonic(), time.process_time()), 0.0

    def usage(self) -> dict[str, float | None]:
        """Returns cores that this process uses, the busy share of the GPU and bytes in use on the accelerator.

        None where there is none.
        """
        with self._lock:
            now, (wall, cpu) = (time.monotonic(), time.process_time()), self._counted
            if now[0] - wall >= CPU_SECONDS:
                self._cores, self._counted = (now[1] - cpu) / (now[0] - wall), now
        return {
            "cores": round(self._cores, 2), "gpu": self._gpu_share.latest(), "device_memory": device_memory(),
        }  # fmt: skip

    def text(self) -> bytes:
        """Returns all of it in Prometheus's text format."""
        self.device_memory.set(device_memory() or 0)
        self.gpu.clear()  # an old share is none
        if (share := self._gpu_share.latest()) is not None:
            self.gpu.labels("0").set(share)
        return prometheus.generate_latest(self._registry)


def device_memory() -> int | None:
    """Returns the bytes in use on the first accelerator, None where its back end does not say, as a CPU's."""
    stats = jax.local_devices()[0].memory_stats()
    return None if stats is None else stats.get("bytes_in_use")
