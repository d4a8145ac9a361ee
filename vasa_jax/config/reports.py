"""Settings of reports and benchmarks."""

from vasa_jax.config.data import check_rendered
from vasa_jax.conventions import SOLVERS
from vasa_jax.errors import InputError
from vasa_jax.models.variants import AUDIO_VARIANTS, FACE_VARIANTS, MOTION_VARIANTS
from vasa_jax.settings import Settings, choice, flag, number, section, text

CLIP_SECONDS = 8  # the shortest clip of held-out speech (corpus/clips.py): no report can ask for more


@section
class EvaluationConfig(Settings):
    """The report on held-out heads, voices and sentences."""

    heads: int = number(20, 2, 1000, "", "held-out persons")
    seconds: float = number(5.0, 1, CLIP_SECONDS, "seconds", "of each clip")
    samples: int = number(1, 1, 100, "", "generated samples per clip")
    codec_frames: int = number(6, 1, 250, "frames", "true frames rendered per head for the codec's own rows")


def guidance_row(text: str) -> tuple[float, float, int]:
    """Returns guidance by the sound, guidance of gaze, and steps of "0.5:1:50"; ValueError for anything else."""
    audio, gaze, steps = text.split(":")
    row = float(audio), float(gaze), int(steps)
    if not (0 <= row[0] <= 20 and 0 <= row[1] <= 20 and 1 <= row[2] <= 1000):
        raise ValueError(f"{text} is out of range")
    return row


def _check_rows(rows: tuple[str, ...], path: str) -> None:
    for row in rows:
        try:
            guidance_row(row)
        except ValueError:
            raise InputError(
                f"{path}.rows: '{row}' is no row; write audio guidance:gaze guidance:steps, 0.5:1:50 for instance"
            ) from None
    if len(set(map(guidance_row, rows))) < len(rows):
        raise InputError(f"{path}.rows: names one twice; name each once")


@section
class ControlsEvaluationConfig(Settings):
    """The report on controls, guidance and steps; what is not varied is as for generation."""

    heads: int = number(16, 2, 1000, "", "held-out persons")
    seconds: float = number(4.0, 1, CLIP_SECONDS, "seconds", "of each clip")
    rendered_seconds: float = number(4.0, 0.2, CLIP_SECONDS, "seconds", "of each clip's truth, from its middle")
    samples: int = number(3, 1, 100, "", "per head and way of sampling")
    control_scales: tuple[float, ...] = number(
        (0.0, 0.5, 1.0, 2.0), 0, 20, "", "guidance of each control", least=1, distinct=True
    )
    audio_scales: tuple[float, ...] = number(
        (0.0, 0.5, 1.0, 2.0), 0, 20, "", "guidance by the sound", least=1, distinct=True
    )
    step_counts: tuple[int, ...] = number((10, 25, 50), 1, 1000, "steps", "of the solver", least=1, distinct=True)
    solvers: tuple[str, ...] = choice(("ddim", "dpmpp"), SOLVERS, "compared", least=1, distinct=True)
    rows: tuple[str, ...] = text(
        ("0:0:50", "0:1:50", "0:2:50", "0.5:1:50", "1:1:50", "2:1:50", "0.5:1:10"),
        "audio guidance:gaze guidance:steps, rows of the table in the shape of VASA-1's Table 5; empty = no table",
    )
    sweeps: bool = flag(True, "vary each control, guidance by the sound, steps and solvers; else the table alone")
    emotions: int = number(4, 1, 7, "", "of the seven beside neutral, asked of each head in turn")
    emotion_strength: float = number(0.9, 0, 1, "", "of each of them")
    emotion_frames: int = number(12, 1, 200, "frames", "rendered of each emotion's true performance")
    shown: int = number(4, 0, 1000, "", "heads on the sheets")

    def check_together(self, path: str) -> None:
        """Raises InputError for rows that are none, one twice, and where nothing is left to measure."""
        _check_rows(self.rows, path)
        if not self.rows and not self.sweeps:
            raise InputError(f"{path}.rows: is empty and sweeps are off; set one of the two")


@section
class FaceEvaluationConfig(Settings):
    """The report on the codec alone (job evaluate_face)."""

    people: int = number(20, 4, 1000, "", "held-out persons")
    stills: int = number(24, 4, 1000, "", "true images of each, and as many of its driver")
    mixed: int = number(12, 1, 1000, "", "of them also in another still's head pose")
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    instrument: str = text("", "directory of instrument.safetensors; empty = the shipped one")

    def check_together(self, path: str) -> None:
        """Raises InputError for more mixed stills than stills."""
        if self.mixed > self.stills:
            raise InputError(f"{path}.mixed: {self.mixed} is out of range; choose 1 to {self.stills}")


@section
class PoseErasureConfig(Settings):
    """Data for fitting the projection that removes head rotation from the dynamics latent (job erase_pose)."""

    people: int = number(300, 30, 100_000, "", "rendered persons")
    stills: int = number(8, 5, 1000, "", "images of each")
    supersample: int = number(1, 1, 4, "rays", "per pixel side")


@section
class DriftConfig(Settings):
    """One long video of held-out speech with pauses (job evaluate_drift)."""

    minutes: float = number(10.0, 0.5, 600, "minutes", "of video")
    truth_stride: int = number(25, 1, 250, "frames", "every n-th frame of the true video is rendered and measured")


@section
class VoicesConfig(Settings):
    """Real speakers' sound and mouths (job evaluate_voices; config.videos, config.prepare)."""

    seconds: float = number(10.0, 2, 60, "seconds", "of a clip, at most")
    per_video: int = number(2, 1, 1000, "clips", "of a video")
    heads: int = number(3, 1, 1000, "", "held-out heads that take turns")
    speakers: str = text(
        "", "table (.tsv) of who speaks in which video (evaluation/speaker_list.py); people in training are left out"
    )


@section
class LabelAccuracyConfig(Settings):
    """Labels of prepare.analyzer against the built-in corpus (job label_accuracy)."""

    heads: int = number(64, 2, 10**5, "", "random persons, one still of each")
    size: int = number(256, 16, 1024, "pixels", "per side")
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    batch: int = number(8, 1, 4096, "heads", "rendered at once")

    def check_together(self, path: str) -> None:
        """Raises InputError for a size that cannot be rendered."""
        check_rendered(f"{path}.size", self.size, self.supersample)


@section
class CorpusSheetsConfig(Settings):
    """Contact sheets of the built-in corpus."""

    people: int = number(64, 1, 4096, "", "on the sheets of people and looks")
    rows: int = number(8, 1, 4096, "", "of them with all poses, visemes, emotions and gazes")
    size: int = number(128, 16, 1024, "pixels", "per side of a rendered image")
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    batch: int = number(16, 1, 4096, "images", "rendered at once")

    def check_together(self, path: str) -> None:
        """Raises InputError for more rows than people and for a size that cannot be rendered."""
        if self.rows > self.people:
            raise InputError(f"{path}.rows: {self.rows} is out of range; choose 1 to {self.people}")
        check_rendered(f"{path}.size", self.size, self.supersample)


@section
class VideosConfig(Settings):
    """Measures of any videos of faces (job evaluate_videos; config.videos, config.references, config.manifest)."""

    networks: str = text(
        "", "folder of published networks, by the names of docs/weights.md, or of what import_weights has written"
    )
    capp: str = text("", "directory of capp.safetensors; empty = the shipped one")
    sync: str = text("", "directory of sync.safetensors, the sync probe; empty = the shipped one")
    loss_networks: str = text(
        "", "folder of what weights/loss_networks.py and weights/lpips.py name, for CSIM, LPIPS, distances of features"
    )
    seconds: float = number(60.0, 1, 3600, "seconds", "measured of each video, from its start")
    size: int = number(256, 64, 1024, "pixels", "side of the square around head and shoulders that is measured")
    faces: int = number(8, 1, 100, "frames", "in which the face is looked for; the square is their median, and fixed")
    most: int = number(8, 2, 10**5, "clips", "of job evaluate_tables, spread over the folder, at most")
    rows: tuple[str, ...] = text(
        (), "evaluate_tables: audio guidance:gaze guidance:steps, rows of Table 5 that are made of the same clips too"
    )

    def check_together(self, path: str) -> None:
        """Raises InputError for rows that are none, or one twice."""
        _check_rows(self.rows, path)


@section
class VotesConfig(Settings):
    """Side-by-side comparisons by people (jobs vote_page and count_votes)."""

    folders: tuple[str, ...] = text(
        (), "two or three folders of videos, one of each system; files belong together by their names"
    )
    questions: tuple[str, ...] = text(
        ("Which looks more like a real person speaking?",), "asked of each pair, in this order", least=1
    )
    most: int = number(0, 0, 10**5, "pairs", "that each rater gets, drawn for him; 0 = all")
    repeats: int = number(4, 0, 1000, "pairs", "that come back at the end with sides changed: is the rater steady?")
    equal: bool = flag(True, "a rater may see no difference")
    key: str = text("", "of job count_votes: the key.json that belongs to the page")
    cast: str = text("", "of job count_votes: folder of the raters' files")


@section
class MarksConfig(Settings):
    """Recall and false alarms of the invisible mark (job evaluate_marks; config.videos = unmarked clips)."""

    portraits: str = text("", "folder of portraits that the model animates; empty = rendered held-out heads")
    sounds: str = text("", "folder of speech that they say, taken in turn; empty = the shipped sentence")
    clips: int = number(25, 0, 10**5, "videos", "of 5 s of people, the first of every clip first, marked and attacked")
    carriers: int = number(25, 0, 10**5, "videos", "of 5 s that the model makes; they are marked and attacked too")
    payloads: int = number(2, 1, 10**4, "marks", "that each of them gets in turn, per size")
    sizes: tuple[int, ...] = number((256, 512), 64, 2048, "pixels", "per side of the marked videos")
    pasted: int = number(
        10, 0, 10**5, "videos", "of 5 s of whole photographs, at their size, in which the face speaks; 4 GB a megapixel"
    )
    windows: int = number(20_000, 1, 10**7, "windows", "of 5 s without a mark that are searched")
    workers: int = number(0, 0, 256, "processes", "0 = one per core")


@section
class BenchmarkConfig(Settings):
    """What the benchmark runs."""

    variants: tuple[str, ...] = choice(("face_demo",), FACE_VARIANTS, "codecs")
    audio_variants: tuple[str, ...] = choice(("audio_demo",), AUDIO_VARIANTS, "audio encoders")
    motion_variants: tuple[str, ...] = choice(("motion_demo",), MOTION_VARIANTS, "transformers")
    batch_sizes: tuple[int, ...] = number((1, 8), 1, 65536, "frames", "decoded at once")
    window_batches: tuple[int, ...] = number((), 1, 65536, "windows", "sampled at once; empty = 1, 16, 64, on a CPU 1")
    window_steps: tuple[int, ...] = number((10, 25, 50), 1, 1000, "steps", "of config.solver")
    # live operating points of the first variants, with config.look_ahead and config.solver
    live_hops: tuple[int, ...] = number((), 1, 1000, "frames", "empty = what suits the device")
    live_steps: tuple[int, ...] = number((10,), 1, 1000, "steps", "of the solver, live")
    live_sessions: tuple[int, ...] = number((), 1, 65536, "streams", "at once, rising; empty = what suits the device")
    live_calls: int = number(40, 1, 10**6, "windows", "timed per point")
    update_batches: tuple[int, ...] = number(
        (), 1, 10**6, "pairs", "of an update of stage 1, timed for all `variants`; empty = none"
    )
    mark_batches: tuple[int, ...] = number(
        (), 1, 65536, "frames", "decoded at once with the invisible mark and without, `repeats` times; empty = none"
    )
    repeats: int = number(5, 1, 1000, "", "calls timed per row")


@section
class RendererBenchmarkConfig(Settings):
    """How the speed of the corpus's renderer is measured."""

    sizes: tuple[int, ...] = number((64, 128, 256, 512), 16, 1024, "pixels", "per side")
    batch_sizes: tuple[int, ...] = number(
        (), 1, 65536, "frames", "at once, one per size; empty = what suits the device"
    )
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    repeats: int = number(5, 1, 1000, "", "calls timed per row")

    def check_together(self, path: str) -> None:
        """Raises InputError for sizes that cannot be rendered, and for batch sizes that do not go with them."""
        for size in self.sizes:
            check_rendered(f"{path}.sizes", size, self.supersample)
        if self.batch_sizes and len(self.batch_sizes) != len(self.sizes):
            given = f"{len(self.batch_sizes)} for {len(self.sizes)} sizes"
            raise InputError(f"{path}.batch_sizes: {given}; give one each, or none")


@section
class ReadingBenchmarkConfig(Settings):
    """How the speed of reading records is measured."""

    data: str = text("", "directory of shards; empty = clips made from the package's portrait")
    sizes: tuple[int, ...] = number((256, 512), 16, 2048, "pixels", "per side")
    workers: tuple[int, ...] = number(
        (0, 1, 2), 0, 256, "processes", "that decode; 0 = threads of the training process"
    )
    clips: int = number(16, 1, 10**4, "clips", "made, where data is empty")
    frames: int = number(100, 2, 10**4, "frames", "of a window")
    batch_size: int = number(8, 1, 4096, "examples", "of a batch")
    seconds: float = number(3.0, 0, 600, "seconds", "of each measurement")
    repeats: int = number(3, 1, 1000, "", "measurements per row")
    variants: tuple[str, ...] = choice(("face_256", "face_512"), FACE_VARIANTS, "codecs whose need is computed")
    device_tflops: float = number(
        400.0, 1e-3, 1e6, "TFLOP/s", "what the training device sustains; 400 = 40 % of a H100's bfloat16 peak"
    )

    def check_together(self, path: str) -> None:
        """Raises InputError for fewer clips than a batch takes."""
        if self.clips < self.batch_size:
            raise InputError(f"{path}.clips: {self.clips} is out of range; choose {self.batch_size} to 10000")


@section
class LiveBenchmarkConfig(Settings):
    """How live avatars are measured by clients of theirs (job benchmark_live)."""

    sessions: tuple[int, ...] = number((1, 2, 3, 4), 1, 64, "sessions", "at once, one row each")
    seconds: float = number(30.0, 0.5, 3600, "seconds", "that each client speaks")
    start: float = number(600.0, 1, 86_400, "seconds", "in which a studio must open, and then compile its first hop")
    address: str = text("", "http://HOST:PORT of a studio that runs; empty = one of its own; $VASA_JAX_KEY is its key")


@section
class PhotosEvaluationConfig(Settings):
    """The report on photographs (job evaluate_photos; photos.analyzer, photos.models)."""

    stills: str = text("", "folder of photographs of people whom training has not seen")
    table: str = text("", "table (.tsv, .csv) with a column `file`: only its files count; other columns make groups")
    clips: str = text("", "folder of real clips that drive themselves; empty = none")
    against: str = text("", "directory of the codec beside this one; empty = the shipped default")
    portraits: int = number(32, 1, 10**5, "photographs", "spread over the folder, at most")
    truths: int = number(16, 0, 10**5, "photographs", "that are compared with a photo head of themselves, at most")
    training: str = text("", "folder of the photographs that trained the codec: is one near? empty = not asked")
    motion: str = text(
        "", "fixed motion of this codec, as reenact saves it (motion_output) or .npy (frames, 9 + its numbers of a "
        "face); empty = the built-in performance, which has a truth",
    )  # fmt: skip
    frames: int = number(40, 20, 10**4, "frames", "of the built-in performance")
    seconds: float = number(4.0, 0.4, 600, "seconds", "of speech (config.audio; empty = the shipped sentence)")
    most_clips: int = number(12, 1, 10**5, "clips", "spread over the folder, at most")
    clip_frames: int = number(9, 2, 1000, "frames", "of each clip; the first is the portrait")
    clip_seconds: float = number(6.0, 0.2, 600, "seconds", "of each clip that they are spread over")
