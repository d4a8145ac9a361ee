"""What one running studio shares: the generator, the jobs, the worker, the live sessions and the counts."""

import threading
from pathlib import Path

from vasa_jax.config import VASAConfig
from vasa_jax.generation.ditto import DittoSampler
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.portraits import Portrait
from vasa_jax.generation.provenance import Signer
from vasa_jax.serving.live import LiveSessions
from vasa_jax.serving.metrics import Metrics
from vasa_jax.serving.store import JobStore
from vasa_jax.serving.worker import Worker
from vasa_jax.settings import part_of


class Studio:
    """A studio at work. `start` begins with the jobs that wait, `close` ends it.

    Attributes:
      config, generator, store, worker, live, metrics: see there.
      closing: set when the server ends, so that whoever waits stops waiting.
      ice_secret: shared with TURN servers, empty where there is none.
    """

    def __init__(self, config: VASAConfig, generator: VideoGenerator, folder: Path, ice_secret: str = ""):
        """folder: of the jobs; InputError where it cannot be used, and for what the generator lacks."""
        if isinstance(generator.sampler, DittoSampler):
            generator.sampler.check_models(part_of(Driving, config))
        self.config, self.generator, self.ice_secret = config, generator, ice_secret
        self.metrics, self.closing = Metrics(), threading.Event()
        self.store = JobStore(folder)
        signer = Signer.from_files(config.sign_certificate, config.sign_key) if config.sign_certificate else None
        self.live = LiveSessions(generator, config, self.metrics)
        self.worker = Worker(self.store, config, generator, lambda: self.live.active, self.metrics, signer)

    def portrait(self, image: Path, crop: str = "", background: str = "") -> Portrait:
        """Reads a portrait as its video will show it: see `VideoGenerator.read_portrait`."""
        how = part_of(Driving, self.config)
        return self.generator.read_portrait(image, crop, background, self.config.limits, how)

    def start(self) -> None:
        """Starts the worker."""
        self.worker.start()

    def close(self) -> None:
        """Ends everything; the running job goes back into the queue of the next start."""
        self.closing.set()
        self.live.close()
        self.worker.close()
        self.store.close()
