"""Every setting of the project: typed, with a default, a unit and a check.

A file in `configs/` builds a `VASAConfig` and returns it as a `ConfigDict`, so that any field can be set on the command
line (`--config.train.steps=100`); `VASAConfig.from_config_dict` turns the result back and validates it.
"""

import dataclasses
import difflib
import types
import typing
from typing import Any

import ml_collections
from ml_collections import config_dict

from vasa_jax.config_checks import check_config
from vasa_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The training loop, the same for every stage."""

    steps: int = 10_000  # optimiser updates
    batch_size: int = 32  # examples per update, over all devices
    learning_rate: float = 5e-4  # peak of the schedule
    warmup_steps: int = 200  # linear from 0
    final_learning_rate: float = 1e-6  # end of the cosine
    weight_decay: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.99
    clip_norm: float = 1.0  # global gradient norm; 0 = off
    accumulate: int = 1  # micro-batches per update
    ema_decay: float = 0.999  # of the parameters that are exported
    log_every: int = 50  # updates
    evaluate_every: int = 2_000  # updates; 0 = only at the end
    save_every: int = 2_000  # updates; 0 = only at the end
    keep: int = 3  # newest checkpoints kept, beside the best
    best_metric: str = ""  # figure of the evaluation by which the best checkpoint is kept; empty = none
    best_is_lowest: bool = False  # the best has the lowest, not the highest, value of best_metric
    minutes: float = 0.0  # wall time in which the learning rate falls to its end and the run stops; 0 = no limit
    data_axis: int = -1  # devices along the mesh's data axis; -1 = all that are left
    fsdp_axis: int = 1  # devices along which parameters are sharded
    sharding_rules: tuple[str, ...] = ()  # "regex=spec", first match wins (training/sharding.py); else the default rule
    distributed: bool = False  # one of several processes (TPU slice, SLURM, JAX_COORDINATOR_ADDRESS)
    precision: str = "auto"  # float32, bfloat16, auto = bfloat16 on accelerators
    remat: bool = False  # keep only products of convolutions and matrices for the backward pass: less memory, more time
    initial: str = ""  # parameters to start from: export directory, .safetensors file or checkpoints directory
    initial_step: str = "latest"  # of a checkpoints directory: latest, best
    initial_partial: bool = False  # start afresh what `initial` lacks or has in another shape
    frozen: tuple[str, ...] = ()  # regexes of parameters that keep the values they start with
    frozen_from: float = 0.0  # share of the run before that, after which they keep their average's values
    opponent_learning_rate: float = 2e-4  # of a task's second player (the critic of a GAN); same schedule
    opponent_beta1: float = 0.5
    wandb: str = ""  # Weights & Biases: offline, online; empty = off


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """The built-in corpus as training data."""

    groups: int = 2048  # identity x motion groups held on the device
    identities: int = 4  # identities per group
    motions: int = 6  # motions per group, rendered for each of its identities
    poses: int = 1  # head poses of each face of a group, which has motions / poses faces; > 1: targets in other poses
    drivers: int = 4  # drivers that share one source in a batch; the source is encoded once for all of them
    chunk: int = 2  # groups rendered at once
    refresh: int = 1  # updates after which the oldest chunk is rendered anew; 0 = never
    style: float = 0.5  # share of identities whose look is changed (paintings, drawings, other cameras); 0 = off
    supersample: int = 2  # rays per pixel side
    speech: str = "espeak"  # espeak (needs espeakng-loader), or shipped: 33 sentences of the package, for small runs
    shards: str = ""  # train_face: directory of shards or of a TFDS build to read instead of rendering
    shard_format: str = ""  # array_record, tfrecord, tfds; empty = the first that is there
    decoders: int = 0  # processes that decode shards; 0 = threads of this one
    clips: int = 2400  # speech clips of the audio and motion sets
    voices_per_clip: int = 2  # augmented versions of each clip's sound
    workers: int = 0  # processes that synthesise speech; 0 = one per core
    cache: str = ""  # directory that keeps synthesised clip sets between runs; empty = synthesise anew


@dataclasses.dataclass(frozen=True)
class FaceConfig:
    """Stage 1: the volume codec and its losses (VASA-1 section 3.1; MegaPortraits)."""

    variant: str = "face_demo"  # a name of models.variants.FACE_VARIANTS
    recipe: str = "counterfactual"  # counterfactual: rendered cross-identity truth; self: pairs of one identity
    l1: float = 1.0
    square: float = 0.0  # mean square error of the whole picture, which PSNR measures
    structure: float = 1.0  # 1 - SSIM over three scales
    gradient: float = 1.0  # L1 between image gradients
    matte: float = 0.3
    pose: float = 1.0
    pose_from_picture: float = 0.0  # share of the picture's gradient that reaches poses which have a label
    contrast: float = 0.02  # CosFace-form motion contrast
    agreement: float = 0.0  # disagreement of codes that share a face, each of their numbers by itself
    code: float = 1e-3  # mean square of the dynamics code
    # Terms that cost a decode or a network; None leaves them out of the program, any number (also 0) is a traced weight
    consist: float | None = None  # VASA-1's l_consist: pairwise transfer of pose and dynamics within a clip
    cross_id: float | None = None  # VASA-1's l_cross_id: identity under another person's motion (needs a judge)
    perceptual: float | None = None  # features of a judge
    face_perceptual: float | None = None  # the same of the face alone, cut out by its pose; MegaPortraits' 4 to 20
    transfer_from: int = 0  # updates before consist, cross_id, perceptual and face_perceptual come in
    judge: str = ""  # directory of the judges: judge, vgg19, vggface, arcface .safetensors (weights/loss_networks.py)
    adversarial: float | None = None  # hinge against a patch critic on two scales; MegaPortraits' 1
    feature_matching: float | None = None  # L1 between the critic's features; MegaPortraits' 40
    gan_from: int = 0  # updates before the critic and its two terms come in
    critic_widths: tuple[int, ...] = (64, 128, 256, 512)
    same_frame: float = 0.0  # share of pairs whose driver is the source's own frame; DPE needs some beside consist
    # What keeps pose and identity out of the dynamics (leakage guards)
    crop_warp: float = 0.0  # smooth random warp of the crop that dynamics are read from, in cells of its 9 x 9 grid
    pose_pool: float = 0.0  # share of l_cross_id's examples whose pose is of a third person
    flip: float = 0.0  # share of examples mirrored, source and driver together
    dynamics_noise: float = 0.1  # added to the code before decoding, in standard deviations of the batch
    mouth_weight: float = 8.0  # of a mouth pixel against a skin pixel
    eye_weight: float = 6.0
    background_weight: float = 0.3
    jitter: float = 0.5  # share of examples with a colour transform common to source and target


@dataclasses.dataclass(frozen=True)
class JudgeConfig:
    """The judges of the codec's losses: identity, and perceptual features."""

    people: int = 4096  # rendered identities to be told apart
    size: int = 128  # pixels per side of the renders
    supersample: int = 2  # rays per pixel side
    style: float = 0.5  # share of frames whose look is changed (paintings, drawings, other cameras)
    degrade: float = 0.6  # share of frames that the identity judge sees blurred, blocky, noisy or recoloured
    scale: float = 24.0  # of CosFace
    margin: float = 0.25
    identity_weight: float = 1.0
    segmentation_weight: float = 1.0
    landmark_weight: float = 0.5


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """The small AudioEncoder, trained to name phonemes."""

    variant: str = "audio_demo"  # a name of models.audio.AUDIO_VARIANTS
    seconds: float = 4.0  # of sound per example


@dataclasses.dataclass(frozen=True)
class MotionConfig:
    """Stage 2: the diffusion transformer (VASA-1 section 3.2)."""

    variant: str = "motion_demo"  # a name of models.motion.MOTION_VARIANTS
    face: str = ""  # export directory of the codec; empty = the shipped one
    audio: str = ""  # export directory of the audio encoder, or a wav2vec 2.0 or HuBERT file; empty = the shipped one
    latents: str = ""  # directory that keeps extracted motion latents between runs; empty = extract anew
    set: str = ""  # directory that job extract_motion wrote: audio, latents and the corpus are not used then, face only
    # to decode mouths in the validation
    clips_per_shard: int = 100  # of job extract_motion
    instrument: str = ""  # directory of instrument.safetensors, which reads decoded mouths; empty = the shipped one
    window: int = 100  # frames generated at once (W)
    previous: int = 10  # frames of the window before (K)
    drop_condition: float = 0.1
    drop_previous: float = 0.5
    drop_blinks: float = 0.3  # so often that lids also know what to do by themselves
    truncate: float = 0.3  # share of examples whose last audio frames are dropped
    shortest_hop: int = 4  # frames of audio that are never dropped
    previous_noise: float = 0.05  # standard deviation added to X_pre, in z-scored units
    pose_weight: float = 3.0  # loss weight of the 9 pose dimensions
    velocity: float = 0.5  # weight of the velocity term
    live: float = 0.0  # share of examples whose sound is heard as a stream hears it; the clips' sound is on the device
    live_frames: tuple[int, ...] = (4, 10)  # frames of sound that such examples hear: a hop and its look-ahead
    unrolled: bool = False  # also train the window after, with the model's own prediction as X_pre: twice the cost


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """The report on held-out heads, voices and sentences."""

    heads: int = 20
    seconds: float = 5.0  # of each clip
    samples: int = 1  # generated takes per clip
    codec_frames: int = 6  # true frames rendered per head for the codec's own rows


@dataclasses.dataclass(frozen=True)
class ControlsEvaluationConfig:
    """The report on controls, guidance and steps; what is not varied is as for generation."""

    heads: int = 16
    seconds: float = 4.0  # of each clip
    rendered_seconds: float = 4.0  # of each clip's truth, from its middle
    samples: int = 3  # takes per head and way of sampling
    control_scales: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)  # guidance of each control
    audio_scales: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)  # guidance by the sound
    step_counts: tuple[int, ...] = (10, 25, 50)
    solvers: tuple[str, ...] = ("ddim", "dpmpp")
    emotions: int = 4  # of the seven beside neutral, asked of each head in turn
    emotion_strength: float = 0.9
    emotion_frames: int = 12  # rendered of each emotion's true performance
    shown: int = 4  # heads on the sheets


@dataclasses.dataclass(frozen=True)
class FaceEvaluationConfig:
    """The report on the codec alone (job evaluate_face)."""

    people: int = 20  # held-out persons
    stills: int = 24  # true pictures of each, and as many of its driver
    mixed: int = 12  # of them also in another still's head pose
    supersample: int = 2  # rays per pixel side
    instrument: str = ""  # directory of instrument.safetensors; empty = the shipped one


@dataclasses.dataclass(frozen=True)
class PoseErasureConfig:
    """What the projection is fitted on that takes rotation out of the dynamics (job erase_pose)."""

    people: int = 300  # rendered persons
    stills: int = 8  # pictures of each
    supersample: int = 1  # rays per pixel side


@dataclasses.dataclass(frozen=True)
class DriftConfig:
    """One long video of held-out speech with pauses (job evaluate_drift)."""

    minutes: float = 10.0
    truth_stride: int = 25  # every n-th frame of the true video is rendered and measured


@dataclasses.dataclass(frozen=True)
class VoicesConfig:
    """Real speakers' sound and mouths (job evaluate_voices; config.videos, config.prepare)."""

    seconds: float = 10.0  # of a clip, at most
    per_video: int = 2  # clips
    heads: int = 3  # held-out heads that take turns


@dataclasses.dataclass(frozen=True)
class MarksConfig:
    """Recall and false alarms of the invisible mark (job evaluate_marks; config.videos = unmarked clips)."""

    portraits: str = ""  # folder of portraits that the model animates; empty = rendered held-out heads
    carriers: int = 100  # videos of 5 s that are marked, attacked and searched
    sizes: tuple[int, ...] = (256, 512)  # pixels per side of the marked videos
    windows: int = 20_000  # unmarked windows of 5 s that are searched
    workers: int = 0  # processes; 0 = one per core


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """What the benchmark runs."""

    variants: tuple[str, ...] = ("face_demo",)
    audio_variants: tuple[str, ...] = ("audio_demo",)
    motion_variants: tuple[str, ...] = ("motion_demo",)
    batch_sizes: tuple[int, ...] = (1, 8)
    window_batches: tuple[int, ...] = ()  # windows sampled at once; empty = 1, 16, 64, on a CPU 1
    window_steps: tuple[int, ...] = (10, 25, 50)  # of config.solver
    # live operating points of the first variants, with config.look_ahead and config.solver
    live_hops: tuple[int, ...] = ()  # frames; empty = what suits the device
    live_steps: tuple[int, ...] = (10,)
    live_sessions: tuple[int, ...] = ()  # at once, rising; empty = what suits the device
    live_calls: int = 40  # windows timed per point
    update_batches: tuple[int, ...] = ()  # pairs of an update of stage 1, timed for all `variants`; empty = none
    repeats: int = 5


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """From a folder of videos to labelled records (job prepare; config.videos, config.output)."""

    analyzer: str = "litert"  # a name of preparation.face_backends.base.BACK_ENDS; haar crops without labels
    models: str = "face_models"  # folder of litert's graph files (see its module), or mediapipe's .task file
    emotion_model: str = ""  # HSEmotion .onnx file; empty = no emotion labels
    distance_model: str = ""  # Deep3DFaceRecon .onnx file; empty = distance from the pose's scale
    gaze_model: str = ""  # L2CS-Net .onnx file; empty = gaze from the irises where the analyzer gives them
    sync_model: str = ""  # folder with SyncNet's lips.onnx and sound.onnx; empty = mouth opening against loudness
    size: int = 256  # side of the square pictures, pixels
    jpeg_quality: int = 95
    matte: bool = True  # where the analyzer can
    zoom_spread: float = 0.1  # crops are drawn up to this much wider or closer, so that distances differ between clips
    detect_every: int = 5  # frames between detections
    min_face: float = 64.0  # side of the face's box in the video, pixels
    min_sharpness: float = 0.012  # variance of the Laplacian over that of the grey face at 128 pixels
    max_yaw: float = 60.0  # degrees of head turn
    min_seconds: float = 2.0
    max_seconds: float = 20.0  # longer tracks are divided
    min_speech: float = 0.2  # share of a clip that is as loud as speech
    min_sync: float = 3.0  # confidence of the sync model
    heldout: float = 0.05  # share of the persons, to watch training by
    test: float = 0.05  # share of the persons, for final figures; person=file splits by video instead
    person: str = "auto"  # auto: the idNNNNN folder, else the file's name without part numbers; folder; file
    clips_per_shard: int = 128
    workers: int = 0  # processes; 0 = one per core
    beam: str = ""  # options of an Apache Beam pipeline, for many machines (data/vasa_videos); empty = processes here


@dataclasses.dataclass(frozen=True)
class LabelAccuracyConfig:
    """Labels of prepare.analyzer against the built-in corpus (job label_accuracy)."""

    heads: int = 64  # random persons, one still of each
    size: int = 256  # pixels per side
    supersample: int = 2  # rays per pixel side
    batch: int = 8  # heads rendered at once


@dataclasses.dataclass(frozen=True)
class SynthesisConfig:
    """The built-in corpus written to files."""

    clips: int = 400  # of the training split, 4 to a person
    held_out_clips: int = 40
    clips_per_person: int = 4
    seconds: float = 8.0  # of each clip
    size: int = 256  # pixels per side
    supersample: int = 2  # rays per pixel side
    quality: int = 95  # of the JPEG frames
    matte: bool = True  # store it with every frame
    style: float = 0.5  # share of the training split's persons whose look is changed; the held-out split is plain
    speech: str = "espeak"  # espeak (needs espeakng-loader), or shipped: 33 sentences of the package
    altered_voices: float = 0.5  # share of clips whose sound is moved away from the synthesiser's
    shards: int = 20  # files of the training split, per format
    held_out_shards: int = 2
    formats: tuple[str, ...] = ("array_record", "tfrecord")
    tfds: bool = False  # also build the TensorFlow Datasets form, under <workdir>/tfds
    render_batch: int = 8  # frames rendered at once
    workers: int = 0  # processes; 0 = one per core, on an accelerator 1


@dataclasses.dataclass(frozen=True)
class RendererBenchmarkConfig:
    """How the speed of the corpus's renderer is measured."""

    sizes: tuple[int, ...] = (64, 128, 256, 512)  # pixels per side
    batch_sizes: tuple[int, ...] = ()  # frames at once, one per size; empty = what suits the device
    supersample: int = 2  # rays per pixel side
    repeats: int = 5


@dataclasses.dataclass(frozen=True)
class ReadingBenchmarkConfig:
    """How the speed of reading records is measured."""

    data: str = ""  # directory of shards; empty = clips made from the package's portrait
    sizes: tuple[int, ...] = (256, 512)  # pixels per side
    workers: tuple[int, ...] = (0, 1, 2)  # processes that decode; 0 = threads of the training process
    clips: int = 16  # made, where data is empty
    frames: int = 100  # of a window
    batch_size: int = 8
    seconds: float = 3.0  # of each measurement
    repeats: int = 3
    variants: tuple[str, ...] = ("face_256", "face_512")  # codecs whose need is computed
    device_tflops: float = 400.0  # what the training device sustains; 400 = 40 % of a H100's bfloat16 peak


@dataclasses.dataclass(frozen=True)
class CorpusSheetsConfig:
    """Contact sheets of the built-in corpus."""

    people: int = 64  # on the sheets of people and looks
    rows: int = 8  # of them with all poses, visemes, emotions and gazes
    size: int = 128  # pixels per side of a rendered picture
    supersample: int = 2  # rays per pixel side
    batch: int = 16  # pictures rendered at once


@dataclasses.dataclass(frozen=True)
class VASAConfig:
    """One run of `vasa_jax.main`: a job and everything it may need."""

    job: str = "generate"
    seed: int = 0
    checkpoint: str = ""  # directory with face, audio and motion .safetensors; empty = the shipped model
    # generation
    image: str = ""  # portrait
    audio: str = ""  # speech: a sound file, or a video with sound
    output: str = ""  # .mp4
    steps: int = 25  # of the solver
    solver: str = "dpmpp"  # a name of diffusion.SOLVERS
    hop: int = 0  # frames made at once, as a live stream makes them; 0 = whole windows
    look_ahead: int = 0  # frames of sound heard beyond the hop
    audio_guidance: float = 0.5  # lambda_A of the paper
    gaze_guidance: float = 1.0  # lambda_g of the paper
    distance_guidance: float = 0.0
    emotion_guidance: float = 0.0
    gaze: tuple[float, float] | None = None  # yaw, pitch in degrees, camera frame, + = image right, image down
    distance: float | None = None  # 1.0 = the training set's mean, larger = further
    emotion: str = ""  # name or name:strength
    blink_rate: float | None = 15.0  # blinks a minute; None = as the model thinks fit
    head_pose: tuple[float, float, float] | None = None  # yaw, pitch, roll in degrees in the place of generated ones
    pose_amplitude: float = 1.0  # of the generated head motion
    animate: str = "all"  # pose: dynamics stay the portrait's; dynamics: pose stays the portrait's
    controls: str = ""  # control track (.json) with any of the above per frame, see generation/control_track.py
    crop: str = ""  # x,y,size in pixels, or center; empty = find the face
    pose_anchor: str = "portrait"  # portrait: start from the portrait's position and scale; absolute: follow the model
    decode_batch: int = 8  # frames decoded at once
    mark: bool = True  # invisible mark and C2PA manifest; read docs/responsible-use.md before you leave them out
    sign_certificate: str = ""  # PEM chain that signs the manifest; empty = a key of this machine, made at first use
    sign_key: str = ""  # PEM private key of sign_certificate
    video: str = ""  # job detect: the video or picture to search for a mark
    videos: str = ""  # folder of videos, or one video, for jobs prepare, evaluate_voices and evaluate_marks
    # the rest
    train: TrainConfig = TrainConfig()
    corpus: CorpusConfig = CorpusConfig()
    face: FaceConfig = FaceConfig()
    judge: JudgeConfig = JudgeConfig()
    speech: AudioConfig = AudioConfig()
    motion: MotionConfig = MotionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    controls_evaluation: ControlsEvaluationConfig = ControlsEvaluationConfig()
    face_evaluation: FaceEvaluationConfig = FaceEvaluationConfig()
    pose_erasure: PoseErasureConfig = PoseErasureConfig()
    drift: DriftConfig = DriftConfig()
    voices: VoicesConfig = VoicesConfig()
    marks: MarksConfig = MarksConfig()
    benchmark: BenchmarkConfig = BenchmarkConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    renderer_benchmark: RendererBenchmarkConfig = RendererBenchmarkConfig()
    reading_benchmark: ReadingBenchmarkConfig = ReadingBenchmarkConfig()
    corpus_sheets: CorpusSheetsConfig = CorpusSheetsConfig()
    prepare: PrepareConfig = PrepareConfig()
    label_accuracy: LabelAccuracyConfig = LabelAccuracyConfig()

    def to_config_dict(self) -> ml_collections.ConfigDict:
        """The same settings as a `ConfigDict`, whose fields the command line can set."""
        return _to_config_dict(self)

    @classmethod
    def from_config_dict(cls, config: ml_collections.ConfigDict) -> "VASAConfig":
        """The validated settings of a `ConfigDict`; InputError names an unknown key, a wrong type or a bad value."""
        result = _from_config_dict(cls, config, "config")
        result.validate()
        return result

    def validate(self) -> None:
        """InputError for the first value out of range (config_checks.py)."""
        check_config(self)


def nearest_name(name: str, names: typing.Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing when no name is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" did you mean '{close[0]}'?" if close else ""


def field_names(config: ml_collections.ConfigDict, prefix: str = "") -> list[str]:
    """Dotted names of all fields."""
    names = []
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            names += field_names(value, f"{prefix}{key}.")
        names.append(prefix + key)
    return names


def _to_config_dict(settings: Any) -> ml_collections.ConfigDict:
    result = ml_collections.ConfigDict()
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            result[field.name] = _to_config_dict(value)
        elif type(None) in typing.get_args(hints[field.name]):
            result[field.name] = config_dict.placeholder(_base_type(hints[field.name]))
            if value is not None:
                result[field.name] = value
        else:
            result[field.name] = value
    return result


def _from_config_dict(cls: type, config: ml_collections.ConfigDict, path: str) -> Any:
    hints = typing.get_type_hints(cls)
    for key in config:
        if key not in hints:
            raise InputError(f"{path}.{key}: no such setting;{nearest_name(key, hints) or ' see vasa_jax/config.py'}")
    values = {}
    for name, hint in hints.items():
        if name not in config:
            continue
        value = config[name]
        if dataclasses.is_dataclass(hint):
            values[name] = _from_config_dict(hint, value, f"{path}.{name}")
        else:
            values[name] = _typed(value, hint, f"{path}.{name}")
    return cls(**values)


def _base_type(hint: Any) -> type:
    """`tuple` of `tuple[float, float] | None`."""
    if isinstance(hint, types.UnionType):
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    return typing.get_origin(hint) or hint


def _typed(value: Any, hint: Any, path: str) -> Any:
    if value is None and type(None) in typing.get_args(hint):
        return None
    base = _base_type(hint)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if base is tuple and isinstance(value, (tuple, list)):
        return tuple(value)
    if isinstance(value, base) and not (base is int and isinstance(value, bool)):
        return value
    raise InputError(f"{path}: {value!r} is a {type(value).__name__}; give a {base.__name__}")
