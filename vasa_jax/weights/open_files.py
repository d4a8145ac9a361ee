"""Open weight files: which are known, whose they are, under what licence, and what each is for (docs/weights.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vasa_jax.errors import InputError
from vasa_jax.weights.face_vid2vid import has_detectors
from vasa_jax.weights.liveportrait import PARTS, part_of
from vasa_jax.weights.tensor_files import PICKLED, READ, read_tensors, refuse_stand_in


class Source(NamedTuple):
    """Where files of one kind come from."""

    title: str
    repository: str  # as its hub calls it
    licence: str
    commercial: str  # yes, no, ask
    use: str


SOURCES = {
    "liveportrait": Source(
        "LivePortrait", "KlingTeam/LivePortrait", "MIT", "yes", "keypoint codec, stitching and retargeting"
    ),
    "animals": Source(
        "LivePortrait for animals", "KlingTeam/LivePortrait", "MIT", "yes", "keypoint codec for animals"
    ),
    "face_vid2vid": Source(
        "face-vid2vid's detectors", "zhengkw18/face-vid2vid", "not told by the file", "ask", "keypoint codec"
    ),
    "landmarks": Source("LivePortrait's 203 points", "KlingTeam/LivePortrait", "MIT", "yes", "crops and ratios"),
    "joyvasa": Source("JoyVASA", "jdh-algo/JoyVASA", "MIT", "yes", "speech to keypoint motion"),
    "joyvasa_template": Source("JoyVASA's statistics", "jdh-algo/JoyVASA", "MIT", "yes", "units of JoyVASA's motion"),
    "ditto": Source("Ditto", "digital-avatar/ditto-talkinghead", "Apache-2.0", "yes", "speech to keypoint motion"),
    "ditto_audio": Source(
        "Ditto's HuBERT", "digital-avatar/ditto-talkinghead", "Apache-2.0", "yes", "what Ditto hears"
    ),
    "ditto_config": Source(
        "Ditto's settings", "digital-avatar/ditto-talkinghead", "Apache-2.0", "yes", "limits, blinks and emotions"
    ),
    "chinese-hubert": Source(
        "chinese-hubert", "TencentGameMate/chinese-hubert-base", "MIT", "yes", "audio encoder"
    ),
    "hubert": Source("HuBERT", "facebook/hubert-base-ls960, -large-ls960-ft", "Apache-2.0", "yes", "audio encoder"),
    "wav2vec2": Source("wav2vec 2.0", "facebook/wav2vec2-base-960h", "Apache-2.0", "yes", "audio encoder"),
    "audio": Source("an audio encoder", "not told by the file", "not told by the file", "ask", "audio encoder"),
    "syncnet": Source(
        "SyncNet", "VGG, University of Oxford", "none stated", "no (evaluation only)", "lip synchronisation figures"
    ),
    "i3d": Source(
        "I3D of Kinetics-400", "songweige/TATS, from kinetics-i3d", "Apache-2.0 (origin)", "ask", "FVD"
    ),
    "inception": Source("Inception of FID", "mseitzer/pytorch-fid", "Apache-2.0", "ask", "FID"),
    "face_model": Source(
        "Deep3DFaceRecon", "sicxu/Deep3DFaceRecon_pytorch", "MIT, learnt with the Basel Face Model",
        "no (that model's terms)", "AED, APD, E-FID",
    ),
}

# sha256 -> the published file: a name that is printed, never a condition.
KNOWN = {
    "5279bb8654293dbdf327030b397f107237dd9212fb11dd75b83dfb635211ceb5": "LivePortrait appearance_feature_extractor.pth",
    "251e6a94ad667a1d0c69526d292677165110ef7f0cf0f6d199f0e414e8aa0ca5": "LivePortrait motion_extractor.pth",
    "2f61a6f265fe344f14132364859a78bdbbc2068577170693da57fb96d636e282": "LivePortrait warping_module.pth",
    "4780afc7909a9f84e24c01d73b31a555ef651521a1fe3b2429bd04534d992aee": "LivePortrait spade_generator.pth",
    "3652d5a3f95099141a56986aaddec92fadf0a73c87a20fac9a2c07c32b28b611": "LivePortrait stitching_retargeting_module.pth",
    "31d22a5041326c31f19b78886939a634a5aedcaa5ab8b9b951a1167595d147db": "LivePortrait landmark.onnx",
    "9dd869329725caedf5f0c13dd383abec1e385f566d8afe2047b141f604844e80": "JoyVASA motion_generator_hubert_chinese.pt",
    "d7401b53a095eed55f4ed63470ba65a85b6f5c0fb3a1a4f936acb14a6628849c":
        "JoyVASA motion_generator_hubert_chinese.pt, first upload",
    "294ce67350b18031b375361756f654c76d5e14c8f1e319cf9ed07f759ef81a98": "JoyVASA motion_template.pkl",
}  # fmt: skip

# Files of the same downloads that are not read, by name -> why.
LEFT = {
    "det_10g.onnx": "InsightFace, non-commercial; faces are found without it",
    "2d106det.onnx": "InsightFace, non-commercial; faces are found without it",
    "w600k_r50.onnx": "InsightFace, non-commercial; not needed",
    "xpose.pth": "X-Pose, non-commercial; not read",
    "sfd_face.pth": "S3FD, no licence stated; not needed",
    "face_landmarker.task": "MediaPipe, Apache-2.0; give it to --config.prepare.models",
    "landmark_model.safetensors": "landmark.onnx without its graph; give that file",
    "lip_array.pkl": "constants of LivePortrait; not needed",
}
LANDMARKS = ("landmark.onnx", "landmark203.onnx")  # LivePortrait's, Ditto's copy
DITTO_AUDIO = "hubert_streaming_fix_kv.onnx"
_ARCHIVES = (".zip", ".7z", ".rar", ".gz", ".tgz", ".xz")
_OTHER_SUFFIXES = (".onnx", ".task", ".engine", ".trt")  # networks, but not tensors under names
# A damaged file may lack what tells it apart: then its name tells what to miss in it.
_NAMES = {
    **{part: part for part in PARTS},
    "appearance_extractor": "appearance_feature_extractor",
    "warp_network": "warping_module",
    "decoder": "spade_generator",
    "stitch_network": "stitching_retargeting_module",
    "motion_generator_hubert_chinese": "joyvasa",
    "motion_template": "joyvasa_template",
    "lmdm_v0.4_hubert": "ditto",
    "syncnet_v2": "syncnet",
    "i3d_pretrained_400": "i3d",
    "pt_inception-2015-12-05-6726825d": "inception",
    "epoch_20": "face_model",
}
# What a file holds under these names makes it a motion template of a driving video, not weights.
_TEMPLATE = {"n_frames", "motion"}


class Found(NamedTuple):
    """A file of a known kind."""

    path: Path
    source: str  # a name of SOURCES
    part: str  # of LivePortrait: a name of PARTS; else as the source
    content: Mapping[str, Any]


def look_through(folder: str | Path) -> tuple[list[Found], dict[Path, str]]:
    """Sorts a folder and those in it: (known files, files left aside -> why).

    InputError for a folder without weights, for a file of tensors that is of no known kind, and for links to nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"config.files: {folder} is no folder; give the one that holds the downloaded files")
    found, left = [], {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
        suffix = path.suffix.lower()
        if any(part.startswith(".") for part in path.relative_to(folder).parts) or path.is_dir():
            continue
        if not path.exists() and suffix in (*READ, *_OTHER_SUFFIXES):
            raise InputError(f"{path}: is a link to a file that is not there; download it again, or remove the link")
        if path.name in LEFT:
            left[path] = LEFT[path.name]
        elif suffix in _ARCHIVES:
            left[path] = "an archive; unpack it if its files are wanted"
        elif path.name in LANDMARKS:
            refuse_stand_in(path)
            found.append(Found(path, "landmarks", "landmarks", {}))
        elif path.name == DITTO_AUDIO:
            refuse_stand_in(path)
            found.append(Found(path, "ditto_audio", "ditto_audio", {}))
        elif suffix in _OTHER_SUFFIXES:
            left[path] = f"no file of tensors ({suffix}); not read"
        elif suffix in READ:
            _sort(recognised(path, folder), found, left)
    if not found:
        suffixes = ", ".join((".safetensors", *PICKLED))
        packed = next((path.name for path in left if path.suffix.lower() in _ARCHIVES), "")
        remedy = f"unpack {packed}" if packed else "docs/weights.md lists them"
        raise InputError(f"config.files: {folder} has no known weight file ({suffixes}); {remedy}")
    return found, left


def _sort(file: Found, found: list[Found], left: dict[Path, str]) -> None:
    if file.source == "template":
        left[file.path] = "a driving video's motion; not weights"
    else:
        found.append(file)


def recognised(path: Path, folder: Path) -> Found:
    """Reads a file of tensors and tells what it is; InputError when it is nothing known.

    `folder`: the one that was given. Its name and those of folders in it tell animals from people.
    """
    content = read_tensors(path)
    inner = content.get("model")
    names = {name.removeprefix("module.") for name in (inner if isinstance(inner, Mapping) else content)}
    part = _told_by_names(names, set(content)) or _NAMES.get(path.stem, "")
    if not part:
        some = ", ".join(sorted(names)[:3]) or "nothing"
        raise InputError(f"{path}: no known file (it holds {some}); take it out of the folder, see docs/weights.md")
    if part in PARTS:
        if has_detectors(names):
            return Found(path, "face_vid2vid", part, content)
        inside = (folder.resolve().name, *path.relative_to(folder).parts[:-1])
        animals = any("animals" in name for name in inside)
        return Found(path, "animals" if animals else "liveportrait", part, content)
    return Found(path, _audio_source(path) if part == "audio" else part, part, content)


def _told_by_names(names: set[str], outer: set[str]) -> str:
    def any_starts(*signs: str) -> bool:
        return any(name.startswith(signs) for name in names)

    if any_starts("denoising_net."):
        return "joyvasa"
    if "model_state_dict" in outer or any_starts("seqTransDecoder."):
        return "ditto"
    if {"base_cfg", "audio2motion_cfg"} <= outer:
        return "ditto_config"
    if {"mean_exp", "std_exp"} <= outer:
        return "joyvasa_template"
    if outer >= _TEMPLATE:
        return "template"
    if any_starts("netcnnaud."):
        return "syncnet"
    if any_starts("Conv3d_1a_7x7."):
        return "i3d"
    if any_starts("Mixed_5b.branch1x1."):
        return "inception"
    if "net_recon" in outer or any_starts("final_layers.6."):
        return "face_model"
    if any("encoder.pos_conv" in name for name in names):
        return "audio"
    return part_of(names)


def _audio_source(path: Path) -> str:
    """Guesses who trained an encoder from the names of file and folder: tensors do not tell."""
    text = f"{path.parent.name}/{path.name}".lower()
    return next((name for name in ("chinese-hubert", "hubert", "wav2vec2") if name in text), "audio")
