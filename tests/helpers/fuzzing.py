"""One reader fed with seeded mutants of good files, in a process of limited memory: `fuzzing.py READER SEED COUNT`.

A reader may return, or raise an InputError of one line. Anything else is printed with the number of its input, as a
line of JSON; so is what took too long. The number of the input in work stands in the file `at` of this folder.
"""

import contextlib
import io
import json
import resource
import signal
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hostile import mutants

SECONDS, MEMORY = 20.0, 2 * 2**30  # of processor time for one input; bytes beyond what the imports take


def pictures(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """Small pictures in the common formats."""
    from PIL import Image, features

    from vasa_jax.data.image_files import read_image

    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8))
    formats = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "TGA", *(["WEBP"] if features.check("webp") else [])]
    formats += ["AVIF"] if features.check("avif") else []
    found = []
    for name in formats:
        out = io.BytesIO()
        picture.save(out, name)
        found.append((f".{name.lower()}", out.getvalue()))
    return found, read_image


def sounds(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A short WAV, and a film with sound."""
    from vasa_jax.data.audio_files import read_audio

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.random.default_rng(0).integers(-9000, 9000, 8000).astype("<i2").tobytes())
    return [(".wav", out.getvalue()), (".mp4", _film(folder))], read_audio


def videos(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A short film with sound."""
    from vasa_jax.data.video_files import read_video

    return [(".mp4", _film(folder))], lambda path: sum(1 for _ in read_video(path, fps=25).frames)


def _film(folder: Path) -> bytes:
    from vasa_jax.data.audio_files import Audio
    from vasa_jax.data.video_files import write_video

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (8, 48, 64, 3)).astype(np.uint8)
    write_video(folder / "film.mp4", frames, Audio.from_samples(rng.normal(0, 0.1, 5120).astype(np.float32)))
    return (folder / "film.mp4").read_bytes()


def weights(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """Two tensors with metadata."""
    from vasa_jax.weights.safetensors_io import load_params, save_params

    rng = np.random.default_rng(0)
    params = {"a": {"kernel": rng.normal(size=(4, 5)), "bias": rng.normal(size=5)}}
    save_params(folder / "good.safetensors", params, {"fields": {"width": 5}, "step": 3})
    return [(".safetensors", (folder / "good.safetensors").read_bytes())], load_params


def controls(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A track that uses every kind of control."""
    from vasa_jax.generation.control_track import read_control_track

    content = {
        "gaze": [[0, 0], [0.5, 0], [1, -3.25]], "emotion": "happiness:0.5", "distance": 1.25, "steps": 10,
        "solver": "ddim", "head_pose": [[1, 2, 3]], "blink_rate": [15, 2e1], "seed": 4,
    }  # fmt: skip
    return [(".json", json.dumps(content).encode())], read_control_track


def records(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A clip's record, and the pictures in it."""
    from tiny_records import tiny_record

    from vasa_jax.data.records import Record, decode_jpeg, decode_matte

    def read(path):
        record = Record.from_bytes(path.read_bytes())
        for data in record.frames:
            decode_jpeg(data)
        for data in record.matte or ():
            decode_matte(data)

    return [("", tiny_record(0, frames=2).to_bytes())], read


def manifests(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """The manifest of two shards; what is read is the data set."""
    from tiny_records import write_tiny

    write_tiny(folder / "set", 4, 2)
    good = (folder / "set" / "manifest.json").read_bytes()
    return [(".json", good)], lambda path: _read_set(folder / "set", "manifest.json", path)


def shards(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A TFRecord file whose length the manifest states."""
    return _shards(folder, "tfrecord")


def array_records(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """An ArrayRecord file whose length the manifest states."""
    return _shards(folder, "array_record")


def _shards(folder: Path, name: str) -> tuple[list[tuple[str, bytes]], Callable]:
    from tiny_records import write_tiny

    manifest = write_tiny(folder / "set", 2, 1, formats=(name,))
    file = manifest.shards[0].files[name]["file"]
    good = (folder / "set" / file).read_bytes()
    content = json.loads((folder / "set" / "manifest.json").read_text())

    def read(path):
        content["shards"][0]["files"][name]["bytes"] = path.stat().st_size
        (folder / "set" / "manifest.json").write_text(json.dumps(content))
        _read_set(folder / "set", file, path)

    return [(f".{name}", good)], read


def _read_set(folder: Path, name: str, mutant: Path) -> None:
    from vasa_jax.data.shards import ShardReader, read_manifest, verify
    from vasa_jax.errors import InputError

    (folder / name).write_bytes(mutant.read_bytes())
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        for kind in shard.files:
            reader = ShardReader(manifest, shard, kind)
            for index in range(len(reader)):
                reader[index]
    with contextlib.suppress(InputError):
        verify(manifest)


def outcomes(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """What preparation notes of a video, and its clips."""
    from tiny_records import tiny_record

    from vasa_jax.preparation.clips import Discard, PreparedClip, VideoResult
    from vasa_jax.preparation.work import VideoJob, read_clip, read_outcome, write_outcome

    job = VideoJob(folder / "a.mp4", "a.mp4", "a", "person", "train")
    clip = PreparedClip(tiny_record(0, frames=2), 0.0, 0.08, {"seconds": 0.08})
    write_outcome(folder, job, VideoResult(1.0, [clip], [Discard("too short", 0.1, 1.0)]))
    good = [(suffix, (folder / f"a{suffix}").read_bytes()) for suffix in (".json", ".clips")]

    def read(path):
        for suffix, data in good:
            (folder / f"a{suffix}").write_bytes(path.read_bytes() if path.suffix == suffix else data)
        if read_outcome(folder, job) is not None:
            read_clip(folder, "a", 0)

    return good, read


def pickles(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """Weights as PyTorch writes them."""
    from torch_files import tensors, write_zip

    from vasa_jax.weights.tensor_files import read_tensors

    arrays = {"a": np.arange(6.0, dtype=np.float32), "b": np.ones((2, 2), np.float32)}
    write_zip(folder / "good.pth", tensors(arrays))
    return [(".pth", (folder / "good.pth").read_bytes())], read_tensors


def credentials(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A picture with a signed manifest."""
    from PIL import Image

    from vasa_jax.generation.provenance import _own_signer, manifest, read_manifest, sign_file
    from vasa_jax.generation.watermark import Payload

    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "good.png")
    sign_file(folder / "good.png", "image/png", manifest(Payload(1), "model"), _own_signer())

    def read(path):
        text = str(read_manifest(path))
        assert text.isprintable() and len(text) < 2000, text

    return [(".png", (folder / "good.png").read_bytes())], read


def certificates(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """A chain of certificates, and the key of its first one."""
    from vasa_jax.generation.provenance import Signer, _own_signer

    good = _own_signer()
    (folder / "chain.pem").write_bytes(good.chain)
    (folder / "key.pem").write_bytes(good.key)

    def read(path):
        Signer.from_files(*((path, folder / "key.pem") if path.suffix == ".crt" else (folder / "chain.pem", path)))

    return [(".crt", good.chain), (".key", good.key)], read


def job_lists(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """Two jobs with files, a crop and controls; nothing is made of them."""
    from vasa_jax.config import VASAConfig
    from vasa_jax.generation.job import DEMO
    from vasa_jax.generation.job_list import generate_listed

    shared = {"image": str(DEMO["image"]), "audio": str(DEMO["audio"])}
    jobs = [
        {**shared, "output": "a.mp4", "gaze": [3, -2], "emotion": "fear:0.5", "seed": 4, "crop": "1,2,60"},
        {**shared, "output": "b.mp4", "background": "red", "steps": 7, "blink_rate": 12.5, "pose_amplitude": 0.5},
    ]
    text = "\n".join(json.dumps(job) for job in jobs).encode()

    def read(path):
        with contextlib.redirect_stderr(io.StringIO()):  # what fails is told there
            generate_listed(VASAConfig(jobs=str(path)), lambda job: Path(job.output))

    return [(".jsonl", text)], read


def arrays(folder: Path) -> tuple[list[tuple[str, bytes]], Callable]:
    """Arrays as caches and photo heads keep them."""
    from vasa_jax.files import read_arrays

    out = io.BytesIO()
    np.savez(out, a=np.arange(12.0), b=np.ones((2, 3), np.float32), names=np.array(["x", "yz"]))
    return [(".npz", out.getvalue())], lambda path: read_arrays(path, "make it anew")


READERS = {
    reader.__name__: reader
    for reader in (
        pictures, sounds, videos, weights, controls, records, manifests, shards, array_records, outcomes, pickles,
        credentials, certificates, job_lists, arrays,
    )
}  # fmt: skip


def failures(name: str, seed: int, count: int, folder: Path) -> Iterator[dict]:
    """Yields what went wrong, with the number of the input."""
    from vasa_jax.errors import InputError

    good, read = READERS[name](folder)
    _limit_memory()

    def too_long(signum, frame):
        raise TimeoutError(f"more than {SECONDS:g} s")

    signal.signal(signal.SIGPROF, too_long)
    for number, (suffix, data) in enumerate(_inputs(good, seed, count)):
        path = folder / f"mutant{suffix}"
        path.write_bytes(data)
        (folder / "at").write_text(str(number))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            read(path)
        except InputError as error:
            if "\n" in str(error) or len(str(error)) > 1100:
                yield {"input": number, "fault": f"not one short line: {str(error)[:300]}"}
        except BaseException as error:
            yield {"input": number, "fault": f"{type(error).__name__}: {str(error)[:300]}"}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _inputs(good: list[tuple[str, bytes]], seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    for place, (suffix, data) in enumerate(good):
        for mutant in mutants(data, seed + place, -(-count // len(good))):
            yield suffix, mutant


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    began, found = time.process_time(), list(failures(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path.cwd()))
    for fault in found:
        print(json.dumps(fault))
    print(json.dumps({"seconds": round(time.process_time() - began, 1)}))
