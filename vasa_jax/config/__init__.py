"""Every setting of the project: typed, with a default, a range or choices, and a unit.

A file in `configs/` builds a `VASAConfig` and returns it as a `ConfigDict`, so that any field can be set on the command
line (`--config.train.steps=100`); `VASAConfig.from_config_dict` turns the result back and validates it.
"""

from vasa_jax.config.data import (
    CorpusConfig,
    PhotoHeadsConfig,
    PhotosConfig,
    PrepareConfig,
    SpeechCorpusConfig,
    SynthesisConfig,
)
from vasa_jax.config.face import FaceConfig
from vasa_jax.config.reports import (
    BenchmarkConfig,
    ControlsEvaluationConfig,
    CorpusSheetsConfig,
    DriftConfig,
    EvaluationConfig,
    FaceEvaluationConfig,
    LabelAccuracyConfig,
    LiveBenchmarkConfig,
    MarksConfig,
    PhotosEvaluationConfig,
    PoseErasureConfig,
    ReadingBenchmarkConfig,
    RendererBenchmarkConfig,
    VideosConfig,
    VoicesConfig,
    VotesConfig,
)
from vasa_jax.config.run import VASAConfig
from vasa_jax.config.studio import StudioConfig
from vasa_jax.config.training import (
    AudioConfig,
    CAPPConfig,
    LipsConfig,
    LossNetworksConfig,
    MatteConfig,
    MotionConfig,
    RetargetingConfig,
    SyncConfig,
    TrainConfig,
)

__all__ = [
    "AudioConfig",
    "BenchmarkConfig",
    "CAPPConfig",
    "ControlsEvaluationConfig",
    "CorpusConfig",
    "CorpusSheetsConfig",
    "DriftConfig",
    "EvaluationConfig",
    "FaceConfig",
    "FaceEvaluationConfig",
    "LabelAccuracyConfig",
    "LipsConfig",
    "LiveBenchmarkConfig",
    "LossNetworksConfig",
    "MarksConfig",
    "MatteConfig",
    "MotionConfig",
    "PhotoHeadsConfig",
    "PhotosConfig",
    "PhotosEvaluationConfig",
    "PoseErasureConfig",
    "PrepareConfig",
    "ReadingBenchmarkConfig",
    "RendererBenchmarkConfig",
    "RetargetingConfig",
    "SpeechCorpusConfig",
    "StudioConfig",
    "SyncConfig",
    "SynthesisConfig",
    "TrainConfig",
    "VASAConfig",
    "VideosConfig",
    "VoicesConfig",
    "VotesConfig",
]  # fmt: skip
