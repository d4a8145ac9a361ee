"""Names of the face's points and parts that labels speak of.

`left` and `right` are the image's, so `left` has x < 0 on a frontal face (the person's right). The jaw's contour
runs from left to right. Those of eyes and lips run clockwise, as seen in the image, from their left corner: over the
top, to the right corner, back along the bottom.
"""

# Parts of an image, in the order of a segmentation's numbers.
SEGMENTS = (
    "background", "skin", "brow", "lip", "mouth", "sclera", "iris", "teeth", "tongue", "hair", "cloth", "glasses",
)  # fmt: skip

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
