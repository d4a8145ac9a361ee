"""What the settings must satisfy: ranges, choices, what belongs together. Each fault is one line with its remedy."""

from __future__ import annotations

import typing

from vasa_jax.errors import InputError

if typing.TYPE_CHECKING:
    from vasa_jax import config as sections

JOBS = (
    "generate", "train_face", "train_audio", "train_motion", "train_instrument", "train_judge", "evaluate",
    "benchmark", "benchmark_renderer", "benchmark_reading", "corpus_sheets", "synthesize", "prepare", "label_accuracy",
    "extract_motion", "evaluate_controls", "train_emotion", "evaluate_face", "evaluate_drift", "evaluate_voices",
    "erase_pose", "detect", "evaluate_marks",
)  # fmt: skip
SPEECH_SOURCES = ("espeak", "shipped")  # synthesised with espeakng-loader; the sentences that ship with the package


def check_config(config: sections.VASAConfig) -> None:
    """InputError for the first value out of range."""
    _choice("config.job", config.job, JOBS)
    _check_generation(config)
    _check_training(config.train)
    _check_face(config.face)
    _check_judge(config.judge)
    _check_corpus(config)
    _check_motion(config.motion)
    _check_prepare(config.prepare)
    _check_pictures_and_reports(config)
    _check_controls_evaluation(config.controls_evaluation)
    _check_synthesis(config.synthesis)
    _check_renderer_benchmark(config.renderer_benchmark)
    _check_reading_benchmark(config.reading_benchmark)


def _check_generation(config: sections.VASAConfig) -> None:
    _range("config.steps", config.steps, 1, 1000)
    _choice("config.solver", config.solver, ("ddim", "dpmpp"))
    _range("config.audio_guidance", config.audio_guidance, 0, 20)
    _range("config.gaze_guidance", config.gaze_guidance, 0, 20)
    _range("config.distance_guidance", config.distance_guidance, 0, 20)
    _range("config.emotion_guidance", config.emotion_guidance, 0, 20)
    _range("config.hop", config.hop, 0, 1000)
    _range("config.look_ahead", config.look_ahead, 0, 1000)
    _range("config.pose_amplitude", config.pose_amplitude, 0, 5)
    _choice("config.animate", config.animate, ("all", "pose", "dynamics"))
    _range("config.decode_batch", config.decode_batch, 1, 1024)
    _choice("config.pose_anchor", config.pose_anchor, ("portrait", "absolute"))
    if config.gaze is not None:
        if len(config.gaze) != 2:
            raise InputError(f"config.gaze: {config.gaze} is not a yaw and a pitch; give two degrees, e.g. 10,-5")
        for angle in config.gaze:
            _range("config.gaze", angle, -60, 60)
    if config.distance is not None:
        _range("config.distance", config.distance, 0.5, 2)
    if config.blink_rate is not None:
        _range("config.blink_rate", config.blink_rate, 0, 60)
    if bool(config.sign_certificate) != bool(config.sign_key):
        raise InputError("config.sign_certificate, config.sign_key: one without the other; give both PEM files")
    if config.sign_certificate and not config.mark:
        raise InputError("config.sign_certificate: nothing is signed with config.mark=False; leave one of them out")
    _range("config.marks.carriers", config.marks.carriers, 1, 100_000)
    _range("config.marks.windows", config.marks.windows, 1, 10**7)


def _check_training(train: sections.TrainConfig) -> None:
    _range("config.train.steps", train.steps, 1, 10**9)
    _range("config.train.batch_size", train.batch_size, 1, 10**6)
    _range("config.train.accumulate", train.accumulate, 1, train.batch_size)
    if train.batch_size % train.accumulate:
        raise InputError(
            f"config.train.accumulate: {train.accumulate} does not divide the batch of {train.batch_size}; "
            "choose a divisor"
        )
    _range("config.train.ema_decay", train.ema_decay, 0, 1)
    _range("config.train.frozen_from", train.frozen_from, 0, 1)
    if train.frozen_from and not train.frozen:
        raise InputError(
            f"config.train.frozen_from: {train.frozen_from}, but config.train.frozen names nothing; set it too"
        )
    _range("config.train.log_every", train.log_every, 1, 10**9)
    _range("config.train.keep", train.keep, 1, 10**6)
    _choice("config.train.initial_step", train.initial_step, ("latest", "best"))
    _choice("config.train.wandb", train.wandb, ("", "offline", "online"))
    _choice("config.train.precision", train.precision, ("auto", "float32", "bfloat16"))


def _check_judge(judge: sections.JudgeConfig) -> None:
    _range("config.judge.people", judge.people, 2, 10**6)
    _range("config.judge.size", judge.size, 32, 1024)
    if judge.size * judge.supersample % 16 or judge.size % 8:
        raise InputError(f"config.judge.size: {judge.size} cannot be rendered; choose 64, 128 or 256")


def _check_corpus(config: sections.VASAConfig) -> None:
    corpus = config.corpus
    _range("config.corpus.identities", corpus.identities, 1, 64)
    _range("config.corpus.motions", corpus.motions, 2, 64)
    _range("config.corpus.poses", corpus.poses, 1, corpus.motions // 2)
    if corpus.motions % corpus.poses:
        raise InputError(
            f"config.corpus.motions: {corpus.motions} is no multiple of config.corpus.poses, {corpus.poses}; choose one"
        )
    _range("config.corpus.drivers", corpus.drivers, 1, corpus.motions // corpus.poses - 1)
    _choice("config.corpus.shard_format", corpus.shard_format, ("", "array_record", "tfrecord", "tfds"))
    if config.job == "train_face" and corpus.shards and config.face.recipe != "self":
        raise InputError(
            "config.face.recipe: shards have no rendered truth of one person in another's motion; set it to self"
        )
    if config.job == "train_face" and not corpus.shards and config.train.batch_size % corpus.drivers:
        raise InputError(
            f"config.train.batch_size: {config.train.batch_size} is no multiple of config.corpus.drivers, "
            f"{corpus.drivers}; choose one"
        )
    if config.job == "train_face" and not corpus.shards and config.face.same_frame * corpus.drivers > 1:
        raise InputError(
            f"config.face.same_frame: {config.face.same_frame} is more than one driver of {corpus.drivers} per source; "
            f"choose at most {1 / corpus.drivers:g}, or fewer config.corpus.drivers"
        )
    _choice("config.corpus.speech", corpus.speech, SPEECH_SOURCES)
    _range("config.corpus.style", corpus.style, 0, 1)
    _range("config.corpus.groups", corpus.groups, 1, 10**6)
    _range("config.corpus.chunk", corpus.chunk, 1, corpus.groups)
    _range("config.corpus.refresh", corpus.refresh, 0, 10**6)


def _check_prepare(prepare: sections.PrepareConfig) -> None:
    _range("config.prepare.size", prepare.size, 32, 2048)
    _range("config.prepare.jpeg_quality", prepare.jpeg_quality, 1, 100)
    _range("config.prepare.zoom_spread", prepare.zoom_spread, 0, 0.5)
    _range("config.prepare.detect_every", prepare.detect_every, 1, 100)
    _range("config.prepare.min_seconds", prepare.min_seconds, 0.2, prepare.max_seconds)
    _range("config.prepare.min_sync", prepare.min_sync, 0, 100)
    _range("config.prepare.heldout", prepare.heldout, 0, 1)
    _range("config.prepare.test", prepare.test, 0, 1 - prepare.heldout)
    _range("config.prepare.clips_per_shard", prepare.clips_per_shard, 1, 10**6)
    _choice("config.prepare.person", prepare.person, ("auto", "folder", "file"))


def _check_pictures_and_reports(config: sections.VASAConfig) -> None:
    _range("config.label_accuracy.heads", config.label_accuracy.heads, 2, 10**5)
    _range("config.label_accuracy.batch", config.label_accuracy.batch, 1, 4096)
    _check_picture("config.label_accuracy", config.label_accuracy)
    _range("config.evaluation.heads", config.evaluation.heads, 2, 1000)
    _range("config.evaluation.seconds", config.evaluation.seconds, 1, 60)
    _range("config.face_evaluation.people", config.face_evaluation.people, 4, 1000)
    _range("config.face_evaluation.stills", config.face_evaluation.stills, 4, 1000)
    _range("config.face_evaluation.mixed", config.face_evaluation.mixed, 1, config.face_evaluation.stills)
    _range("config.face_evaluation.supersample", config.face_evaluation.supersample, 1, 4)
    _range("config.pose_erasure.people", config.pose_erasure.people, 30, 100_000)
    _range("config.pose_erasure.stills", config.pose_erasure.stills, 5, 1000)
    _range("config.pose_erasure.supersample", config.pose_erasure.supersample, 1, 4)
    _range("config.drift.minutes", config.drift.minutes, 0.5, 600)
    _range("config.drift.truth_stride", config.drift.truth_stride, 1, 250)
    _range("config.voices.seconds", config.voices.seconds, 2, 60)
    _range("config.voices.per_video", config.voices.per_video, 1, 1000)
    _range("config.voices.heads", config.voices.heads, 1, 1000)
    _range("config.corpus_sheets.people", config.corpus_sheets.people, 1, 4096)
    _range("config.corpus_sheets.rows", config.corpus_sheets.rows, 1, config.corpus_sheets.people)
    _range("config.corpus_sheets.batch", config.corpus_sheets.batch, 1, 4096)
    _check_picture("config.corpus_sheets", config.corpus_sheets)


def _check_controls_evaluation(settings: sections.ControlsEvaluationConfig) -> None:
    path = "config.controls_evaluation"
    limits = {
        "heads": (2, 1000), "seconds": (1, 60), "rendered_seconds": (0.2, 60), "samples": (1, 100), "emotions": (1, 7),
        "emotion_strength": (0, 1), "emotion_frames": (1, 200), "shown": (0, 1000),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        _range(f"{path}.{name}", getattr(settings, name), low, high)
    for name, (low, high) in {"control_scales": (0, 20), "audio_scales": (0, 20), "step_counts": (1, 1000)}.items():
        values = getattr(settings, name)
        for value in values:
            _range(f"{path}.{name}", value, low, high)
        if not values or len(set(values)) < len(values):
            raise InputError(f"{path}.{name}: {values} is empty or names one twice; give each value once")
    for solver in settings.solvers:
        _choice(f"{path}.solvers", solver, ("ddim", "dpmpp"))


def _check_motion(motion: sections.MotionConfig) -> None:
    _range("config.motion.clips_per_shard", motion.clips_per_shard, 1, 10**6)
    _range("config.motion.drop_blinks", motion.drop_blinks, 0, 1)
    _range("config.motion.live", motion.live, 0, 1)
    for frames in motion.live_frames:
        _range("config.motion.live_frames", frames, 1, motion.window)
    if not motion.live:
        return
    if not motion.live_frames:
        raise InputError(
            "config.motion.live_frames: empty; say how many frames of sound a live example hears, e.g. 4,10"
        )
    if motion.set:
        raise InputError("config.motion.live: a stored set has no sound; leave config.motion.set empty")
    if motion.unrolled:
        raise InputError("config.motion.live: not together with config.motion.unrolled; turn one of them off")


def _check_picture(
    path: str, settings: sections.SynthesisConfig | sections.CorpusSheetsConfig | sections.LabelAccuracyConfig
) -> None:
    _range(f"{path}.size", settings.size, 16, 1024)
    _range(f"{path}.supersample", settings.supersample, 1, 4)
    if settings.size * settings.supersample % 16:
        raise InputError(f"{path}.size: {settings.size} cannot be rendered; choose 64, 128, 256 or 512")


def _check_face(face: sections.FaceConfig) -> None:
    path = "config.face"
    _choice(f"{path}.recipe", face.recipe, ("counterfactual", "self"))
    if (face.adversarial is None) != (face.feature_matching is None):
        raise InputError(f"{path}: adversarial and feature_matching belong together; set both (0 is a weight) or none")
    if not face.critic_widths or min(face.critic_widths) < 1:
        raise InputError(f"{path}.critic_widths: {face.critic_widths} are no widths; give e.g. (64, 128, 256, 512)")
    for name in ("pose_pool", "pose_from_picture", "flip", "jitter", "same_frame"):
        _range(f"{path}.{name}", getattr(face, name), 0, 1)
    for name in ("transfer_from", "gan_from"):
        _range(f"{path}.{name}", getattr(face, name), 0, 10**9)


def _check_synthesis(synthesis: sections.SynthesisConfig) -> None:
    path = "config.synthesis"
    _range(f"{path}.clips", synthesis.clips, 1, 10**7)
    _range(f"{path}.held_out_clips", synthesis.held_out_clips, 1, 10**6)
    _range(f"{path}.clips_per_person", synthesis.clips_per_person, 1, 10**6)
    _range(f"{path}.seconds", synthesis.seconds, 0.04, 8)
    _check_picture(path, synthesis)
    _range(f"{path}.quality", synthesis.quality, 1, 100)
    _choice(f"{path}.speech", synthesis.speech, SPEECH_SOURCES)
    _range(f"{path}.style", synthesis.style, 0, 1)
    _range(f"{path}.altered_voices", synthesis.altered_voices, 0, 1)
    _range(f"{path}.shards", synthesis.shards, 1, synthesis.clips)
    _range(f"{path}.held_out_shards", synthesis.held_out_shards, 1, synthesis.held_out_clips)
    _range(f"{path}.render_batch", synthesis.render_batch, 1, 4096)
    for name in synthesis.formats:
        _choice(f"{path}.formats", name, ("array_record", "tfrecord"))


def _check_renderer_benchmark(settings: sections.RendererBenchmarkConfig) -> None:
    path = "config.renderer_benchmark"
    _range(f"{path}.repeats", settings.repeats, 1, 1000)
    _range(f"{path}.supersample", settings.supersample, 1, 4)
    for size in settings.sizes:
        _range(f"{path}.sizes", size, 16, 1024)
        if size * settings.supersample % 16:
            raise InputError(f"{path}.sizes: {size} cannot be rendered; choose 64, 128, 256 or 512")
    if settings.batch_sizes and len(settings.batch_sizes) != len(settings.sizes):
        given = f"{len(settings.batch_sizes)} for {len(settings.sizes)} sizes"
        raise InputError(f"{path}.batch_sizes: {given}; give one each, or none")
    for batch in settings.batch_sizes:
        _range(f"{path}.batch_sizes", batch, 1, 65536)


def _check_reading_benchmark(settings: sections.ReadingBenchmarkConfig) -> None:
    path = "config.reading_benchmark"
    for name, values, limits in (("sizes", settings.sizes, (16, 2048)), ("workers", settings.workers, (0, 256))):
        for value in values:
            _range(f"{path}.{name}", value, *limits)
    _range(f"{path}.frames", settings.frames, 2, 10**4)
    _range(f"{path}.batch_size", settings.batch_size, 1, 4096)
    _range(f"{path}.clips", settings.clips, settings.batch_size, 10**4)
    _range(f"{path}.seconds", settings.seconds, 0, 600)
    _range(f"{path}.repeats", settings.repeats, 1, 1000)
    _range(f"{path}.device_tflops", settings.device_tflops, 1e-3, 1e6)


def _range(path: str, value: float, low: float, high: float) -> None:
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{path}: {value} is out of range; choose {low} to {high}")


def _choice(path: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{path}: '{value}' is unknown; choose one of {', '.join(choices)}")
