"""Every shipped configuration, at a tiny size, as its command: `python -m vasa_jax.main --config NAME` in a process.

Only the command line makes them small: networks, renderer and files are the shipped ones. The dear ones are slow.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest
from drawn_portrait import as_many_triangles, drawn_head, drawn_mesh, write_connections
from drawn_videos import speaking_face
from public_encoders import public_state, random_encoder
from safetensors.numpy import save_file
from scipy.io import wavfile
from studio_process import studio_process
from tiny_keypoint import save_guided
from tiny_model import PREVIOUS, WINDOW, save_tiny_model
from tiny_records import write_tiny
from tiny_speech import write_tiny_speech

from vasa_jax.corpus.photos.store import write_heads
from vasa_jax.generation.job import DEMO
from vasa_jax.weights.parts import SHIPPED

PROJECT = Path(__file__).parents[1]
CONFIGS = {path.stem for path in (PROJECT / "configs").glob("*.py")}
LIMIT = 1800  # seconds of one command on a loaded machine

TRAIN = "train.steps=2 train.batch_size=4 train.warmup_steps=1 train.log_every=1"
FACE = f"{TRAIN} face.variant=face_tiny corpus.shards=SHARDS corpus.drivers=2"
SPEECH = "corpus.speech=shipped corpus.clips=2 corpus.voices_per_clip=1 corpus.workers=1 corpus.supersample=1"
MOTION = f"motion.face=MODEL motion.audio=MODEL motion.window={WINDOW} motion.previous={PREVIOUS}"
PREPARE = "prepare.analyzer=haar prepare.size=64 prepare.min_seconds=1.0 prepare.min_face=40 prepare.workers=1"
TINY = "checkpoint=MODEL steps=2"

# Settings below `config.`, and a file that the run leaves in its workdir or OUT. In capitals: what `materials` holds.
CHEAP = {
    "benchmark_reading": (
        "reading_benchmark.sizes=(32,) reading_benchmark.workers=(0,) reading_benchmark.clips=2"
        " reading_benchmark.frames=4 reading_benchmark.batch_size=1 reading_benchmark.seconds=0"
        " reading_benchmark.repeats=1 reading_benchmark.variants=('face_tiny',)",
        "reading.json",
    ),
    "count_votes": ("votes.key=VOTES/key.json votes.cast=VOTES/cast", "report.json"),
    "detect": ("video=VIDEOS/person/clip.mp4", None),
    "speech_corpus": (
        "output=OUT speech_corpus.espeak=0.1 speech_corpus.held_out=0 speech_corpus.workers=1", "report.md"
    ),
    "import_weights": ("files=DOWNLOADS output=OUT", "audio.safetensors"),
    "vote_page": ("votes.folders=('VIDEOS/person','PEERS')", "page/index.html"),
}
DEAR = {
    "benchmark": (
        "benchmark.variants=('face_tiny',) benchmark.audio_variants=('audio_tiny',)"
        " benchmark.motion_variants=('motion_tiny',) benchmark.batch_sizes=(1,) benchmark.window_steps=(2,)"
        " benchmark.live_hops=(4,) benchmark.live_steps=(2,) benchmark.live_sessions=(1,) benchmark.live_calls=2"
        " benchmark.update_batches=(4,) benchmark.repeats=1",
        "benchmark.json",
    ),
    "benchmark_live": (
        "checkpoint=MODEL live_benchmark.sessions=(1,) live_benchmark.seconds=3 studio.live_steps=1", "live.json"
    ),
    "benchmark_renderer": (
        "renderer_benchmark.sizes=(16,) renderer_benchmark.batch_sizes=(1,) renderer_benchmark.supersample=1"
        " renderer_benchmark.repeats=1",
        "renderer.json",
    ),
    "corpus_sheets": (
        "corpus_sheets.people=2 corpus_sheets.rows=1 corpus_sheets.size=32 corpus_sheets.supersample=1"
        " corpus_sheets.batch=2",
        "identities.png",
    ),
    "demo": (f"{TINY} output=OUT/demo.mp4", "demo.mp4"),
    "erase_pose": ("checkpoint=MODEL pose_erasure.people=30 pose_erasure.stills=5", "export/face.safetensors"),
    "evaluate_audio": ("checkpoint=MODEL speech.shards=SPEECH", "report.json"),
    "evaluate": (f"{TINY} evaluation.heads=2 evaluation.seconds=1 evaluation.codec_frames=1", "report.json"),
    "evaluate_controls": (
        f"{TINY} controls_evaluation.heads=2 controls_evaluation.seconds=1 controls_evaluation.rendered_seconds=0.2"
        " controls_evaluation.samples=2 controls_evaluation.control_scales=(0.0,1.0)"
        " controls_evaluation.audio_scales=(0.5,) controls_evaluation.emotions=1"
        " controls_evaluation.emotion_frames=1 controls_evaluation.step_counts=(2,) controls_evaluation.shown=1"
        " controls_evaluation.rows=('0.5:1:2',)",
        "report.json",
    ),
    "evaluate_drift": (f"{TINY} drift.minutes=0.5 drift.truth_stride=250", "report.json"),
    "evaluate_face": (
        "checkpoint=MODEL face_evaluation.people=4 face_evaluation.stills=4 face_evaluation.mixed=1"
        " face_evaluation.supersample=1",
        "report.json",
    ),
    "evaluate_marks": (
        f"{TINY} videos=VIDEOS marks.clips=1 marks.carriers=1 marks.pasted=1 marks.sizes=(64,) marks.windows=1"
        " marks.workers=1",
        "report.json",
    ),
    "evaluate_videos": (
        "videos=VIDEOS/person references=VIDEOS/person videos_evaluation.size=64 videos_evaluation.seconds=1",
        "report.json",
    ),
    "evaluate_tables": (
        # A face must be found in what the model shows: the shipped one.
        "steps=2 videos=PEERS videos_evaluation.size=64 videos_evaluation.seconds=1 videos_evaluation.most=2",
        "report.json",
    ),
    "extract_motion": (f"{SPEECH} motion.face=MODEL motion.audio=MODEL", "manifest.json"),
    "generate": (f"{TINY} image=demo audio=SOUND output=OUT/a.mp4", "a.mp4"),
    "prepare": (f"{PREPARE} videos=VIDEOS output=OUT", "report.md"),
    "reenact": ("checkpoint=MODEL image=demo video=VIDEOS/person/clip.mp4 output=OUT/a.mp4", "a.mp4"),
    "synthesize": (
        "synthesis.clips=1 synthesis.held_out_clips=1 synthesis.seconds=0.2 synthesis.size=16 synthesis.supersample=1"
        " synthesis.style=0 synthesis.speech=shipped synthesis.shards=1 synthesis.held_out_shards=1"
        " synthesis.render_batch=1 synthesis.workers=1",
        "manifest.json",
    ),
    "train_audio": (f"{TRAIN} {SPEECH} speech.variant=audio_tiny speech.seconds=0.5", "export/audio.safetensors"),
    "train_capp": (f"{TRAIN} {SPEECH} capp.variant=capp_tiny capp.takes=1", "export/capp.safetensors"),
    "train_audio_voices": (
        f"{TRAIN} speech.variant=audio_stream_tiny speech.seconds=0.5 speech.shards=SPEECH speech.versions=2"
        " corpus.workers=1",
        "export/audio.safetensors",
    ),
    "train_sync": (
        f"{TRAIN} {SPEECH} sync.variant=sync_tiny sync.frames=20 sync.held_out_frames=25", "export/sync.safetensors"
    ),
    "train_lips": (
        f"{TRAIN} {SPEECH} lip_reader.variant=lips_tiny lip_reader.heads=8 lip_reader.face=MODEL",
        "export/lips.safetensors",
    ),
    "train_matte": (
        f"{TRAIN} matte.variant=matte_tiny matte.scenes=PHOTOS matte.held_out=0 photo_heads.folder=HEADS"
        " photos.models=MESH",
        "export/matte.safetensors",
    ),
    "train_emotion": (f"{TRAIN} {SPEECH}", "export/emotion.safetensors"),
    "train_face": (f"{FACE} face.recipe=self", "export/face.safetensors"),
    "train_face_256": (f"{FACE} face.recipe=self train.init_from=MODEL", "export/face.safetensors"),
    "train_face_decoder": (f"{FACE} face.recipe=self train.init_from=MODEL", "export/face.safetensors"),
    "train_face_gan": (
        f"{FACE} face.recipe=self train.init_from=MODEL face.discriminator_widths=(4,4)",
        "export/face.safetensors",
    ),
    "train_face_photos": (
        f"{FACE} corpus.shards= corpus.groups=1 corpus.poses=1 corpus.motions=2 corpus.drivers=1 corpus.supersample=1"
        " corpus.style=0 train.batch_size=8 train.minutes=0 train.init_from=MODEL train.init_partial=True"
        " face.variant=face_tiny_pixels face.anchor_from=MODEL photos.models=MESH photo_heads.folder=HEADS"
        " photo_heads.share=0.5 photo_heads.groups=1 photo_heads.photos=1 photo_heads.heads=1 photo_heads.faces=2"
        " photo_heads.poses=1 photo_heads.style=0 face.placement=0.5 face.degrade=0.2",
        "export/face.safetensors",
    ),
    "train_face_keypoint": (f"{FACE} face.recipe=self face.variant=keypoint_tiny", "export/face.safetensors"),
    "train_face_keypoint_reader": (
        f"{FACE} corpus.shards= corpus.groups=1 corpus.poses=1 corpus.motions=2 corpus.drivers=1 corpus.supersample=1"
        " corpus.style=0 train.batch_size=8 face.variant=keypoint_tiny",
        "export/face.safetensors",
    ),
    "train_face_probe": (f"{TRAIN} train.batch_size=8 corpus.supersample=1", "export/instrument.safetensors"),
    "train_face_vasa": (FACE, "export/face.safetensors"),
    "train_retargeting": (
        f"{TRAIN} checkpoint=GUIDED corpus.groups=1 corpus.poses=1 corpus.motions=2 corpus.supersample=1"
        " corpus.style=0",
        "export/face.safetensors",
    ),
    "train_loss_networks": (
        f"{TRAIN} loss_networks.people=8 loss_networks.size=32 loss_networks.supersample=1 loss_networks.degrade=0"
        " loss_networks.style=0",
        "export/judge.safetensors",
    ),
    "train_motion": (f"{TRAIN} {SPEECH} {MOTION} motion.variant=motion_tiny", "export/motion.safetensors"),
}
# These need files that the user brings: without them they say so. Their work is tested with drawn faces elsewhere.
ASKING = {
    "evaluate_photos": ("photos_evaluation.stills=PHOTOS photos.models=OUT", "/out"),
    "evaluate_voices": ("videos=VIDEOS prepare.models=OUT", "litert"),
    "fit_photos": ("photos.folder=PHOTOS photos.models=OUT output=OUT/heads", "/out"),
    "label_accuracy": ("prepare.models=OUT", "litert"),
}

# The same with those files: FACE_MODELS=face_models pytest -n 0 -m slow tests/test_commands.py -k users_files
FACE_MODELS = os.environ.get("FACE_MODELS", "")
WITH_FILES = {
    "evaluate_photos": (
        "checkpoint=MODEL photos_evaluation.against=MODEL photos_evaluation.stills=PHOTOS photos.models=GRAPHS"
        " photos_evaluation.frames=20 photos_evaluation.truths=1 photos_evaluation.seconds=0.4",
        "report.json",
    ),
    "evaluate_voices": (
        f"{TINY} videos=VIDEOS prepare.models=GRAPHS prepare.min_seconds=1.0 prepare.min_face=40 prepare.workers=1"
        " prepare.min_speech=0 prepare.min_sharpness=0 voices.seconds=2 voices.heads=1",
        "report.json",
    ),
    "fit_photos": ("photos.folder=PHOTOS photos.models=GRAPHS output=OUT", "report.md"),
    "label_accuracy": (
        "prepare.models=GRAPHS label_accuracy.heads=2 label_accuracy.batch=2 label_accuracy.supersample=1",
        "label_accuracy.json",
    ),
}
SERVING = {"studio"}  # ends when it is told to


def command(name, options, places, workdir):
    """Runs a configuration in a folder of its own; returns the finished process."""
    arguments = []
    for option in options.split():
        for word, place in places.items():
            option = option.replace(word, str(place))
        arguments.append(f"--config.{option}")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(PROJECT)}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.jax_compilation_cache_dir)
    return subprocess.run(
        [sys.executable, "-m", "vasa_jax.main", "--config", name, f"--workdir={workdir}", *arguments],
        cwd=workdir.parent, env=environment, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip


def write_votes(folder):
    """The key of a page with one pair, and the file of one rater."""
    (folder / "cast").mkdir(parents=True)
    videos = {name: {"system": system, "clip": "clip"} for name, system in (("a", "ours"), ("b", "theirs"))}
    key = {"study": "c", "systems": ["ours", "theirs"], "questions": ["real?"], "videos": videos}
    vote = {"left": "a", "right": "b", "repeat": False, "question": 0, "choice": "left", "seconds": 2.5}
    (folder / "key.json").write_text(json.dumps(key))
    (folder / "cast" / "d.json").write_text(json.dumps({"study": "c", "rater": "d", "votes": [vote]}))


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    """Word of an option -> what it stands for: a tiny model, shards, speech, videos, downloaded weights."""
    root = tmp_path_factory.mktemp("materials")
    for name in ("model", "downloads", "photos", "heads", "mesh", "videos/person", "speech", "guided"):
        (root / name).mkdir(parents=True)
    save_tiny_model(root / "model")
    save_guided(root / "guided")
    for probe in ("instrument", "emotion"):
        shutil.copy(SHIPPED / f"{probe}.safetensors", root / "model")
    write_tiny(root / "shards", clips=8, shards=1)
    write_tiny(root / "shards", clips=4, shards=1, split="heldout")
    write_tiny_speech(root / "speech")
    speaking_face(root / "videos" / "person" / "clip.mp4", 1.4, 0)
    wavfile.write(root / "sound.wav", 16_000, (3000 * np.sin(np.arange(8_000) / 20)).astype(np.int16))
    (root / "peers").mkdir()
    shutil.copy(root / "videos" / "person" / "clip.mp4", root / "peers")
    shutil.copy(root / "videos" / "person" / "clip.mp4", root / "peers" / "other.mp4")
    write_votes(root / "votes")
    write_heads(root / "heads", 0, [drawn_head()], ["a.jpg"])
    write_connections(root / "mesh", as_many_triangles(drawn_mesh()))
    save_file(public_state(random_encoder("base")), root / "downloads" / "encoder.safetensors")
    shutil.copy(DEMO["image"], root / "photos")
    names = {"MODEL": "model", "SHARDS": "shards", "SOUND": "sound.wav", "VIDEOS": "videos", "PHOTOS": "photos"}
    names |= {"DOWNLOADS": "downloads", "HEADS": "heads", "MESH": "mesh", "SPEECH": "speech"}
    names |= {"PEERS": "peers", "VOTES": "votes", "GUIDED": "guided"}
    return {word: root / name for word, name in names.items()}


def check(name, options, result, materials, tmp_path):
    workdir = tmp_path / "run"
    done = command(name, options, {**materials, "OUT": tmp_path / "out"}, workdir)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    if result:
        files = [folder / result for folder in (workdir, tmp_path / "out") if (folder / result).is_file()]
        assert files and files[0].stat().st_size


@pytest.mark.parametrize("name", CHEAP)
def test_command(name, materials, tmp_path):
    check(name, *CHEAP[name], materials, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", DEAR)
def test_dear_command(name, materials, tmp_path):
    check(name, *DEAR[name], materials, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKING)
def test_command_without_the_users_files(name, materials, tmp_path):
    (tmp_path / "out").mkdir()
    options, word = ASKING[name]
    done = command(name, options, {**materials, "OUT": tmp_path / "out"}, tmp_path / "run")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and word in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not FACE_MODELS, reason="FACE_MODELS names no folder of graph files")
@pytest.mark.parametrize("name", WITH_FILES)
def test_command_with_the_users_files(name, materials, tmp_path):
    check(name, *WITH_FILES[name], {**materials, "GRAPHS": Path(FACE_MODELS).resolve()}, tmp_path)


@pytest.mark.slow
def test_the_studio_serves_and_ends(materials, tmp_path):
    with studio_process(tmp_path, f"--config.checkpoint={materials['MODEL']}") as (address, process):
        assert "<html" in urllib.request.urlopen(address, timeout=60).read().decode()
        process.terminate()
        assert process.wait(60) == 0


def test_every_configuration_is_among_them():
    assert {*CHEAP, *DEAR, *ASKING, *SERVING} == CONFIGS and WITH_FILES.keys() == ASKING.keys()
