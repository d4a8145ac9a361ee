"""Conventions of the whole project: rates, sizes of the latents, units of the conditions, and signs of angles.

Coordinates are x right, y down, z into the scene, in [-1, 1] over the image. A pose is 9 numbers: the first two columns
of the rotation, log scale, tx, ty; p_image = s R p_canonical + t. Angles that a person reads are degrees: yaw is
positive where the nose (or the gaze) turns to image right, pitch where it turns down, roll is clockwise.
"""

import numpy as np

FPS = 25  # video frames per second
SAMPLE_RATE = 16_000  # Hz, mono
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS  # frame i covers samples [640 i, 640 (i + 1))

POSE_DIM = 9  # rotation (6), log scale, tx, ty
DYNAMICS_DIM = 128  # facial dynamics, z_dyn
MOTION_DIM = POSE_DIM + DYNAMICS_DIM  # what the transformer generates
IDENTITY_POSE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)

# Alphabetical: the order of the emotion condition.
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

JOYVASA_POSITIONS = ("constant", "sequence")  # what its two releases add to a window
SOLVERS = ("ddim", "dpmpp", "ancestral")  # of the sampler; dpmpp: DPM-Solver++(2M); ancestral: DDIM with eta = 1
SPEECH_SOURCES = ("espeak", "shipped")  # synthesised with espeakng-loader; the sentences that ship with the package
CODECS = ("opus", "mp3", "phone", "aac")  # that a voice may have passed through, corpus/voices/alteration.py
# How a codec's square holds the face: as the built-in corpus and shards do (data/face_crop.py), or by LivePortrait's
# rule (generation/landmark_crop.py).
FRAMINGS = CORPUS, LIVE_PORTRAIT = ("corpus", "live_portrait")
FACE_BACK_ENDS = ("haar", "litert", "mediapipe")  # preparation/face_backends/

# Parts of an image, in the order of a segmentation's numbers.
SEGMENTS = (
    "background", "skin", "brow", "lip", "mouth", "sclera", "iris", "teeth", "tongue", "hair", "cloth", "glasses",
)  # fmt: skip

# Points of a face, as labels name them. `left` and `right` are the image's, so `left` has x < 0 on a frontal face (the
# person's right). The jaw's contour runs from left to right. Those of eyes and lips run clockwise, as seen in the
# image, from their left corner: over the top, to the right corner, back along the bottom.
JAW_POINTS, BROW_POINTS, EYE_POINTS, NOSE_POINTS, OUTER_LIP_POINTS, INNER_LIP_POINTS = 17, 5, 8, 10, 12, 8
LANDMARKS: tuple[str, ...] = (
    *(f"jaw_{i}" for i in range(JAW_POINTS)),
    *(f"brow_{side}_{i}" for side in ("left", "right") for i in range(BROW_POINTS)),
    *(f"eye_{side}_{i}" for side in ("left", "right") for i in range(EYE_POINTS)),
    "iris_left", "iris_right",
    *(f"nose_bridge_{i}" for i in range(4)), "nose_tip",
    "nose_wing_left", "nose_base_left", "nose_base", "nose_base_right", "nose_wing_right",
    *(f"outer_lip_{i}" for i in range(OUTER_LIP_POINTS)),
    *(f"inner_lip_{i}" for i in range(INNER_LIP_POINTS)),
    "forehead", "cheek_left", "cheek_right", "ear_left", "ear_right",
)  # fmt: skip
LANDMARK_SET = f"vasa_jax.synthetic.{len(LANDMARKS)}"  # the name under which records hold LANDMARKS

GAZE_UNIT = 20.0  # degrees: brings the gaze condition to order one
DISTANCE_UNIT = 0.15  # of distance - 1

HISTORY = 50  # video frames before its window that a live stream hears
TAIL = 80  # samples after a frame that its last audio feature needs: 5 ms


def frame_count(samples: int) -> int:
    """Returns the number of video frames that `samples` samples span: ceil(samples / SAMPLES_PER_FRAME)."""
    return -(-samples // SAMPLES_PER_FRAME)


def rotation_matrices(pose: np.ndarray) -> np.ndarray:
    """Returns the rotations (..., 3, 3), float64, of poses (..., 9) or of their first six numbers (..., 6).

    Columns that are not quite orthonormal are repaired by Gram-Schmidt.
    """
    first = np.asarray(pose, np.float64)[..., 0:3]
    second = np.asarray(pose, np.float64)[..., 3:6]
    first = first / np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-8)
    second = second - (second * first).sum(-1, keepdims=True) * first
    second = second / np.maximum(np.linalg.norm(second, axis=-1, keepdims=True), 1e-8)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def head_angles(pose: np.ndarray) -> np.ndarray:
    """Returns yaw, pitch, roll (..., 3) in degrees of poses (..., 9); R = R_y(-yaw) R_x(pitch) R_z(roll)."""
    rotation = rotation_matrices(pose)
    yaw = np.arctan2(-rotation[..., 0, 2], rotation[..., 2, 2])
    pitch = np.arcsin(np.clip(-rotation[..., 1, 2], -1.0, 1.0))
    roll = np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def direction_of_angles(degrees: np.ndarray) -> np.ndarray:
    """Returns the unit vectors (..., 3) of yaw and pitch (..., 2) in degrees; 0, 0 is towards the camera, -z."""
    yaw, pitch = np.moveaxis(np.radians(np.asarray(degrees, np.float64)), -1, 0)
    return np.stack([np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)], axis=-1)


def angles_of_direction(direction: np.ndarray) -> np.ndarray:
    """Returns yaw and pitch (..., 2) in degrees of unit vectors (..., 3), the inverse of `direction_of_angles`."""
    x, y, z = np.moveaxis(np.asarray(direction, np.float64), -1, 0)
    return np.degrees(np.stack([np.arctan2(x, -z), np.arcsin(np.clip(y, -1.0, 1.0))], axis=-1))


def rotation_columns(degrees: np.ndarray) -> np.ndarray:
    """Returns the first two columns of the rotation, float32 (T, 6), of yaw, pitch, roll (T, 3) in degrees.

    The inverse of `head_angles`.
    """
    yaw, pitch, roll = np.radians(np.asarray(degrees, np.float64)).T
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(angle), np.sin(angle)) for angle in (yaw, pitch, roll))
    # The columns of R_y(-yaw) R_x(pitch) R_z(roll): the nose is along -z.
    first = (cy * cr - sy * sp * sr, cp * sr, sy * cr + cy * sp * sr)
    second = (-cy * sr - sy * sp * cr, cp * cr, -sy * sr + cy * sp * cr)
    return np.stack([*first, *second], axis=-1).astype(np.float32)
