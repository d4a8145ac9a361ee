"""Named sizes of the networks: name -> fields of the network.

Those of the codec are {"encoder": fields of VASAFaceEncoder, "decoder": fields of FaceDecoder}, of the keypoint codec
{"codec": "keypoint", "encoder", "decoder"}. Any size is a set of fields; these are the ones with a name. Plain values
only, so that a variant can be stored as JSON.
"""

from collections.abc import Mapping
from typing import Any

_SHARED = (
    "image_size", "volume", "warp_widths", "embedding_width", "embedding_map_width", "portrait_pixels", "groups",
)  # fmt: skip
_DECODER = ("width", "blocks", "up_widths", "shuffle", "pixel_blocks", "cubic_pixels")


def from_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a network as JSON gives them back, with tuples in the place of lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _variant(**fields: Any) -> dict[str, dict[str, Any]]:
    decoder = {name: fields[name] for name in _SHARED} | {name: fields.pop(name) for name in _DECODER}
    return {"encoder": fields, "decoder": decoder}


_PAPER = {
    "image_size": 512,
    "volume": (96, 16, 64),
    "stem": 64,
    "widths": (128, 256, 512),
    "pool_first": False,
    "blocks_3d": 6,
    "canonical_widths": (96, 192, 384, 768),
    "warp_widths": (256, 128, 64, 32),
    "embedding_width": 512,
    "embedding_map_width": 512,
    "width": 512,
    "blocks": 8,
    "up_widths": (256, 128, 64),
    "shuffle": 1,
    "portrait_pixels": False,
    "pixel_blocks": 0,
    "cubic_pixels": False,
    "groups": 32,
}

_512 = _PAPER | {
    "pool_first": True,
    "blocks_3d": 3,
    "canonical_widths": (96, 192, 384, 512),
    "width": 384,
    "blocks": 6,
    "up_widths": (256, 128),
    "shuffle": 2,
}

_256 = _512 | {
    "image_size": 256,
    "volume": (96, 16, 32),
    "canonical_widths": (96, 192, 384),
    "warp_widths": (256, 128, 64),
}


def _slim(stem: int, *widths: int, depth: int = 1) -> dict[str, Any]:
    """A residual network of `depth` basic blocks per stage; each stage halves the size."""
    return {
        "depths": (depth,) * len(widths),
        "widths": widths,
        "stem": stem,
        "strides": (2,) * len(widths),
        "stem_size": 3,
        "stem_pool": False,
    }


_DEMO_128 = {
    "image_size": 128,
    "volume": (24, 8, 32),
    "stem": 32,
    "widths": (48, 80),
    "pool_first": True,
    "blocks_3d": 2,
    "canonical_widths": (24, 32, 40),
    "warp_widths": (32, 24, 16),
    "embedding_width": 48,
    "embedding_map_width": 16,
    "dynamics_head_width": 24,
    "identity_resnet": _slim(16, 24, 32, 40, 48) | {"stem_stride": 2},
    "identity_size": 128,
    "pose_resnet": _slim(16, 24, 32, 48, 48) | {"stem_stride": 2},
    "pose_size": 128,
    "dynamics_resnet": _slim(16, 24, 32, 48, 80) | {"stem_stride": 1},
    "crop_size": 64,
    "crop_zoom": 2.2,
    "crop_centre": (0.0, 0.2, -0.23),
    "width": 80,
    "blocks": 3,
    "up_widths": (64,),
    "shuffle": 2,
    "portrait_pixels": False,
    "pixel_blocks": 0,
    "cubic_pixels": False,
    "groups": 8,
}

# Starts from a codec of the size above. Compared with _DEMO_128: larger appearance encoder, decoder and dynamics crop;
# a second pose-refinement network; portrait pixels with one refinement block.
_DEMO = _DEMO_128 | {
    "image_size": 256,
    "widths": (48, 80, 128),
    "correction_resnet": _slim(32, 64, 96, 128, 192, depth=2) | {"stem_stride": 2},
    "dynamics_resnet": _slim(16, 24, 32, 48, 80) | {"stem_stride": 2},
    "crop_size": 128,
    "width": 128,
    "blocks": 4,
    "up_widths": (96, 64),
    "portrait_pixels": True,
    "pixel_blocks": 1,
    "cubic_pixels": True,
}

_TINY = _DEMO_128 | {
    "image_size": 64,
    "volume": (16, 4, 16),
    "stem": 16,
    "widths": (16, 32),
    "blocks_3d": 1,
    "canonical_widths": (16, 32),
    "warp_widths": (32, 16),
    "embedding_width": 32,
    "identity_resnet": _slim(8, 16, 16) | {"stem_stride": 2},
    "identity_size": 32,
    "pose_resnet": _slim(8, 16, 16) | {"stem_stride": 2},
    "pose_size": 64,
    "dynamics_resnet": _slim(8, 16, 16) | {"stem_stride": 2},
    "crop_size": 32,
    "width": 32,
    "blocks": 1,
    "up_widths": (16,),
    "shuffle": 2,
}

# LivePortrait's sizes are the networks' defaults.
_KEYPOINT_512 = {
    "codec": "keypoint",
    "encoder": {"image_size": 512, "motion": {"keypoints": 21}},
    "decoder": {"keypoints": 21},
}

# The same codec at sizes of ours.
_KEYPOINT_DEMO = {
    "codec": "keypoint",
    "encoder": {
        "image_size": 256,
        "appearance": {"width": 24, "down_blocks": 3, "max_width": 128, "channels": 16, "depth": 8, "blocks_3d": 2},
        "guided_motion": True,
        "motion": {"keypoints": 24},
    },
    "decoder": {
        "keypoints": 24,
        "retargeting": False,
        "warp": {
            "width": 64, "maps": True,
            "field": {"compress": 1, "width": 22, "max_width": 160, "blocks": 3, "mask_size": 3},
        },
        "generator": {"width": 64, "blocks": 3, "out_width": 32, "norm_width": 16},
    },
}  # fmt: skip

_KEYPOINT_TINY = {
    "codec": "keypoint",
    "encoder": {
        "image_size": 64,
        "input_size": 64,
        "appearance": {"width": 4, "down_blocks": 3, "max_width": 16, "channels": 4, "depth": 4, "blocks_3d": 1},
        "guided_motion": True,
        "motion": {
            "keypoints": 6, "shrink": 1, "widths": (8, 16, 16, 24), "patch": 24, "patch_widths": (8, 16, 24),
            "hidden": 32,
        },
    },
    "decoder": {
        "keypoints": 6,
        "retargeting": False,
        "warp": {
            "width": 8, "maps": True,
            "field": {"compress": 1, "width": 4, "max_width": 8, "blocks": 2, "mask_size": 3},
        },
        "generator": {"width": 8, "blocks": 1, "out_width": 8, "norm_width": 4},
    },
}

FACE_VARIANTS: dict[str, dict[str, Any]] = {
    "face_512_paper": _variant(**_PAPER),  # MegaPortraits' widths
    "face_512": _variant(**_512),  # the default: half of the decoding work
    "face_256": _variant(**_256),
    "face_demo": _variant(**_DEMO),  # the shipped size
    "face_demo_128": _variant(**_DEMO_128),  # what it starts from: most of its networks, at half the side
    "keypoint_512": _KEYPOINT_512,  # LivePortrait's
    "keypoint_demo": _KEYPOINT_DEMO,  # slim, for the corpus
    "keypoint_tiny": _KEYPOINT_TINY,  # tests
    "face_tiny": _variant(**_TINY),  # tests
    # the same that sees the portrait's own pixels twice, as photo heads ask for
    "face_tiny_pixels": _variant(**_TINY | {"portrait_pixels": True, "pixel_blocks": 1, "cubic_pixels": True}),
}

# fmt: off
_WAV2VEC2 = {
    "conv_width": 512, "width": 768, "layers": 12, "heads": 12, "ff_width": 3072, "pos_kernel": 128, "pos_groups": 16,
    "conv_norm": "group", "conv_bias": False, "pre_norm": False, "waveform": "utterance",
}

AUDIO_VARIANTS: dict[str, dict] = {
    # wav2vec 2.0 base and HuBERT base (arXiv 2006.11477, 2106.07447): the same 94.37 M parameters
    "wav2vec2_base": _WAV2VEC2,
    # the LV-60 "large" layout: layer norm in every convolution, pre-norm transformer
    "wav2vec2_large": _WAV2VEC2 | {
        "width": 1024, "layers": 24, "heads": 16, "ff_width": 4096,
        "conv_norm": "layer", "conv_bias": True, "pre_norm": True,
    },
    # the shipped size: features up to the transformer depend on 400 samples only, and on their loudness
    "audio_demo": {
        "conv_width": 80, "width": 128, "layers": 2, "heads": 4, "ff_width": 256, "pos_kernel": 32, "pos_groups": 16,
        "conv_norm": "layer", "conv_bias": True, "pre_norm": True, "waveform": "scale",
    },
    # streams: bounded look-ahead, features of a stream equal those of a file; 2.4 M parameters
    "audio_stream": {
        "mels": 64, "width": 192, "kernel": 5, "dilations": (1, 1, 1, 2, 2, 4, 4, 8),
        "ahead": (1, 1, 1, 0, 0, 0, 0, 0), "expansion": 4,
    },
    # a quarter of its work, for CPUs and ablations; 0.6 M parameters
    "audio_stream_small": {
        "mels": 64, "width": 96, "kernel": 5, "dilations": (1, 1, 1, 2, 2, 4, 4, 8),
        "ahead": (1, 1, 1, 0, 0, 0, 0, 0), "expansion": 4,
    },
    "audio_stream_tiny": {
        "mels": 16, "width": 32, "kernel": 3, "dilations": (1, 2), "ahead": (1, 1), "expansion": 2,
    },
    "audio_tiny": {
        "conv_width": 16, "width": 32, "layers": 1, "heads": 2, "ff_width": 32, "pos_kernel": 8, "pos_groups": 4,
        "conv_norm": "layer", "conv_bias": True, "pre_norm": True, "waveform": "scale",
    },
}

MOTION_VARIANTS: dict[str, dict] = {
    # the paper's transformer: 8 layers, width 512, 8 heads; audio of wav2vec2-base
    "motion_base": {
        "width": 512, "layers": 8, "heads": 8, "ff_width": 2048, "audio_dim": 768, "window": 100, "previous": 10,
        "blinks": True,
    },
    # the shipped size, with the audio of audio_demo
    "motion_demo": {
        "width": 256, "layers": 8, "heads": 8, "ff_width": 1024, "audio_dim": 128, "window": 100, "previous": 10,
        "blinks": True,
    },
    "motion_tiny": {
        "width": 32, "layers": 2, "heads": 2, "ff_width": 32, "audio_dim": 32, "window": 12, "previous": 4,
        "blinks": True,
    },
}

CAPP_VARIANTS: dict[str, dict] = {
    # six layers as VASA-1 says; widths are ours, for the features of wav2vec2-base
    "capp_base": {"width": 512, "layers": 6, "sound_layers": 2, "heads": 8, "ff_width": 2048, "channels": 8},
    # the shipped size, on the features of audio_demo
    "capp_demo": {"width": 64, "layers": 6, "sound_layers": 2, "heads": 4, "ff_width": 128, "channels": 4},
    "capp_tiny": {"width": 16, "layers": 1, "sound_layers": 1, "heads": 2, "ff_width": 16, "channels": 2},
}

SYNC_VARIANTS: dict[str, dict] = {
    # the shipped size
    "sync_demo": {"widths": (8, 16, 24, 32), "narrow": 16, "width": 64, "code": 32},
    "sync_tiny": {"widths": (8, 8, 8), "narrow": 8, "width": 16, "code": 8},
}

LIPS_VARIANTS: dict[str, dict] = {
    # the shipped size
    "lips_demo": {"mels": 32, "width": 128, "kernel": 5, "ahead": (2, 2, 2)},
    # for hours of speech
    "lips_speech": {"mels": 32, "width": 192, "kernel": 5, "ahead": (2, 2, 1, 1), "dropout": 0.1},
    "lips_tiny": {"mels": 8, "width": 8, "kernel": 3, "ahead": (1, 1)},
}

MATTE_VARIANTS: dict[str, dict] = {
    # the shipped size
    "matte_demo": {"widths": (16, 32, 48, 64, 96, 128), "groups": 8},
    "matte_tiny": {"widths": (4, 8), "groups": 2},
}
# fmt: on
