"""VASAConfig: one run of `vasa_jax.main`, a job and everything it may need."""

from vasa_jax.config.data import CorpusConfig, PrepareConfig, SynthesisConfig
from vasa_jax.config.reports import (
    BenchmarkConfig,
    ControlsEvaluationConfig,
    CorpusSheetsConfig,
    DriftConfig,
    EvaluationConfig,
    FaceEvaluationConfig,
    LabelAccuracyConfig,
    PoseErasureConfig,
    ReadingBenchmarkConfig,
    RendererBenchmarkConfig,
    VoicesConfig,
)
from vasa_jax.config.training import AudioConfig, FaceConfig, JudgeConfig, MotionConfig, TrainConfig
from vasa_jax.data.limits import InputLimits
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.settings import number, part, section, text


@section
class VASAConfig(Controls):
    """Settings of a run: the controls of generation (`Controls`), files, and a section for each kind of job."""

    job: str = text("generate", "what to do: a name of main.JOBS")
    checkpoint: str = text("", "directory with face, audio and motion .safetensors; empty = the shipped model")
    image: str = text("", "portrait: a picture, or a video whose best frame of the first two seconds is taken")
    audio: str = text("", "speech: a sound file, or a video with sound")
    output: str = text("", "video to write, .mp4; of job prepare a folder")
    controls: str = text("", "control track (.json) with any control per frame, see generation/control_track.py")
    crop: str = text("", "of the portrait: x,y,size in pixels, or center; empty = find the face")
    background: str = text("", "colour behind a cut-out portrait, a name or #rrggbb; empty = mid-grey")
    jobs: str = text("", "job list (.jsonl), one video a line, see generation/job_list.py")
    limits: InputLimits = part(InputLimits())
    decode_batch: int = number(8, 1, 1024, "frames", "decoded at once")
    videos: str = text("", "folder of videos, or one video, for jobs prepare and evaluate_voices")
    train: TrainConfig = part(TrainConfig())
    corpus: CorpusConfig = part(CorpusConfig())
    face: FaceConfig = part(FaceConfig())
    judge: JudgeConfig = part(JudgeConfig())
    speech: AudioConfig = part(AudioConfig())
    motion: MotionConfig = part(MotionConfig())
    evaluation: EvaluationConfig = part(EvaluationConfig())
    controls_evaluation: ControlsEvaluationConfig = part(ControlsEvaluationConfig())
    face_evaluation: FaceEvaluationConfig = part(FaceEvaluationConfig())
    pose_erasure: PoseErasureConfig = part(PoseErasureConfig())
    drift: DriftConfig = part(DriftConfig())
    voices: VoicesConfig = part(VoicesConfig())
    benchmark: BenchmarkConfig = part(BenchmarkConfig())
    synthesis: SynthesisConfig = part(SynthesisConfig())
    renderer_benchmark: RendererBenchmarkConfig = part(RendererBenchmarkConfig())
    reading_benchmark: ReadingBenchmarkConfig = part(ReadingBenchmarkConfig())
    corpus_sheets: CorpusSheetsConfig = part(CorpusSheetsConfig())
    prepare: PrepareConfig = part(PrepareConfig())
    label_accuracy: LabelAccuracyConfig = part(LabelAccuracyConfig())

    def check_together(self, path: str) -> None:
        """Raises InputError for controls that are none, and for sections that contradict each other."""
        if self.job != "benchmark":  # which has hops of its own
            super().check_together(path)
        if self.job == "train_face":
            self._check_face_data(path)

    def _check_face_data(self, path: str) -> None:
        corpus, face, batch = self.corpus, self.face, self.train.batch_size
        if corpus.shards:
            if face.recipe != "self":
                raise InputError(
                    f"{path}.face.recipe: shards have no rendered truth of one person in another's motion; set it to "
                    "self"
                )
            return
        if batch % corpus.drivers:
            raise InputError(
                f"{path}.train.batch_size: {batch} is no multiple of {path}.corpus.drivers, {corpus.drivers}; "
                "choose one"
            )
        if face.same_frame * corpus.drivers > 1:
            raise InputError(
                f"{path}.face.same_frame: {face.same_frame} is more than one driver of {corpus.drivers} per source; "
                f"choose at most {1 / corpus.drivers:g}, or fewer {path}.corpus.drivers"
            )
