"""KeypointReader: the motion of a face, read from where its features lie and from patches around them.

In the place of LivePortrait's extractor at sizes of ours. A vector pooled over the image says little of where things
are and of a mouth's few pixels; an extractor that reads everything from it takes a long training to find them.

1. A trunk over the small image finds the keypoints' places, head pose and scale.
2. Patches of mouth, eyes with brows and face are cut from the whole image there, in the head's scale and roll.
3. They tell the canonical keypoints and the displacements of the expression.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.models.face_probe import ConvNormAct, PatchEncoder, Residual, patch_grid, soft_argmax
from vasa_jax.models.geometry import bilinear_sample
from vasa_jax.models.keypoint_motion import POSE_BINS, RawMotion
from vasa_jax.models.keypoints import pose_from_raw
from vasa_jax.models.layers import Dtype, average_pool, upsample

# Landmarks that the first keypoints are: any first few of them have lips and both eyes. Irises are there for gaze, jaw
# and brows for what moves them, nose and ears for the head's own shape.
GUIDES: tuple[str, ...] = (
    "inner_lip_2", "inner_lip_6", "outer_lip_0", "outer_lip_6", "eye_left_2", "eye_right_2",
    "outer_lip_3", "outer_lip_9", "iris_left", "iris_right", "jaw_8",
    *(f"eye_{side}_{i}" for side in ("left", "right") for i in (0, 4, 6)),
    *(f"brow_{side}_{i}" for side in ("left", "right") for i in (0, 4)),
    "nose_tip", "ear_left", "ear_right",
)  # fmt: skip
# Half sides of the patches in canonical units; an eye's holds the brow too.
MOUTH, EYE, FACE = 0.28, 0.22, 0.62
# Displacements of expressions and differences between people are of these sizes. A layer whose answers are of order one
# is as fast as its neighbours: without the factor one update of Adam moves a keypoint further than any smile.
EXPRESSION_SIZE, KEYPOINT_SIZE = 0.03, 0.1
_FAINT = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
_SPREAD = nn.initializers.normal(0.3 / KEYPOINT_SIZE)


class KeypointReader(nn.Module):
    """Reads faces (B, n, n, 3) in [0, 1], float32, n a multiple of 32 times `shrink`, with their `places`.

    `shrink`: the trunk sees images that much smaller. `widths`: of its maps. `patch`: side of patches in pixels.
    The keypoints are GUIDES, in their order, at least six.
    """

    keypoints: int = len(GUIDES)
    shrink: int = 2
    widths: tuple[int, ...] = (32, 48, 64, 96)
    patch: int = 40
    patch_widths: tuple[int, ...] = (24, 40, 48, 64)
    hidden: int = 192
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, image: Float[Array, "B H W 3"], train: bool = False) -> RawMotion:
        del train  # nothing in here differs in training
        batch, count = image.shape[0], self.keypoints
        names = GUIDES[:count]
        if not 6 <= count == len(names):
            raise ValueError(f"keypoints: {count}; a KeypointReader has 6 to {len(GUIDES)}")
        image = jnp.asarray(image, jnp.float32) * 2.0 - 1.0
        maps, coarse = self._trunk(average_pool(image, self.shrink))
        places = soft_argmax(nn.Conv(count, (1, 1), dtype=self.dtype, name="heat")(maps))

        still = jax.lax.stop_gradient(places)
        summary = ConvNormAct(16, kernel=1, dtype=self.dtype, name="summary")(coarse).reshape(batch, -1)
        summary = jnp.concatenate([summary.astype(jnp.float32), places.reshape(batch, -1)], -1)
        summary = nn.silu(nn.Dense(self.hidden, name="summary_hidden")(summary))
        raw = RawMotion(
            **{name: nn.Dense(POSE_BINS, name=f"fc_{name}")(summary) for name in ("pitch", "yaw", "roll")},
            translation=jnp.pad(nn.Dense(2, kernel_init=_FAINT, name="fc_t")(summary), ((0, 0), (0, 1))),
            scale=nn.Dense(1, kernel_init=_FAINT, bias_init=nn.initializers.ones, name="fc_scale")(summary),
            expression=jnp.zeros((batch, count, 3)),
            keypoints=jnp.zeros((batch, count, 3)),
            places=places,
        )

        # What is read from a patch does not train where it lies.
        pose = jax.lax.stop_gradient(pose_from_raw(raw))

        def cut(part: str, half: float, mirror: bool = False) -> Array:
            found = jnp.array([i for i, name in enumerate(names) if part in name])
            grid = patch_grid(still[:, found].mean(1), pose, half, self.patch, mirror)
            return bilinear_sample(image, grid).astype(self.dtype)

        def encode(name: str, patches: Array) -> Array:
            return PatchEncoder(self.patch_widths, 24, self.dtype, name=f"{name}_patch")(patches)

        # One encoder serves both eyes: the right one is mirrored.
        eyes = encode("eye", jnp.concatenate([cut("eye_left", EYE), cut("eye_right", EYE, True)]))
        eyes = nn.silu(nn.Dense(48, name="eye_hidden")(eyes)).reshape(2, batch, -1)
        mouth = nn.silu(nn.Dense(64, name="mouth_hidden")(encode("mouth", cut("lip", MOUTH))))
        face = nn.silu(nn.Dense(96, name="face_hidden")(encode("face", cut("", FACE))))
        seen = jnp.concatenate([mouth, eyes[0], eyes[1], face, summary, pose], -1)

        def points(name: str, size: float, bias) -> Array:
            hidden = nn.silu(nn.Dense(self.hidden, name=f"{name}_hidden")(seen))
            found = nn.Dense(3 * count, kernel_init=_FAINT, bias_init=bias, name=f"fc_{name}")(hidden)
            return size * found.reshape(batch, count, 3)

        return raw._replace(
            expression=points("exp", EXPRESSION_SIZE, nn.initializers.zeros),
            keypoints=points("kp", KEYPOINT_SIZE, _SPREAD),
        )

    def _trunk(self, x: Float[Array, "B h w 3"]) -> tuple[Float[Array, "B h4 w4 c"], Float[Array, "B h16 w16 c2"]]:
        """Maps at a quarter of the side, which know the coarser ones, and the coarsest ones."""
        stem, fine, middle, coarse = self.widths
        d = self.dtype
        x = ConvNormAct(stem, kernel=5, stride=2, dtype=d, name="stem")(x.astype(d))
        at_fine = Residual(dtype=d, name="fine_block")(ConvNormAct(fine, stride=2, dtype=d, name="fine")(x))
        at_middle = ConvNormAct(middle, stride=2, dtype=d, name="middle")(at_fine)
        at_middle = Residual(dtype=d, name="middle_block")(at_middle)
        at_coarse = ConvNormAct(coarse, stride=2, dtype=d, name="coarse")(at_middle)
        at_coarse = Residual(dtype=d, name="coarse_block")(at_coarse)
        merged = upsample(nn.Conv(middle, (1, 1), dtype=d, name="coarse_lateral")(at_coarse), (2, 2)) + at_middle
        merged = upsample(nn.Conv(fine, (1, 1), dtype=d, name="middle_lateral")(merged), (2, 2)) + at_fine
        return ConvNormAct(fine, dtype=d, name="merge")(merged), at_coarse
