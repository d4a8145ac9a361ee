"""The keypoint codec: KeypointFaceEncoder and KeypointFaceDecoder, and their construction from fields.

The contract is that of the volume codec. Of a portrait: appearance, identity, pose and dynamics; of a driving image:
pose and dynamics. Here the identity is the canonical keypoints, and the dynamics are the 3 K displacements of the
expression. LivePortrait's networks and widths (its section 3) are the default.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models.face_decoder import Decoded
from vasa_jax.models.face_encoder import Latents
from vasa_jax.models.fields import frozen
from vasa_jax.models.keypoint_appearance import AppearanceFeatureExtractor
from vasa_jax.models.keypoint_detectors import SeparateMotionExtractor
from vasa_jax.models.keypoint_generator import Generator
from vasa_jax.models.keypoint_layers import fold_batch_norms
from vasa_jax.models.keypoint_motion import MotionExtractor, RawMotion
from vasa_jax.models.keypoint_motion_field import WarpingNetwork
from vasa_jax.models.keypoint_reader import KeypointReader
from vasa_jax.models.keypoint_retargeting import EYE_WIDTHS, LIP_WIDTHS, STITCHING_WIDTHS, KeypointMLP
from vasa_jax.models.keypoints import add_offsets, pose_from_raw, posed_keypoints
from vasa_jax.models.layers import Dtype, average_pool, resized


class KeypointAppearance(NamedTuple):
    """The appearance of a portrait, as the decoder needs it."""

    volume: Float[Array, "B D h w C"]  # in the portrait's own view, compute dtype
    keypoints: Float[Array, "B K 3"]  # the portrait's, posed and with its expression, float32


class KeypointFaceEncoder(nn.Module):
    """Encodes faces in a square crop, [0, 1]: their appearance and their motion.

    `image_size`: side of the crop; `input_size`: side of what the networks see. `separate_motion`: the pair of
    face-vid2vid in place of one motion extractor. `guided_motion`: a `KeypointReader` in its place. `angles`: what its
    angles mean, see `pose_from_raw`. `appearance` and `motion`: fields of the networks.
    `dtype` is the appearance's: motion is always read in float32, its rounding would be seen as jitter.
    """

    image_size: int = 512
    input_size: int = 256
    separate_motion: bool = False
    guided_motion: bool = False
    angles: str = "live_portrait"
    appearance: Mapping[str, Any] = FrozenDict()
    motion: Mapping[str, Any] = FrozenDict()
    dtype: Dtype = jnp.float32

    def setup(self):
        self.appearance_feature_extractor = AppearanceFeatureExtractor(**self.appearance, dtype=self.dtype)
        self.motion_extractor = motion_network(self.separate_motion, self.guided_motion)(**self.motion)

    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> Latents:
        """Encodes, as `encode` does."""
        return self.encode(image, train)

    def encode(self, image: Float[Array, "B H W 3"], train: bool = False) -> Latents:
        """Encodes all of a portrait: `Latents` with a `KeypointAppearance`."""
        image = self._seen(image)
        raw = self.motion_extractor(image, train)
        pose = pose_from_raw(raw, self.angles)
        volume = self.appearance_feature_extractor(image, train)
        keypoints = posed_keypoints(raw.keypoints, pose, raw.expression)
        return Latents(KeypointAppearance(volume, keypoints), raw.keypoints, pose, _flat(raw.expression))

    def encode_motion(
        self, image: Float[Array, "B H W 3"], train: bool = False
    ) -> tuple[Float[Array, "B 9"], Float[Array, "B Z"]]:
        """Reads (pose, dynamics) of driving images; Z = 3 K."""
        raw = self.read(image, train)
        return pose_from_raw(raw, self.angles), _flat(raw.expression)

    def read(self, image: Float[Array, "B H W 3"], train: bool = False) -> RawMotion:
        """Returns what the motion extractor says, unchanged."""
        return self.motion_extractor(self._seen(image), train)

    def lift(self, image: Float[Array, "B H W 3"], train: bool = False) -> Float[Array, "B D h w C"]:
        """Returns the appearance volume of portraits, in their own view."""
        return self.appearance_feature_extractor(self._seen(image), train)

    def read_keypoints(self, image: Float[Array, "B H W 3"]) -> Float[Array, "B K 3"]:
        """Returns where the keypoints of images lie, posed and with their expression."""
        raw = self.read(image)
        return posed_keypoints(raw.keypoints, pose_from_raw(raw, self.angles), raw.expression)

    def _seen(self, image: Array) -> Array:
        factor, rest = divmod(image.shape[1], self.input_size)
        return average_pool(image, factor) if rest == 0 else resized(image, self.input_size)


class KeypointFaceDecoder(nn.Module):
    """Draws a portrait in another pose and expression. `warp` and `generator`: fields of the networks.

    `retargeting`: whether there are networks for stitching, lips and eyes.
    """

    keypoints: int = 21
    retargeting: bool = True
    warp: Mapping[str, Any] = FrozenDict()
    generator: Mapping[str, Any] = FrozenDict()
    dtype: Dtype = jnp.float32

    def setup(self):
        self.warping_module = WarpingNetwork(self.keypoints, **self.warp, dtype=self.dtype)
        self.spade_generator = Generator(**self.generator, dtype=self.dtype)
        if self.retargeting:
            self.stitching = KeypointMLP(STITCHING_WIDTHS, 3 * self.keypoints + 2)
            self.lip = KeypointMLP(LIP_WIDTHS, 3 * self.keypoints)
            self.eye = KeypointMLP(EYE_WIDTHS, 3 * self.keypoints)

    def __call__(
        self,
        appearance: KeypointAppearance,
        identity: Float[Array, "#B K 3"],
        pose: Float[Array, "B 9"],
        dynamics: Float[Array, "B Z"],
        train: bool = False,
    ) -> Decoded:
        """Draws the portrait in these poses with these expressions; one portrait serves any number of them.

        The image is the whole crop: the matte is 1.
        """
        driven = posed_keypoints(identity, pose, dynamics.reshape(*dynamics.shape[:-1], -1, 3))
        if self.is_initializing() and self.retargeting:
            source = jnp.zeros_like(driven)
            self.stitch(source, driven)
            self.retarget_lips(source, jnp.zeros((len(driven), 2)))
            self.retarget_eyes(source, jnp.zeros((len(driven), 3)))
        rgb = self.draw(appearance, driven, train)
        return Decoded(rgb, jnp.ones_like(rgb[..., :1]))

    def draw(
        self, appearance: KeypointAppearance, driven: Float[Array, "B K 3"], train: bool = False
    ) -> Float[Array, "B H W 3"]:
        """Draws the portrait, in [0, 1], with its keypoints moved to `driven`."""
        features, _ = self.warping_module(appearance.volume, driven, appearance.keypoints, train)
        return self.spade_generator(features)

    def stitch(self, source: Float[Array, "B K 3"], driven: Float[Array, "B K 3"]) -> Float[Array, "B K 3"]:
        """Adjusts driven keypoints so that shoulders and the crop's edge stay where they are in the portrait."""
        return add_offsets(driven, self.stitching(jnp.concatenate([_flat(source), _flat(driven)], -1)))

    def retarget_lips(self, source: Float[Array, "B K 3"], openness: Float[Array, "B 2"]) -> Float[Array, "B K 3"]:
        """Finds displacements that open the lips from openness[:, 0] to openness[:, 1] (height over width)."""
        return self.lip(jnp.concatenate([_flat(source), openness], -1)).reshape(source.shape)

    def retarget_eyes(self, source: Float[Array, "B K 3"], openness: Float[Array, "B 3"]) -> Float[Array, "B K 3"]:
        """Finds displacements that bring eyes of openness left, right to openness[:, 2] (height over width)."""
        return self.eye(jnp.concatenate([_flat(source), openness], -1)).reshape(source.shape)


def motion_network(separate: bool, guided: bool) -> type[nn.Module]:
    """Returns the network that `separate_motion` and `guided_motion` of a `KeypointFaceEncoder` ask for."""
    if guided:
        return KeypointReader
    return SeparateMotionExtractor if separate else MotionExtractor


def keypoint_codec(
    fields: Mapping[str, Any], dtype: Dtype = jnp.float32
) -> tuple[KeypointFaceEncoder, KeypointFaceDecoder]:
    """Builds encoder and decoder of {"encoder": fields, "decoder": fields}; `dtype` of compute.

    Lists (as JSON gives them back) count as tuples.
    """
    encoder = KeypointFaceEncoder(**frozen(fields["encoder"]), dtype=dtype)
    return encoder, KeypointFaceDecoder(**frozen(fields["decoder"]), dtype=dtype)


def init_keypoint_face(key: jax.Array, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Draws fresh variables {"params": {"encoder", "decoder"}, "batch_stats": the same}, float32."""
    encoder, decoder = keypoint_codec(fields)
    # Hundreds of threefry draws of different shapes take XLA minutes to compile on a CPU, these take seconds.
    key = jax.random.wrap_key_data(jnp.resize(jax.random.key_data(key), 4), impl="unsafe_rbg")
    encoder_key, decoder_key = jax.random.split(key)
    image = jnp.zeros((1, encoder.image_size, encoder.image_size, 3))
    latents, first = jax.jit(encoder.init_with_output)(encoder_key, image)
    latents = jax.tree.map(jnp.zeros_like, latents)._replace(pose=jnp.asarray([IDENTITY_POSE]))
    second = jax.jit(decoder.init)(decoder_key, *latents)
    return {kind: {"encoder": first[kind], "decoder": second[kind]} for kind in ("params", "batch_stats")}


def exported(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"encoder", "decoder"}, each usable without the other, with running statistics folded in."""
    params, statistics = variables["params"], variables["batch_stats"]
    return {part: fold_batch_norms(params[part], statistics[part]) for part in params}


def _flat(keypoints: Float[Array, "B K 3"]) -> Float[Array, "B Z"]:
    return keypoints.reshape(*keypoints.shape[:-2], -1)

