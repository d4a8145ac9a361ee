"""How videos are measured, pinned: what a table of figures must be read with, and what decides whether two compare."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vasa_jax.config import VideosConfig
from vasa_jax.conventions import FPS, SAMPLE_RATE
from vasa_jax.errors import InputError
from vasa_jax.evaluation import capp, frechet, picture_features, sync, video_metrics
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.evaluation.frechet import VideoFeatures
from vasa_jax.evaluation.picture_features import FaceModel, InceptionFeatures
from vasa_jax.evaluation.picture_judges import PictureJudges
from vasa_jax.evaluation.sync import SyncMeter
from vasa_jax.evaluation.sync_probe import PART, SyncProbeMeter
from vasa_jax.files import sha256
from vasa_jax.models.sync_probe import WINDOW
from vasa_jax.weights.parts import SHIPPED, folder_of
from vasa_jax.weights.published_networks import NETWORKS, find_published, load_published

VERSION = 5  # of the measures; another one is another protocol
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "scipy", "av", "opencv-python-headless", "pillow", "soxr")


@dataclasses.dataclass
class Instruments:
    """The networks that measure, and the protocol that they make; None where the user has no file of one."""

    reader: FaceReader
    capp: capp.CAPPScore | None
    sync: SyncMeter | None
    fvd: VideoFeatures | None
    protocol: dict[str, Any]
    sync_probe: SyncProbeMeter | None = None
    judges: PictureJudges | None = None
    fid: InceptionFeatures | None = None
    face_model: FaceModel | None = None

    @classmethod
    def open(cls, settings: VideosConfig) -> "Instruments":
        """Loads the shipped networks and what `settings.networks` holds; InputError for what cannot be read."""
        networks = {"face_probe": SHIPPED / "instrument.safetensors"}
        folder = settings.networks
        if folder and not Path(folder).is_dir():
            raise InputError(f"config.videos_evaluation.networks: {folder} is no folder; give one, or leave it empty")
        found = {name: find_published(folder, name) if folder else None for name in NETWORKS}
        if folder and not any(found.values()):
            raise InputError(
                f"config.videos_evaluation.networks: {folder} has none of "
                f"{', '.join(network.files[0] for network in NETWORKS.values())}, nor what job import_weights makes of "
                "them; give their folder, or leave it empty"
            )

        def made(name: str, measure: Callable[[dict[str, Any]], Any]) -> Any:
            return measure(load_published(found[name], name)) if found[name] else None

        networks |= {name: path for name, path in found.items() if path}
        of_capp = folder_of(settings.capp, "capp") / "capp.safetensors"
        if settings.capp or of_capp.is_file():
            score = capp.CAPPScore.from_pretrained(settings.capp)
            networks["capp"] = of_capp
        else:
            score = None
        of_sync = folder_of(settings.sync, PART) / f"{PART}.safetensors"
        if settings.sync or of_sync.is_file():
            sync_probe = SyncProbeMeter.from_pretrained(settings.sync)
            networks["sync_probe"] = of_sync
        else:
            sync_probe = None
        judges = None
        if settings.loss_networks:
            judges, files = PictureJudges.open(settings.loss_networks)
            networks |= files
        return cls(
            FaceReader.from_pretrained(),
            score,
            made("syncnet", SyncMeter),
            made("i3d", VideoFeatures),
            protocol(settings, networks),
            sync_probe,
            judges,
            made("inception", InceptionFeatures),
            made("face_model", FaceModel),
        )


def protocol(settings: VideosConfig, networks: dict[str, Path]) -> dict[str, Any]:
    """Returns the protocol as JSON takes it. Nothing in it tells where files lie, or when this was."""
    return {
        "version": VERSION,
        "video": {
            "frames_per_second": FPS,
            "frames": "nearest in time, dropped or repeated; damaged ones are skipped",
            "decoder": "FFmpeg, by PyAV; RGB by swscale with its defaults",
            "seconds": settings.seconds,
            "square": f"median of the faces in up to {settings.faces} frames, one a second, by OpenCV's cascades; "
            "framed as the built-in corpus; fixed for the whole video",
            "side": settings.size,
            "resampling": "area average to a smaller square, bicubic to a larger",
        },
        "sound": {"rate": SAMPLE_RATE, "channels": "mean", "resampling": "soxr", "starts": "with the first frame"},
        "sampling": {
            "capp": {"window": 75, "hop": capp.HOP, "shifts": list(capp.SHIFTS), "scales": list(capp.SCALES)},
            "frechet": {"clip": frechet.CLIP, "stride": frechet.CLIP, "covariance": "over count - 1",
                        "pictures": "the square"},
            "sync": {"window": 5, "hop": 1, "shifts": sync.MAX_SHIFT, "boxes": "our face probe's, not S3FD's"},
            "sync_probe": {"window": WINDOW, "hop": 1, "shifts": sync.MAX_SHIFT},
            "sharpness": {"every": video_metrics.SHARPNESS_STRIDE},
            "pictures": {"every": picture_features.EVERY, "faces": "by five points of our face probe's"},
        },
        "networks": {name: sha256(path) for name, path in sorted(networks.items())},
        "versions": {name: _version(name) for name in ("vasa_jax", *_LIBRARIES)},
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
