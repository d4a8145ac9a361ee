"""VASAConfig: one run of `vasa_jax.main`, a job and everything it may need."""

import re

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
from vasa_jax.conventions import JOYVASA_POSITIONS
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.limits import InputLimits
from vasa_jax.settings import choice, flag, number, part, section, text


@section
class VASAConfig(Controls, Driving, VideoForm):
    """Settings of a run: controls of generation (`Controls`), of reenactment (`Driving`) and of the video's form
    (`VideoForm`), files, sections of jobs."""

    job: str = text("generate", "what to do: a name of main.JOBS")
    checkpoint: str = text("", "directory with face, audio and motion .safetensors; empty = the shipped model")
    motion_generator: str = choice(
        "", ("", "joyvasa", "ditto"), "open weights that make a keypoint codec's motion; empty = what checkpoint has"
    )
    image: str = text("", "portrait: a picture, or a video whose best frame of the first two seconds is taken")
    audio: str = text("", "speech: a sound file, or a video with sound")
    output: str = text(
        "",
        "video to write: .mp4, .mov, .webm, or .zip of PNG pictures; of prepare, fit_photos, speech_corpus and "
        "import_weights a folder",
    )
    controls: str = text("", "control track (.json) with any control per frame, see generation/control_track.py")
    crop: str = text("", "of the portrait: x,y,size in pixels, or center; empty = find the face")
    background: str = text("", "colour behind a cut-out portrait, a name or #rrggbb; empty = mid-grey")
    paste: bool = flag(False, "the head moves in the whole picture, at its size; else in the square crop")
    jobs: str = text("", "job list (.jsonl), one video a line, see generation/job_list.py")
    limits: InputLimits = part(InputLimits())
    size: int = number(
        0, 0, 1024, "pixels", "side of the video's frames, a multiple of the codec's own; 0 = that; 512 = finer"
    )
    decode_batch: int = number(8, 1, 1024, "frames", "decoded at once")
    files: str = text("", "folder of downloaded open weights, for job import_weights (docs/weights.md)")
    joyvasa_positions: str = choice(
        "constant", JOYVASA_POSITIONS,
        "of job import_weights: sequence = of weights trained with JoyVASA's code since Dec 2025",
    )
    mark: bool = flag(True, "invisible mark and C2PA manifest; read docs/responsible-use.md before you leave them out")
    mark_id: str = text("", "of the invisible mark, 7 hexadecimal digits, to make a video anew; empty = a random one")
    sign_certificate: str = text("", "PEM chain that signs the manifest; empty = this machine's, made at the first use")
    sign_key: str = text("", "PEM private key of sign_certificate, not encrypted")
    video: str = text(
        "", "of job detect: the video or picture that is searched for a mark; of reenact: the video that drives"
    )
    motion_output: str = text("", "of job reenact: file (.npz) to keep the driving motion in")
    videos: str = text("", "folder of videos, or one, for job prepare and jobs evaluate_videos, _voices, _marks")
    studio: StudioConfig = part(StudioConfig())
    references: str = text("", "of job evaluate_videos: folder of true videos, matched by their names")
    manifest: str = text("", "of job evaluate_videos: .jsonl, one video a line with what belongs to it")
    train: TrainConfig = part(TrainConfig())
    corpus: CorpusConfig = part(CorpusConfig())
    face: FaceConfig = part(FaceConfig())
    loss_networks: LossNetworksConfig = part(LossNetworksConfig(), was="judge")
    speech: AudioConfig = part(AudioConfig())
    motion: MotionConfig = part(MotionConfig())
    capp: CAPPConfig = part(CAPPConfig())
    sync: SyncConfig = part(SyncConfig())
    lip_reader: LipsConfig = part(LipsConfig())
    matte: MatteConfig = part(MatteConfig())
    retargeting: RetargetingConfig = part(RetargetingConfig())
    evaluation: EvaluationConfig = part(EvaluationConfig())
    controls_evaluation: ControlsEvaluationConfig = part(ControlsEvaluationConfig())
    face_evaluation: FaceEvaluationConfig = part(FaceEvaluationConfig())
    pose_erasure: PoseErasureConfig = part(PoseErasureConfig())
    drift: DriftConfig = part(DriftConfig())
    voices: VoicesConfig = part(VoicesConfig())
    photos_evaluation: PhotosEvaluationConfig = part(PhotosEvaluationConfig())
    videos_evaluation: VideosConfig = part(VideosConfig())
    votes: VotesConfig = part(VotesConfig())
    marks: MarksConfig = part(MarksConfig())
    benchmark: BenchmarkConfig = part(BenchmarkConfig())
    speech_corpus: SpeechCorpusConfig = part(SpeechCorpusConfig())
    synthesis: SynthesisConfig = part(SynthesisConfig())
    renderer_benchmark: RendererBenchmarkConfig = part(RendererBenchmarkConfig())
    reading_benchmark: ReadingBenchmarkConfig = part(ReadingBenchmarkConfig())
    live_benchmark: LiveBenchmarkConfig = part(LiveBenchmarkConfig())
    corpus_sheets: CorpusSheetsConfig = part(CorpusSheetsConfig())
    prepare: PrepareConfig = part(PrepareConfig())
    photos: PhotosConfig = part(PhotosConfig())
    photo_heads: PhotoHeadsConfig = part(PhotoHeadsConfig())
    label_accuracy: LabelAccuracyConfig = part(LabelAccuracyConfig())

    def check_together(self, path: str) -> None:
        """Raises InputError for controls that are none, and for sections that contradict each other."""
        if self.job != "benchmark":  # which has hops of its own
            super().check_together(path)
        Driving.check_together(self, path)
        if bool(self.sign_certificate) != bool(self.sign_key):
            raise InputError(f"{path}.sign_certificate, {path}.sign_key: one without the other; give both PEM files")
        if self.sign_certificate and not self.mark:
            raise InputError(f"{path}.sign_certificate: nothing is signed with {path}.mark=False; leave one out")
        if self.mark_id and not re.fullmatch("[0-9a-f]{7}", self.mark_id):
            raise InputError(f"{path}.mark_id: {self.mark_id!r:.60} is none; give 7 hexadecimal digits or leave it out")
        if self.mark_id and not self.mark:
            raise InputError(f"{path}.mark_id: nothing is marked with {path}.mark=False; leave one out")
        if self.mark_id and self.jobs:
            raise InputError(f"{path}.mark_id: every video of {path}.jobs would have it; leave one out")
        if self.job == "train_face":
            self._check_face_data(path)

    def _check_face_data(self, path: str) -> None:
        corpus, face, batch = self.corpus, self.face, self.train.batch_size
        self._check_photo_heads(path)
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

    def _check_photo_heads(self, path: str) -> None:
        face, heads = self.face, self.photo_heads
        if not heads.folder:
            return
        if self.corpus.shards:
            raise InputError(f"{path}.corpus.shards: not together with photo heads; name them {path}.photo_heads.clips")
        if face.recipe != "counterfactual":
            raise InputError(f"{path}.face.recipe: photo heads have exact truth; set it to counterfactual")
        for name in ("flip", "same_frame"):
            if getattr(face, name):
                raise InputError(f"{path}.face.{name}: not together with photo heads; leave it 0")
        if face.pairwise_transfer is not None:
            raise InputError(f"{path}.face.pairwise_transfer: not together with photo heads; leave it out")
        if heads.faces <= self.corpus.drivers:
            raise InputError(
                f"{path}.photo_heads.faces: {heads.faces} is out of range; choose more than {path}.corpus.drivers, "
                f"{self.corpus.drivers}"
            )
        if heads.clips and heads.clip_frames <= self.corpus.drivers:
            raise InputError(
                f"{path}.photo_heads.clip_frames: {heads.clip_frames} is out of range; choose more than "
                f"{path}.corpus.drivers, {self.corpus.drivers}"
            )
