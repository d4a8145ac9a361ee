"""What the file of each trained part must hold: sound fields, and exactly the tensors of the network they make."""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vasa_jax.conventions import CORPUS, EMOTIONS, FRAMINGS, LIVE_PORTRAIT, MOTION_DIM, POSE_DIM
from vasa_jax.errors import InputError
from vasa_jax.models.audio import AudioEncoder, feature_frames
from vasa_jax.models.audio_encoders import audio_encoder, audio_encoder_class
from vasa_jax.models.backbones import ResNet
from vasa_jax.models.capp import CAPP, WINDOW
from vasa_jax.models.emotion_probe import PATCH, EmotionProbe
from vasa_jax.models.face import FaceDecoder, VASAFaceEncoder, dynamics_width, init_face
from vasa_jax.models.face_probe import SIZE, Anchors, FaceProbe
from vasa_jax.models.keypoint_appearance import AppearanceFeatureExtractor
from vasa_jax.models.keypoint_detectors import (
    CanonicalKeypointDetector,
    HeadPoseExpressionEstimator,
)
from vasa_jax.models.keypoint_face import (
    KeypointFaceDecoder,
    KeypointFaceEncoder,
    exported,
    init_keypoint_face,
    motion_network,
)
from vasa_jax.models.keypoint_generator import Generator
from vasa_jax.models.keypoint_motion_field import MotionFieldEstimator, WarpingNetwork
from vasa_jax.models.keypoints import LIVE_PORTRAIT_KEYPOINTS as KEYPOINTS
from vasa_jax.models.keypoints import ZERO_BINS
from vasa_jax.models.lip_reader import PARTS, LipReader
from vasa_jax.models.loss_networks import IdentityJudge, PerceptualJudge
from vasa_jax.models.motion import MotionConditions, VASADiffusionTransformer
from vasa_jax.models.portrait_matte import PortraitMatte
from vasa_jax.models.sync_probe import COEFFICIENTS, COLUMNS, SyncProbe
from vasa_jax.models.sync_probe import SIDE as MOUTH_SIDE
from vasa_jax.models.sync_probe import WINDOW as SYNC_WINDOW
from vasa_jax.models.variants import from_json
from vasa_jax.schema import Each, Flag, Named, Real, Text, Whole, check

Shapes = dict[str, tuple[int, ...]]  # of tensors, by their dotted names
# Structures of the shipped parts, whose networks a test traces: no run has to.
TRACED = frozenset((
    "38c7399665efed2c17095e8981281975",  # face
    "1e61f8e4c135acdaabb37c042122652b",  # audio
    "9f94cd72b2aa2156b63a5f73e41971ac",  # motion
    "b43eb92867f7998391dc707160c097f7",  # instrument
    "9145234ccca94980a9583c4074df20ab",  # emotion
    "3604d31e2cc3cc457973ab92b0a325fe",  # capp
    "3cb096dc70cc8871a7e78de5d2c4e1af",  # sync
    "d20160a494f42326fafd46a5efa06ae3",  # lips
    "f10be4546394e8793cd56b7e9aa92ff4",  # matte
))
LARGEST_VOLUME = 2**27  # numbers; face_512 has 2**22.6
_REMEDY = "export it again, or give the file of this part"
_UNSTORED = ("dtype", "fused", "parent", "name")
_SIDE, _TIME = Whole(8, 2048), Whole(1, 4096)
_SIDES = ("image_size", "input_size", "identity_size", "pose_size", "correction_size", "crop_size")
# Each has tensors of its own.
_LAYERS = ("layers", "sound_layers", "blocks", "blocks_3d", "pixel_blocks", "depths", "down_blocks")
# Networks within networks, by the name of their fields; the others are residual networks.
_INSIDE = {
    "appearance": AppearanceFeatureExtractor, "warp": WarpingNetwork,
    "field": MotionFieldEstimator, "generator": Generator, "detector": CanonicalKeypointDetector,
    "estimator": HeadPoseExpressionEstimator,
}  # fmt: skip
_STEPS = ("kernel", "dilations", "ahead")  # of networks that hear a stream: what they remember
_OPENING = ("offset", "mean", "deviation")  # of a mouth's opening, in lips
_REALS = {
    "crop_zoom": Real(0.1, 20.0), "correction_zoom": Real(0.1, 20.0), "waveform_scale": Real(1e-3, 1e4),
    "dropout": Real(0.0, 0.99),
}  # fmt: skip
_CHOICES = {
    "conv_norm": ("group", "layer"), "waveform": ("utterance", "scale"), "time_conditioning": ("token", "adaln"),
    "positions": ("learned", "sinusoidal"), "angles": tuple(ZERO_BINS),
}  # fmt: skip


def check_part(part: str, where: str, shapes: Shapes, metadata: Mapping[str, Any]) -> None:
    """Raises InputError, which begins with `where`, if these are not the tensors and metadata of a part.

    part: face, audio, motion, instrument, emotion, judge, capp, sync, lips or matte. A codec takes seconds to trace.
    """
    build = _BUILDERS[part](dict(metadata), where, len(shapes))
    if structure(part, shapes, metadata) not in TRACED:
        check_shapes(where, shapes, expected_shapes(build, where))


def structure(part: str, shapes: Shapes, metadata: Mapping[str, Any]) -> str:
    """Returns a digest of what decides a part's network and of the shapes of its tensors."""
    deciding = {name: metadata.get(name) for name in ("fields", "points", "anchors")}
    text = json.dumps([part, deciding, sorted(shapes.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_shapes(where: str, found: Shapes, expected: Shapes) -> None:
    """Raises InputError, which begins with `where`, for the first tensor that is missing, unknown or of other shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise InputError(f"{where}: no tensor '{name}'; {_REMEDY}")
        if name not in expected:
            raise InputError(f"{where}: unknown tensor '{name}'; {_REMEDY}")
        if found[name] != expected[name]:
            raise InputError(f"{where}: '{name}' has shape {found[name]}, not {expected[name]}; {_REMEDY}")


def check_fields(network: type[nn.Module], fields: Any, where: str, tensors: int) -> dict[str, Any]:
    """Returns the fields that a file gives for a network; InputError, which begins with `where`, for a bad one.

    tensors: how many the file has, the most layers that its network can have.
    """
    check(fields, Named(), where, _REMEDY)
    hints = typing.get_type_hints(network)
    known = {item.name: hints[item.name] for item in dataclasses.fields(network) if item.name not in _UNSTORED}
    for name, value in fields.items():
        if known.get(name) in (Mapping[str, Any], Mapping[str, Any] | None) and value is not None:
            inside = _INSIDE.get(name, ResNet)
            if name == "motion":
                told = (fields.get(f"{kind}_motion") is True for kind in ("separate", "guided"))
                inside = motion_network(*told)
            check_fields(inside, value, f"{where}.{name}", tensors)
    schema = {name: _schema(name, known[name], tensors) for name in fields if name in known}
    check(fields, schema, where, _REMEDY)
    if "volume" in fields:
        channels, depth, side = fields["volume"]
        if channels * depth * side**2 > LARGEST_VOLUME:
            raise InputError(f"{where}.volume: {fields['volume']} is too large; {_REMEDY}")
    return fields


def _schema(name: str, hint: Any, tensors: int) -> Any:
    if typing.get_origin(hint) is tuple:
        inside = typing.get_args(hint)
        least, longest = (0, 64) if Ellipsis in inside else (len(inside), len(inside))
        return Each(_schema(name, inside[0], tensors), least, longest)
    if hint is int:
        if name in _SIDES:
            return _SIDE
        if name == "depth":
            return Whole(1, 256)
        if name in ("window", "previous"):
            return _TIME
        if name in _STEPS:
            return Whole(0, 256)
        return Whole(0, tensors) if name in _LAYERS else Whole(1, 65536)
    if hint is str:
        return Text(choices=_CHOICES[name])
    if hint is float:
        return _REALS.get(name, Real(-1000.0, 1000.0))
    return Flag() if hint is bool else None  # a mapping has a check of its own


def expected_shapes(build: Callable[[], Any], where: str) -> Shapes:
    """Returns the shapes in the tree that `build` makes; InputError, `where` first, where it fails."""
    try:
        tree = build()
    except Exception as error:  # flax and JAX raise many kinds
        fault = " ".join(str(error).split())[:160]
        raise InputError(f"{where}: its fields make no network ({fault}); {_REMEDY}") from error
    return shapes_of(tree)


def shapes_of(tree: Any) -> Shapes:
    """Returns the shapes of a tree of arrays, by their dotted names."""
    return {name: leaf.shape for name, leaf in traverse_util.flatten_dict(tree, sep=".").items()}


def initial_shapes(network: nn.Module, *inputs: Any) -> Any:
    """Returns the tree of a network's parameters as shapes; `inputs` are shapes too, so that none takes memory."""
    return jax.eval_shape(lambda *given: network.init(jax.random.key(0), *given), *inputs)["params"]


def _numbers(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _flags(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bool_)


def _fields(metadata: dict[str, Any], where: str) -> Any:
    return check(metadata.get("fields"), Named(), f"{where}: fields", _REMEDY)


def _face(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields, halves = _fields(metadata, where), {"encoder": Named(), "decoder": Named()}
    if "framing" in metadata:
        check(metadata["framing"], Text(choices=FRAMINGS), f"{where}: framing", _REMEDY)
    if "codec" in fields:
        check(fields, {**halves, "codec": Text(choices=("keypoint",))}, f"{where}: fields", _REMEDY)
        check_fields(KeypointFaceEncoder, fields["encoder"], f"{where}: fields.encoder", tensors)
        check_fields(KeypointFaceDecoder, fields["decoder"], f"{where}: fields.decoder", tensors)
        return lambda: _keypoint_face(fields)
    check(fields, halves, f"{where}: fields", _REMEDY)
    check_fields(VASAFaceEncoder, fields["encoder"], f"{where}: fields.encoder", tensors)
    check_fields(FaceDecoder, fields["decoder"], f"{where}: fields.decoder", tensors)
    shared = fields["encoder"].keys() & fields["decoder"].keys() - {"groups"}
    for name in sorted(shared):
        if fields["encoder"][name] != fields["decoder"][name]:
            raise InputError(f"{where}: {name} of encoder and decoder differ; {_REMEDY}")
    if fields["encoder"].get("dynamics_width", MOTION_DIM - POSE_DIM) != MOTION_DIM - POSE_DIM:
        raise InputError(f"{where}: dynamics_width is not {MOTION_DIM - POSE_DIM}; {_REMEDY}")
    return lambda: jax.eval_shape(lambda: init_face(jax.random.key(0), fields))


def _keypoint_face(fields: Mapping[str, Any]) -> Any:
    """The tree of an export. Its norms are folded with NumPy: all its arrays are one number that is seen many times."""
    tree = jax.eval_shape(lambda: init_keypoint_face(jax.random.key(0), fields))
    return exported(jax.tree.map(lambda leaf: np.broadcast_to(np.float32(1), leaf.shape), tree))


def _audio(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = _fields(metadata, where)
    kind = audio_encoder_class(fields)
    check_fields(kind, fields, f"{where}: fields", tensors)
    if kind is not AudioEncoder:
        return lambda: initial_shapes(audio_encoder(fields), _numbers(1, 4000))
    network = AudioEncoder(**from_json(fields))
    kernels, strides = network.conv_kernels, network.conv_strides
    # 25 frames of video take two features each.
    if len(kernels) != len(strides) or feature_frames(25 * 640 + 80, kernels, strides) != 50:
        raise InputError(f"{where}: its convolutions do not make 50 features a second; {_REMEDY}")
    return lambda: initial_shapes(network, _numbers(1, 4000))


def _motion(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = check_fields(VASADiffusionTransformer, _fields(metadata, where), f"{where}: fields", tensors)
    controls = Each(Text(longest=40), longest=20)
    check(metadata.get("trained_controls", []), controls, f"{where}: trained_controls", _REMEDY)
    network = VASADiffusionTransformer(**fields)
    if network.motion_dim <= POSE_DIM:
        raise InputError(f"{where}: motion of {network.motion_dim} numbers, the pose alone has {POSE_DIM}; {_REMEDY}")

    def build():
        window, previous, width = network.window, network.previous, network.audio_dim
        known = _flags(1)
        conditions = MotionConditions(
            audio=_numbers(1, window, width), prev_motion=_numbers(1, previous, network.motion_dim),
            prev_audio=_numbers(1, previous, width), gaze=_numbers(1, 2), distance=_numbers(1, 1),
            emotion=_numbers(1, len(EMOTIONS)), audio_mask=_flags(1, window), prev_mask=known,
            gaze_mask=known, distance_mask=known, emotion_mask=known,
        )  # fmt: skip
        noisy, time = _numbers(1, window, network.motion_dim), jax.ShapeDtypeStruct((1,), jnp.int32)
        moments = dict.fromkeys(("mean", "std"), _numbers(network.motion_dim))
        return {"transformer": initial_shapes(network, noisy, time, conditions), "statistics": moments}

    return build


def _instrument(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    del tensors
    if not {"points", "anchors", "errors"} <= metadata.keys():
        raise InputError(f"{where}: not a face probe (no anchors, points and errors); {_REMEDY}")
    points = metadata["points"]
    check(points, Each(Text(longest=60), 1, 1000), f"{where}: points", _REMEDY)
    groups = [field.name for field in dataclasses.fields(Anchors)]
    anchor = Each(Whole(0, len(points) - 1), 1, 100)
    anchors = check(metadata.get("anchors"), dict.fromkeys(groups, anchor), f"{where}: anchors", _REMEDY)
    check(metadata.get("errors"), Named(Real(-1e9, 1e9)), f"{where}: errors", _REMEDY)
    network = FaceProbe(len(points), Anchors(**from_json(anchors)))
    return lambda: initial_shapes(network, _numbers(1, SIZE, SIZE, 3))


def _emotion(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    del tensors
    if metadata.get("emotions") != list(EMOTIONS):
        raise InputError(f"{where}: not a reader of emotions (no list of them); {_REMEDY}")
    check(metadata.get("figures", {}), Named(Real(-1e9, 1e9)), f"{where}: figures", _REMEDY)
    return lambda: initial_shapes(EmotionProbe(), _numbers(1, PATCH[1], PATCH[1], 3))


def _judge(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = check_fields(PerceptualJudge, _fields(metadata, where), f"{where}: fields", tensors)
    network, image = PerceptualJudge(**from_json(fields)), _numbers(1, 64, 64, 3)
    return lambda: {"perceptual": initial_shapes(network, image), "identity": initial_shapes(IdentityJudge(), image)}


def _capp(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = _fields(metadata, where)
    check(fields, {"audio": Named(), "capp": Named()}, f"{where}: fields", _REMEDY)
    check(metadata.get("figures", {}), Named(Real(-1e9, 1e9)), f"{where}: figures", _REMEDY)
    encoder = _audio({"fields": fields["audio"]}, where, tensors)
    network = CAPP(**check_fields(CAPP, fields["capp"], f"{where}: fields.capp", tensors))
    kind = audio_encoder_class(fields["audio"])
    angles, heard = jnp.zeros((1, WINDOW, 3)), jnp.zeros((1, WINDOW, fields["audio"].get("width", kind.width)))
    return lambda: {"audio": encoder(), "capp": initial_shapes(network, angles, heard)}


def _sync(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = check_fields(SyncProbe, _fields(metadata, where), f"{where}: fields", tensors)
    check(metadata.get("figures", {}), Named(Real(-1e9, 1e9)), f"{where}: figures", _REMEDY)
    network = SyncProbe(**from_json(fields))
    patches = _numbers(1, SYNC_WINDOW, MOUTH_SIDE, MOUTH_SIDE, 1)
    return lambda: initial_shapes(network, patches, _numbers(1, SYNC_WINDOW, COLUMNS, COEFFICIENTS))


def _lips(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = check_fields(LipReader, _fields(metadata, where), f"{where}: fields", tensors)
    check(metadata.get("figures", {}), Named(Real(-1e9, 1e9)), f"{where}: figures", _REMEDY)
    network = LipReader(**from_json(fields))
    if min(network.ahead, default=-1) < 0 or max(network.ahead) >= network.kernel:
        raise InputError(f"{where}: a kernel of {network.kernel} cannot look {network.ahead} frames ahead; {_REMEDY}")
    width = check(metadata.get("dynamics"), Whole(1, 65536), f"{where}: dynamics", _REMEDY)
    heard = _numbers(1, network.before + 1 + network.after, PARTS * network.mels)
    direction = dict.fromkeys(("read", "move"), _numbers(width)) | dict.fromkeys(_OPENING, _numbers(1))

    def build():
        rest = {"direction": direction, "spectrum": _numbers(network.mels)}
        return {"reader": initial_shapes(network, heard), **rest}

    return build


def _matte(metadata: dict[str, Any], where: str, tensors: int) -> Callable[[], Any]:
    fields = check_fields(PortraitMatte, _fields(metadata, where), f"{where}: fields", tensors)
    check(metadata.get("figures", {}), Named(Real(-1e9, 1e9)), f"{where}: figures", _REMEDY)
    network = PortraitMatte(**from_json(fields))
    if not 1 <= len(network.widths) <= 6:
        raise InputError(f"{where}: a portrait is not halved {len(network.widths) - 1} times; {_REMEDY}")
    return lambda: initial_shapes(network, _numbers(1, 256, 256, 3))


def framing_of(metadata: Mapping[str, Any]) -> str:
    """Returns how a codec's square holds the face: a name of FRAMINGS.

    Files that do not say it: what was trained here names its recipe, and other keypoint codecs are LivePortrait's.
    """
    told = CORPUS if "recipe" in metadata or "codec" not in metadata["fields"] else LIVE_PORTRAIT
    return metadata.get("framing", told)


def check_model(parts: Mapping[str, tuple[Any, Mapping[str, Any]]], where: str) -> None:
    """Raises InputError where face, audio and motion, each (parameters, metadata), do not go together."""
    moved = dynamics_width(parts["face"][1]["fields"])
    given = parts["motion"][1]["fields"].get("motion_dim", MOTION_DIM) - POSE_DIM
    if moved != given:
        raise InputError(
            f"{where}: face.safetensors is moved by {moved} numbers, motion.safetensors gives {given}; give the parts "
            "of one model"
        )
    heard = parts["audio"][0]["encoder"]["layer_norm"]["bias"].shape[0]
    wanted = parts["motion"][0]["transformer"]["null_audio"].shape[0]
    if heard != wanted:
        raise InputError(
            f"{where}: motion.safetensors hears {wanted} features, audio.safetensors gives {heard}; give the parts of "
            "one model"
        )


def check_lips(lips: tuple[Any, Mapping[str, Any]], motion: tuple[Any, Mapping[str, Any]], where: str) -> None:
    """Raises InputError where lips, (parameters, metadata), are of a codec that this motion does not move."""
    given = motion[1]["fields"].get("motion_dim", MOTION_DIM) - POSE_DIM
    if lips[1]["dynamics"] != given:
        raise InputError(
            f"{where}: lips.safetensors opens the mouth in {lips[1]['dynamics']} numbers, motion.safetensors gives "
            f"{given}; train it for this codec (configs/train_lips.py), or take it away"
        )


def check_moved(face: tuple[Any, Mapping[str, Any]], where: str) -> None:
    """Raises InputError for a codec, (parameters, metadata), that LivePortrait's motion does not move."""
    fields = face[1]["fields"]
    if "codec" not in fields or fields["decoder"].get("keypoints", KEYPOINTS) != KEYPOINTS:
        raise InputError(
            f"{where}: face.safetensors is no codec of LivePortrait's {KEYPOINTS} keypoints, which this motion is for; "
            "import LivePortrait's files too (configs/import_weights.py)"
        )


_BUILDERS = {
    "face": _face, "audio": _audio, "motion": _motion, "instrument": _instrument, "emotion": _emotion, "judge": _judge,
    "capp": _capp, "sync": _sync, "lips": _lips, "matte": _matte,
}  # fmt: skip
