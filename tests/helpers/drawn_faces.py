"""Plain drawn faces that the finder knows."""

import cv2
import numpy as np


def draw_face(image: np.ndarray, cx: float, cy: float, r: float) -> None:
    """A plain face of half-width `r` around (cx, cy), in place."""

    def ellipse(x, y, a, b, colour):
        centre, axes = (round(cx + x * r), round(cy + y * r)), (max(1, round(a * r)), max(1, round(b * r)))
        cv2.ellipse(image, centre, axes, 0, 0, 360, colour, -1, cv2.LINE_AA)

    ellipse(0, -0.25, 1.12, 1.25, (60, 40, 30))
    neck = (round(cx - 0.4 * r), round(cy + 0.8 * r)), (round(cx + 0.4 * r), round(cy + 1.7 * r))
    cv2.rectangle(image, *neck, (190, 145, 120), -1)
    ellipse(0, 0, 0.95, 1.25, (225, 180, 155))
    for side in (-1, 1):
        ellipse(side * 0.4, -0.18, 0.24, 0.15, (185, 140, 120))
        ellipse(side * 0.4, -0.15, 0.19, 0.10, (245, 245, 245))
        ellipse(side * 0.4, -0.15, 0.09, 0.09, (40, 30, 30))
        ellipse(side * 0.42, -0.42, 0.27, 0.06, (70, 45, 35))
    ellipse(0, 0.2, 0.13, 0.1, (190, 140, 120))
    ellipse(0, 0, 0.08, 0.25, (235, 195, 170))
    ellipse(0, 0.62, 0.33, 0.1, (165, 75, 75))


def picture(width: int, height: int, *faces: tuple[float, float, float]) -> np.ndarray:
    image = np.full((height, width, 3), 200, np.uint8)
    image[:, :, 0] = np.linspace(120, 220, width).astype(np.uint8)
    for face in faces:
        draw_face(image, *face)
    return cv2.GaussianBlur(image, (0, 0), 1.0)
