"""Which audio encoder a file's fields describe."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from vasa_jax.models.audio import AudioEncoder
from vasa_jax.models.layers import Dtype
from vasa_jax.models.streaming_audio import StreamingAudioEncoder
from vasa_jax.models.variants import from_json

AnyAudioEncoder = AudioEncoder | StreamingAudioEncoder


def audio_encoder_class(fields: Mapping[str, Any]) -> type[nn.Module]:
    """Returns the class that fields are of: only the streaming encoder has dilations."""
    return StreamingAudioEncoder if "dilations" in fields else AudioEncoder


def audio_encoder(fields: Mapping[str, Any], dtype: Dtype = jnp.float32) -> AnyAudioEncoder:
    """Builds the audio encoder of fields, lists among them as JSON gives them back."""
    return audio_encoder_class(fields)(**from_json(fields), dtype=dtype)
