"""Settings of training: the loop, and what every stage but the codecs' own (`config.face`) learns from and weighs."""

import re

from vasa_jax.conventions import CODECS
from vasa_jax.errors import InputError
from vasa_jax.models.variants import (
    AUDIO_VARIANTS,
    CAPP_VARIANTS,
    LIPS_VARIANTS,
    MATTE_VARIANTS,
    MOTION_VARIANTS,
    SYNC_VARIANTS,
)
from vasa_jax.settings import Settings, choice, flag, number, section, text

MOST = 10**9  # of counts that only patience limits


@section
class TrainConfig(Settings):
    """The training loop, the same for every stage."""

    steps: int = number(10_000, 1, MOST, "updates", "length of the run")
    batch_size: int = number(32, 1, 10**6, "examples", "per update, over all devices")
    learning_rate: float = number(5e-4, 0, 10, "", "peak of the schedule")
    warmup_steps: int = number(200, 0, MOST, "updates", "linear from 0")
    final_learning_rate: float = number(1e-6, 0, 10, "", "end of the cosine")
    decay_from: float = number(0.0, 0, 0.99, "", "share of the run before which the rate stays at its peak")
    weight_decay: float = number(1e-2, 0, 100, "", "of AdamW")
    beta1: float = number(0.9, 0, 1 - 1e-9, "", "of AdamW")
    beta2: float = number(0.99, 0, 1 - 1e-9, "", "of AdamW")
    clip_norm: float = number(1.0, 0, 1e9, "", "global gradient norm; 0 = off")
    # Micro-batches are averaged. Means over labelled examples only, and comparisons between examples (contrast,
    # agreement, cross_identity, identity), are taken within each of them.
    accumulate: int = number(
        1, 1, 10**6, "", "micro-batches per update, a divisor of batch_size; losses compare examples within each alone"
    )
    ema_decay: float = number(0.999, 0, 1, "", "of the parameters that are exported")
    log_every: int = number(50, 1, MOST, "updates", "between lines of the log")
    evaluate_every: int = number(2_000, 0, MOST, "updates", "between evaluations; 0 = only at the end")
    save_every: int = number(2_000, 0, MOST, "updates", "between checkpoints; 0 = only at the end")
    keep: int = number(3, 1, 10**6, "", "newest checkpoints kept, beside the best")
    best_metric: str = text("", "metric of the evaluation by which the best checkpoint is kept; empty = none")
    best_is_lowest: bool = flag(False, "the best has the lowest, not the highest, value of best_metric")
    minutes: float = number(
        0.0,
        0,
        10**7,
        "minutes",
        "wall time in which the learning rate falls to its end and the run stops; 0 = no limit",
    )
    data_axis: int = number(-1, -1, 10**6, "devices", "along the mesh's data axis; -1 = all that are left")
    fsdp_axis: int = number(1, 1, 10**6, "devices", "along which parameters are sharded")
    sharding_rules: tuple[str, ...] = text(
        (), "regex=spec, first match wins (training/sharding.py); else the default rule"
    )
    distributed: bool = flag(False, "one of several processes (TPU slice, SLURM, JAX_COORDINATOR_ADDRESS)")
    precision: str = choice(
        "auto", ("auto", "float32", "bfloat16"), "of activations; auto: bfloat16 on accelerators, float32 on CPU"
    )
    remat: bool = flag(False, "keep only matrix products for the backward pass: less memory, more time")
    init_from: str = text(
        "", "parameters to start from: export directory, .safetensors file or checkpoints directory", was="initial"
    )
    init_step: str = choice("latest", ("latest", "best"), "of a checkpoints directory", was="initial_step")
    init_partial: bool = flag(
        False, "start afresh what `init_from` lacks or has in another shape", was="initial_partial"
    )
    frozen: tuple[str, ...] = text((), "regexes of parameters that keep the values they start with")
    frozen_from: float = number(
        0.0, 0, 1, "", "share of the run before that, after which they keep their average's values"
    )
    discriminator_learning_rate: float = number(
        2e-4, 0, 10, "", "of the discriminator of a GAN; same schedule", was="opponent_learning_rate"
    )
    discriminator_beta1: float = number(0.5, 0, 1 - 1e-9, "", "of the discriminator", was="opponent_beta1")
    export_precision: str = choice(
        "float32", ("float32", "bfloat16", "int8"), "of exported kernels: float32 to train on from, the others to ship"
    )
    profile: int = number(0, 0, 10**4, "updates", "traced to <workdir>/profile, from the run's fourth on; 0 = none")
    wandb: str = choice("", ("", "offline", "online"), "Weights & Biases; empty = off")

    def check_together(self, path: str) -> None:
        """Raises InputError for a batch that cannot be divided and for patterns that are none."""
        if self.batch_size % self.accumulate:
            raise InputError(
                f"{path}.accumulate: {self.accumulate} does not divide the batch of {self.batch_size}; choose a divisor"
            )
        if self.data_axis == 0:
            raise InputError(f"{path}.data_axis: 0 is out of range; choose -1, or 1 and more")
        if self.frozen_from and not self.frozen:
            raise InputError(f"{path}.frozen_from: {self.frozen_from}, but {path}.frozen names nothing; set it too")
        for pattern in self.frozen:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"{path}.frozen: '{pattern}' is no regular expression ({error}); mend it") from error


@section
class LossNetworksConfig(Settings):
    """The networks of the codec's losses: identity, and perceptual features."""

    people: int = number(4096, 2, 10**6, "", "rendered identities to be told apart")
    size: int = number(128, 32, 1024, "pixels", "per side of the renders")
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    style: float = number(0.5, 0, 1, "", "share of frames whose look is changed (paintings, drawings, other cameras)")
    degrade: float = number(
        0.6, 0, 1, "", "share of frames that the identity network sees blurred, blocky, noisy or recoloured"
    )
    scale: float = number(24.0, 1e-3, 1e3, "", "of CosFace")
    margin: float = number(0.25, 0, 1, "", "of CosFace")
    identity_weight: float = number(1.0, 0, 1e6, "", "of the identity loss")
    segmentation_weight: float = number(1.0, 0, 1e6, "", "of the segmentation loss")
    landmark_weight: float = number(0.5, 0, 1e6, "", "of the landmark loss")

    def check_together(self, path: str) -> None:
        """Raises InputError for a size that cannot be rendered or halved."""
        if self.size * self.supersample % 16 or self.size % 8:
            raise InputError(f"{path}.size: {self.size} cannot be rendered; choose 64, 128 or 256")


@section
class AudioConfig(Settings):
    """The small AudioEncoder, trained to name phonemes."""

    variant: str = choice("audio_demo", AUDIO_VARIANTS, "size of the encoder")
    seconds: float = number(4.0, 0.04, 8, "seconds", "of sound per example")
    shards: str = text("", "directory that job speech_corpus wrote, in place of the corpus; empty = the corpus alone")
    versions: int = number(4, 1, 100, "", "of each passage of the shards: as spoken, the others altered")
    codecs: tuple[str, ...] = choice(
        ("opus", "mp3", "phone", "aac"), CODECS, "that altered passages may have passed through; aac needs PyAV"
    )
    espeak_share: float = number(0.5, 0, 1, "", "of the shards' examples that eSpeak speaks")
    person_seconds: float = number(120.0, 1, 10**6, "seconds", "of one person that count, at most")
    corpus_share: float = number(0.0, 0, 1, "", "of examples from the corpus's own clips beside the shards")
    mel_changes: float = number(
        0.0, 0, 1, "", "share of examples whose log mels get another vocal tract, microphone, noise and masked parts"
    )
    teacher: str = text("", "weight file of Whisper, wav2vec 2.0 or HuBERT whose features are learnt too; empty = none")
    teacher_weight: float = number(1.0, 0, 1e6, "", "of the squared error of its standardised features")
    feature_dropout: float = number(0.0, 0, 0.9, "", "share of features that the read-outs lack in training")


@section
class MotionConfig(Settings):
    """Stage 2: the diffusion transformer (VASA-1 section 3.2)."""

    variant: str = choice("motion_demo", MOTION_VARIANTS, "size of the transformer")
    face: str = text("", "export directory of the codec; empty = the shipped one")
    audio: str = text(
        "", "export directory of the audio encoder, or a wav2vec 2.0 or HuBERT file; empty = the shipped one"
    )
    latents: str = text("", "directory that keeps extracted motion latents between runs; empty = extract anew")
    set: str = text(
        "",
        "directory that job extract_motion wrote, in place of audio, latents and the corpus; face only decodes mouths",
    )
    clips_per_shard: int = number(100, 1, 10**6, "clips", "of job extract_motion")
    instrument: str = text(
        "", "directory of instrument.safetensors, which reads decoded mouths; empty = the shipped one"
    )
    window: int = number(100, 2, 200, "frames", "generated at once (W)")
    previous: int = number(10, 1, 100, "frames", "of the window before (K)")
    drop_condition: float = number(0.1, 0, 1, "", "probability that a condition goes to its null")
    drop_previous: float = number(0.5, 0, 1, "", "probability that X_pre and A_pre go to their null")
    drop_blinks: float = number(0.3, 0, 1, "", "so often that lids also know what to do by themselves")
    truncate: float = number(0.3, 0, 1, "", "share of examples whose last audio frames are dropped")
    shortest_hop: int = number(4, 1, 250, "frames", "of audio that are never dropped")
    previous_noise: float = number(0.05, 0, 10, "standard deviations", "added to X_pre, in z-scored units")
    pose_weight: float = number(3.0, 0, 1e6, "", "loss weight of the 9 pose dimensions")
    velocity: float = number(0.5, 0, 1e6, "", "loss weight of the differences between frames")
    live: float = number(
        0.0, 0, 1, "", "share of examples whose sound is heard as a stream hears it; the clips' sound is on the device"
    )
    live_frames: tuple[int, ...] = number(
        (4, 10), 1, 250, "frames", "of sound that such examples hear: a hop and its look-ahead"
    )
    unrolled: bool = flag(
        False, "also train the window after, with the model's own prediction as X_pre: twice the cost"
    )

    def check_together(self, path: str) -> None:
        """Raises InputError where a live example cannot be made."""
        for frames in self.live_frames:
            if frames > self.window:
                raise InputError(f"{path}.live_frames: {frames} is out of range; choose 1 to {self.window}")
        if not self.live:
            return
        if not self.live_frames:
            raise InputError(f"{path}.live_frames: empty; say how many frames of sound a live example hears, e.g. 4,10")
        if self.set:
            raise InputError(f"{path}.live: a stored set has no sound; leave {path}.set empty")
        if self.unrolled:
            raise InputError(f"{path}.live: not together with {path}.unrolled; turn one of them off")


def _check_sources(settings: "CAPPConfig | SyncConfig | LipsConfig", path: str, shards: str = "shards") -> None:
    if not settings.corpus and not getattr(settings, shards):
        raise InputError(f"{path}: nothing to learn from; set {path}.{shards} or {path}.corpus=True")


@section
class CAPPConfig(Settings):
    """CAPP, the score of head motion against speech (VASA-1 section 4)."""

    variant: str = choice("capp_demo", CAPP_VARIANTS, "size of both encoders")
    audio: str = text(
        "", "export directory of the audio encoder, or a wav2vec 2.0 or HuBERT file; empty = the shipped one"
    )
    corpus: bool = flag(True, "learn from the built-in corpus")
    shards: str = text("", "directory of shards of job prepare to learn from too; empty = none")
    poses: str = choice("probe", ("probe", "labels"), "of shards: as the face probe reads them, or labels")
    real_share: float = number(0.5, 0, 1, "", "share of the pairs from the shards, beside the corpus")
    takes: int = number(8, 1, 100, "", "performances of each sentence of the corpus")
    jitter: float = number(1.0, 0, 20, "degrees", "of the noise added to angles, at most: a reader of poses has some")
    gain: float = number(0.15, 0, 2, "", "spread of the logarithm by which each axis is stretched, as readers do")
    shift: int = number(25, 1, 100, "frames", "between a pair and its negatives of the same clip, at most")

    def check_together(self, path: str) -> None:
        """Raises InputError where there is nothing to learn from."""
        _check_sources(self, path)


@section
class SyncConfig(Settings):
    """The sync probe, our own measure of mouth against sound (SyncNet's idea)."""

    variant: str = choice("sync_demo", SYNC_VARIANTS, "size of both streams")
    corpus: bool = flag(True, "learn from rendered heads of the built-in corpus")
    shards: str = text("", "directory of shards of job prepare to learn from too; empty = none")
    real_share: float = number(0.3, 0, 1, "", "share of each batch from the shards, beside the corpus")
    frames: int = number(40, 16, 160, "frames", "of a stretch; its windows are each other's rivals")
    held_out_frames: int = number(75, 25, 160, "frames", "of a held-out stretch, whose shift is to be found")
    misplaced: float = number(0.05, 0, 1, "", "spread of place, size and roll of the mouth in a stretch")
    shade: float = number(0.25, 0, 2, "", "spread of the logarithm of the gamma of a stretch")
    noise: float = number(0.05, 0, 1, "", "largest deviation of the noise in grey values")
    balance: float = number(0.2, 0, 2, "", "spread of the logarithm by which each MFCC is stretched")
    hiss: float = number(0.5, 0, 5, "", "largest deviation of the noise in MFCC, in units of theirs")

    def check_together(self, path: str) -> None:
        """Raises InputError where there is nothing to learn from."""
        _check_sources(self, path)


@section
class LipsConfig(Settings):
    """The lip reader: the mouth's opening from the voice, which guides the sampled motion."""

    variant: str = choice("lips_demo", LIPS_VARIANTS, "size of the reader")
    corpus: bool = flag(True, "learn from the built-in corpus")
    clips: str = text("", "directory of shards of job prepare to learn from too: real people's mouths; empty = none")
    sources: str = text("", "whose recordings clips and speech are, and their licence: the file tells it")
    real_share: float = number(0.5, 0, 1, "", "share of each batch from the clips, beside the corpus")
    articulation: bool = flag(
        False, "half of each mouth of the corpus as clips of GRID move theirs for its phonemes (extra voices)"
    )
    ear: str = text(
        "", "weight file of Whisper, wav2vec 2.0 or HuBERT: what a regression on it hears in `speech` is learnt too"
    )
    speech: str = text("", "folder of recordings of many people, without pictures, that `ear` hears; empty = none")
    speech_share: float = number(0.5, 0, 1, "", "share of each batch from `speech`")
    face: str = text("", "export directory of the codec whose dynamics are guided; empty = the shipped one")
    heads: int = number(
        0, 0, 10**6, "heads", "rendered to learn how the codec opens a mouth, 2048 say; 0 = as lips.safetensors has it"
    )

    def check_together(self, path: str) -> None:
        """Raises InputError where there is nothing to learn from."""
        _check_sources(self, path, "clips")
        if self.articulation and not (self.corpus and self.clips):
            raise InputError(f"{path}.articulation: takes the corpus and clips; give {path}.clips, or leave it off")
        for one, other in (("ear", "speech"), ("speech", "ear")):
            if getattr(self, one) and not getattr(self, other):
                raise InputError(f"{path}.{one}: needs {path}.{other} too; give it, or leave both out")


@section
class MatteConfig(Settings):
    """The portrait matte: which pixels of a portrait are the person's (photo_heads.folder, photos.models)."""

    variant: str = choice("matte_demo", MATTE_VARIANTS, "size of the network")
    scenes: str = text("", "folder of pictures of places without people, to stand before; empty = none")
    sources: str = text("", "whose pictures those are, and their licence: the file tells it to whoever gets it")
    taken: float = number(0.4, 0, 1, "", "share of the portraits that stay as they were taken")
    scenes_share: float = number(0.35, 0, 1, "", "share before a scene; the rest stands before others' backgrounds")
    leaves: float = number(0.1, 0, 1, "", "share before a made-up, busy background")
    held_out: float = number(0.05, 0, 0.9, "", "share of the photographs that is kept for validation")

    def check_together(self, path: str) -> None:
        """Raises InputError for shares above the whole."""
        if self.taken + (self.scenes_share if self.scenes else 0) + self.leaves > 1 + 1e-9:
            raise InputError(f"{path}.taken: the shares are more than 1 together; lower one of them")


@section
class RetargetingConfig(Settings):
    """Stage 2 of the keypoint codec: networks for stitching, eyes and lips (LivePortrait, section 3.3)."""

    kept: float = number(1.0, 0, 1e6, "", "weight of the L1 change of shoulders, or of all beside the eyes or the lips")
    openness: float = number(0.3, 0, 1e6, "", "weight of how far eyes and lips are from as open as asked")
    size: float = number(0.02, 0, 1e6, "", "weight of the mean absolute displacement of keypoints")
    eyes_most: float = number(0.6, 0, 0.8, "height over width", "that is asked of eyes; the corpus opens 99 % less far")
    lips_most: float = number(0.6, 0, 0.8, "height over width", "that is asked of lips")
