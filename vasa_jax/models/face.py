"""Codecs from a named variant or from fields: VASAFaceEncoder and FaceDecoder of VASA-1, or the keypoint codec."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models.face_decoder import Decoded, FaceDecoder
from vasa_jax.models.face_encoder import Latents, VASAFaceEncoder
from vasa_jax.models.fields import frozen
from vasa_jax.models.keypoint_face import (
    KeypointFaceDecoder,
    KeypointFaceEncoder,
    init_keypoint_face,
    keypoint_codec,
)
from vasa_jax.models.layers import Dtype
from vasa_jax.models.portrait_pixels import Appearance
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.models.warp import START

__all__ = ["Decoded", "FaceDecoder", "Latents", "VASAFaceEncoder", "dynamics_width", "face_codec", "init_face"]

Variant = str | Mapping[str, Any]


def face_codec(
    variant: Variant, dtype: Dtype = jnp.float32
) -> tuple[VASAFaceEncoder | KeypointFaceEncoder, FaceDecoder | KeypointFaceDecoder]:
    """Builds encoder and decoder of a name in FACE_VARIANTS, or of {"encoder": fields, "decoder": fields}.

    Lists (as JSON gives them back) count as tuples. With "codec": "keypoint" it is the keypoint codec, whose encoder
    and decoder are called in the same way. `dtype` is that of the computation.
    """
    fields = FACE_VARIANTS[variant] if isinstance(variant, str) else variant
    if fields.get("codec") == "keypoint":
        return keypoint_codec(fields, dtype)
    encoder = VASAFaceEncoder(**frozen(fields["encoder"]), dtype=dtype)
    return encoder, FaceDecoder(**frozen(fields["decoder"]), dtype=dtype)


def dynamics_width(fields: Mapping[str, Any]) -> int:
    """Returns how many numbers move a face beside its pose, in a codec with these fields."""
    encoder, decoder = face_codec(fields)
    return encoder.dynamics_width if isinstance(encoder, VASAFaceEncoder) else 3 * decoder.keypoints


def init_face(key: jax.Array, variant: Variant) -> dict[str, Any]:
    """Draws parameters {"encoder": ..., "decoder": ...}, float32, each usable without the other."""
    encoder, decoder = face_codec(variant)
    if isinstance(encoder, KeypointFaceEncoder):
        return init_keypoint_face(key, FACE_VARIANTS[variant] if isinstance(variant, str) else variant)["params"]
    # Hundreds of threefry draws of different shapes take XLA minutes to compile on a CPU, these take seconds.
    key = jax.random.wrap_key_data(jnp.resize(jax.random.key_data(key), 4), impl="unsafe_rbg")
    encoder_key, decoder_key = jax.random.split(key)
    channels, depth, side = encoder.volume
    appearance = jnp.zeros((1, depth, side, side, channels))
    image = jnp.zeros((1, encoder.image_size, encoder.image_size, 3))
    if encoder.portrait_pixels:
        warp = jnp.zeros((1, depth, side, side, 3))
        appearance = Appearance(appearance, image, warp, jnp.asarray([IDENTITY_POSE]))
    latents = Latents(
        appearance=appearance,
        identity=jnp.zeros((1, START, START, encoder.embedding_width)),
        pose=jnp.asarray([IDENTITY_POSE]),
        dynamics=jnp.zeros((1, encoder.dynamics_width)),
    )
    return {
        "encoder": jax.jit(encoder.init)(encoder_key, image)["params"],
        "decoder": jax.jit(decoder.init)(decoder_key, *latents)["params"],
    }

