"""A codec of a few products in the place of the networks, so that stage 1's code runs and compiles in no time."""

import jax.numpy as jnp
from tiny_face import add_variant

from vasa_jax.losses.perceptual import FeatureJudge, Judges
from vasa_jax.models.face import Decoded, Latents
from vasa_jax.models.geometry import rows_for
from vasa_jax.training.tasks import face

N = 32


def colour(image):
    return image.mean((1, 2))


class Encoder:
    """Latents are multiples of a picture's mean colour."""

    image_size = N

    def apply(self, variables, image, *rest, method):
        if method == "crop":
            return image
        p, mean = variables["params"], colour(image)
        if method == "encode":
            pose, dynamics = self.apply(variables, image, method="encode_motion")
            return Latents(*self.apply(variables, image, pose, dynamics, method="encode_appearance"), pose, dynamics)
        if method == "encode_appearance":
            pose, dynamics = rest
            canonical = mean - 0.1 * pose[:, :3] - 0.2 * dynamics
            return canonical[:, None, None, None], mean[:, None, None]
        pose, dynamics = p["pose_net"]["factor"] * jnp.tile(mean, (1, 3)), p["dynamics_net"]["factor"] * mean
        return {"encode_pose": pose, "encode_crop": dynamics, "encode_motion": (pose, dynamics)}[method]


class Decoder:
    """One colour over the whole picture, another share of each latent."""

    def apply(self, variables, appearance, identity, pose, dynamics):
        p = variables["params"]
        appearance, identity = (rows_for(x, len(pose)) for x in (appearance, identity))
        shade = appearance[:, 0, 0, 0] + 0.3 * identity[:, 0, 0] + 0.5 * pose[:, :3] + 0.7 * dynamics
        rgb = jnp.broadcast_to(0.2 * shade[:, None, None], (len(shade), N, N, 3))
        return Decoded(rgb, jnp.full((*rgb.shape[:3], 1), p["matte"]))


PARAMS = {
    "encoder": {"pose_net": {"factor": jnp.full(1, 0.4)}, "dynamics_net": {"factor": jnp.full(1, 0.8)}},
    "decoder": {"matte": jnp.full(1, 0.6)},
}
JUDGES = Judges(
    {"features": {}, "identity": {}},
    {"features": FeatureJudge(lambda p, x: [x], (1.0,), scales=1)},
    lambda p, x: colour(x) - 0.3,
)


def use_stub(monkeypatch):
    """Makes the stub the codec of `FaceTask` for one test, under the name `face_least`."""
    add_variant(monkeypatch)
    monkeypatch.setattr(face, "face_codec", lambda variant, dtype: (Encoder(), Decoder()))
    monkeypatch.setattr(face, "init_face", lambda key, variant: PARAMS)
