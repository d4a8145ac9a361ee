"""What open motion generators need beside themselves to make a video: a keypoint codec, a portrait and a sound."""

import jax
import numpy as np
from drawn_faces import picture
from PIL import Image
from random_params import random_params
from sounds import speech, write_samples
from tiny_keypoint import MANY

from vasa_jax.models.keypoint_face import exported, init_keypoint_face
from vasa_jax.weights.safetensors_io import save_params


def complete(folder):
    """Adds weights/face.safetensors with LivePortrait's number of keypoints, me.png and one second of speech.wav."""
    variables = random_params(lambda key: init_keypoint_face(key, MANY))
    variables["batch_stats"] = jax.tree.map(lambda x: np.float32(np.abs(x) + 0.5), variables["batch_stats"])
    save_params(folder / "weights" / "face.safetensors", exported(variables), {"fields": MANY}, np.float32)
    Image.fromarray(picture(240, 200, (120, 90, 34))).save(folder / "me.png")
    write_samples(folder / "speech.wav", speech(1.0))
