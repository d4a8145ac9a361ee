"""Names and shapes of open files whose tensors are kept as published, in PyTorch's order.

JoyVASA's motion generator, Ditto's, SyncNet, I3D of Kinetics-400 in piergiaj's naming, Inception of FID, and
Deep3DFaceRecon's network.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from vasa_jax.models import face_model, inception
from vasa_jax.models.i3d import BLOCKS

Table = dict[str, tuple[int, ...]]

JOYVASA_AUDIO = "audio_encoder."  # its own HuBERT, in the naming of Hugging Face
_JOYVASA_LAYERS = 8
_JOYVASA_FEED_FORWARD = 4
_JOYVASA_POSITIONS = 600
_JOYVASA_TIME_ROWS = 501  # whatever the number of steps that it samples with
_DITTO_LAYERS = 8
_NORM = ("weight", "bias", "running_mean", "running_var")


def joyvasa_table(state: Mapping[str, np.ndarray]) -> Table:
    """Lists everything but the audio encoder; sizes come from the tensors of `state` that tell them.

    KeyError names the one that is missing.
    """
    motion, width = state["start_motion_feat"].shape[-1], state["audio_feature_map.weight"].shape[0]
    previous, audio = state["start_motion_feat"].shape[1], state["audio_feature_map.weight"].shape[-1]
    steps, window = state["diffusion_sched.betas"].shape[0], state["denoising_net.alignment_mask"].shape[0]
    inner = _JOYVASA_FEED_FORWARD * width
    table = {
        "start_audio_feat": (1, previous, width),
        "start_motion_feat": (1, previous, motion),
        "null_audio_feat": (1, 1, width),
        **_linear("audio_feature_map", audio, width),
        "denoising_net.alignment_mask": (window, window),
        "denoising_net.TE.pe": (1, _JOYVASA_TIME_ROWS, width),
        **_linear("denoising_net.diff_step_map.0", width, width),
        **_linear("denoising_net.diff_step_map.2", width, width),
        "denoising_net.PE.pe": (1, _JOYVASA_POSITIONS, width),
        **_linear("denoising_net.feature_proj", motion, width),
    }
    for i in range(_JOYVASA_LAYERS):
        table |= _decoder_layer(f"denoising_net.transformer.layers.{i}", width, inner)
    table |= _linear("denoising_net.motion_dec.0", width, width // 2)
    table |= _linear("denoising_net.motion_dec.2", width // 2, motion)
    schedule = ("betas", "alphas", "alpha_bars", "sigmas_flex", "sigmas_inflex")
    return table | {f"diffusion_sched.{name}": (steps,) for name in schedule}


def ditto_table(width: int = 512, motion: int = 265, conditions: int = 1103, frames: int = 80) -> Table:
    """Lists the motion decoder of version 0.4, without the rotary frequencies (see `DITTO_ROTARY`)."""
    table = {
        "null_cond_embed": (1, frames, width),
        "null_cond_hidden": (1, width),
        **_linear("time_mlp.1", width, 4 * width),
        **_linear("to_time_cond.0", 4 * width, width),
        **_linear("to_time_tokens.0", 4 * width, 2 * width),
        **_norm("norm_cond", width),
        **_linear("input_projection", 2 * motion, width),
    }
    for i in range(2):
        layer = f"cond_encoder.{i}"
        table |= _attention(f"{layer}.self_attn", width) | _feed_forward(layer, width, 2 * width)
        table |= _norm(f"{layer}.norm1", width) | _norm(f"{layer}.norm2", width)
    table |= _linear("cond_projection", conditions, width) | _norm("non_attn_cond_projection.0", width)
    table |= _linear("non_attn_cond_projection.1", width, width) | _linear("non_attn_cond_projection.3", width, width)
    for i in range(_DITTO_LAYERS):
        layer = f"seqTransDecoder.stack.{i}"
        table |= _decoder_layer(layer, width, 2 * width)
        for j in (1, 2, 3):
            table |= _linear(f"{layer}.film{j}.block.1", width, 2 * width)
    return table | _linear("final_layer", width, motion)


# One table of rotary frequencies, stored at every layer that uses it.
DITTO_ROTARY: Table = dict.fromkeys(
    ("rotary.freqs", *(f"cond_encoder.{i}.rotary.freqs" for i in range(2)),
     *(f"seqTransDecoder.stack.{i}.rotary.freqs" for i in range(_DITTO_LAYERS))),
    (256,),
)  # fmt: skip


def syncnet_table() -> Table:
    """Lists SyncNet (Chung and Zisserman 2016) as syncnet_v2.model has it."""
    audio = {0: (64, 1, 3, 3), 4: (192, 64, 3, 3), 8: (384, 192, 3, 3), 11: (256, 384, 3, 3), 14: (256, 256, 3, 3),
             18: (512, 256, 5, 4)}  # fmt: skip
    lips = {0: (96, 3, 5, 7, 7), 4: (256, 96, 1, 5, 5), 18: (512, 256, 1, 6, 6)}
    lips |= dict.fromkeys((8, 11, 14), (256, 256, 1, 3, 3))
    table: Table = {}
    for branch, kernels in (("aud", audio), ("lip", lips)):
        for place, shape in kernels.items():
            table |= {f"netcnn{branch}.{place}.weight": shape, f"netcnn{branch}.{place}.bias": shape[:1]}
            table |= _batch_norm(f"netcnn{branch}.{place + 1}", shape[0])
        table |= _linear(f"netfc{branch}.0", 512, 512) | _batch_norm(f"netfc{branch}.1", 512)
        table |= _linear(f"netfc{branch}.3", 512, 1024)
    return table


def i3d_table(classes: int = 400) -> Table:
    """Lists the inflated 3D ConvNet (Carreira and Zisserman 2017), widths of Inception v1."""
    table = _unit("Conv3d_1a_7x7", 3, 64, 7) | _unit("Conv3d_2b_1x1", 64, 64, 1) | _unit("Conv3d_2c_3x3", 64, 192, 3)
    width = 192
    for name, (b0, b1a, b1b, b2a, b2b, b3b) in BLOCKS.items():
        block = f"Mixed_{name}"
        table |= _unit(f"{block}.b0", width, b0, 1)
        table |= _unit(f"{block}.b1a", width, b1a, 1) | _unit(f"{block}.b1b", b1a, b1b, 3)
        table |= _unit(f"{block}.b2a", width, b2a, 1) | _unit(f"{block}.b2b", b2a, b2b, 3)
        table |= _unit(f"{block}.b3b", width, b3b, 1)
        width = b0 + b1b + b2b + b3b
    return table | {"logits.conv3d.weight": (classes, width, 1, 1, 1), "logits.conv3d.bias": (classes,)}


def inception_table() -> Table:
    """Lists Inception v3 as pt_inception-2015-12-05-6726825d.pth has it, the port of FID's graph."""
    table: Table = {}

    def unit(name: str, inputs: int, step: inception.Step) -> int:
        table[f"{name}.conv.weight"] = (step.width, inputs, *step.kernel)
        table.update(_batch_norm(f"{name}.bn", step.width))
        return step.width

    width = 3
    for step in inception.STEM:
        width = unit(step.name, width, step) if step.name else width
    for name, block in inception.BLOCKS.items():
        outputs = 0
        for branch in block.branches:
            inner = width
            for step in branch:
                steps = (step,) if isinstance(step, inception.Step) else step
                inner = sum(unit(f"{name}.{one.name}", inner, one) for one in steps)
            outputs += inner
        if block.pool == "halved":
            outputs += width
        else:
            outputs += unit(f"{name}.branch_pool", width, inception.Step("branch_pool", block.pool_width))
        width = outputs
    return table | _linear("fc", inception.FEATURES, inception.CLASSES)


def face_model_table() -> Table:
    """Lists Deep3DFaceRecon's network as its checkpoints have it, a ResNet-50 with a layer for each group."""

    def convolution(name: str, norm: str, inputs: int, outputs: int, size: int) -> Table:
        return {f"{name}.weight": (outputs, inputs, size, size), **_batch_norm(norm, outputs)}

    table, width = convolution("backbone.conv1", "backbone.bn1", 3, face_model.WIDTHS[0], 7), face_model.WIDTHS[0]
    for stage, (depth, inner) in enumerate(zip(face_model.DEPTHS, face_model.WIDTHS, strict=True), start=1):
        outputs = face_model.EXPANSION * inner
        for i in range(depth):
            block = f"backbone.layer{stage}.{i}"
            sizes = ((width, inner, 1), (inner, inner, 3), (inner, outputs, 1))
            for number, shape in enumerate(sizes, start=1):
                table |= convolution(f"{block}.conv{number}", f"{block}.bn{number}", *shape)
            if i == 0:
                table |= convolution(f"{block}.downsample.0", f"{block}.downsample.1", width, outputs, 1)
            width = outputs
    for number, size in enumerate(face_model.GROUPS.values()):
        table |= {f"final_layers.{number}.weight": (size, width, 1, 1), f"final_layers.{number}.bias": (size,)}
    return table


def difference(found: Mapping[str, np.ndarray], table: Mapping[str, Iterable[int]]) -> str:
    """Names the first key that is missing or has another shape, or one that is not in the table; else empty."""
    for name, shape in table.items():
        if name not in found:
            return f"no tensor '{name}'"
        if found[name].shape != tuple(shape):
            return f"'{name}' has shape {found[name].shape}, not {tuple(shape)}"
    unknown = [name for name in found if name not in table]
    return f"unknown tensor '{unknown[0]}'" if unknown else ""


def _linear(name: str, inputs: int, outputs: int) -> Table:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> Table:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _batch_norm(name: str, width: int) -> Table:
    return {f"{name}.{kind}": (width,) for kind in _NORM}


def _attention(name: str, width: int) -> Table:
    return {
        f"{name}.in_proj_weight": (3 * width, width),
        f"{name}.in_proj_bias": (3 * width,),
        **_linear(f"{name}.out_proj", width, width),
    }


def _feed_forward(layer: str, width: int, inner: int) -> Table:
    return _linear(f"{layer}.linear1", width, inner) | _linear(f"{layer}.linear2", inner, width)


def _decoder_layer(layer: str, width: int, inner: int) -> Table:
    table = _attention(f"{layer}.self_attn", width) | _attention(f"{layer}.multihead_attn", width)
    table |= _feed_forward(layer, width, inner)
    for i in (1, 2, 3):
        table |= _norm(f"{layer}.norm{i}", width)
    return table


def _unit(name: str, inputs: int, outputs: int, size: int) -> Table:
    return {f"{name}.conv3d.weight": (outputs, inputs, *(size,) * 3), **_batch_norm(f"{name}.bn", outputs)}
