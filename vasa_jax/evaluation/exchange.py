"""What moves when one factor of a scene is exchanged and the other is not: the test of separate latents.

Everything compares three stills of one person: `here` (pose 1, dynamics 1), `there` (pose 2, dynamics 2) and `mixed`
(pose 2, dynamics 1). From here to mixed only the pose changes, from there to mixed only the dynamics.
"""

import numpy as np

from vasa_jax.conventions import POSE_DIM
from vasa_jax.evaluation import measures
from vasa_jax.evaluation.instrument import Measurements

OPEN_LIDS = 0.4  # of the mean lid opening; below, there is no gaze to be seen

Changes = dict[str, dict[str, float]]


def latent_changes(here: np.ndarray, there: np.ndarray, mixed: np.ndarray) -> Changes:
    """{what changes: {latent: how far it moves}} of pose and dynamics codes (K, 137) of the three stills.

    dynamics: root mean square distance over that from here to there, where both factors change. rotation: degrees;
    position: in half pictures.
    """
    both = _distance(here[:, POSE_DIM:], there[:, POSE_DIM:])

    def change(before: np.ndarray) -> dict[str, float]:
        return {
            "dynamics": _distance(before[:, POSE_DIM:], mixed[:, POSE_DIM:]) / max(both, 1e-12),
            "rotation": float(measures.rotation_error_degrees(before, mixed).mean()),
            "position": float(np.linalg.norm(before[:, 7:9] - mixed[:, 7:9], axis=-1).mean()),
        }

    return {"pose": change(here), "dynamics": change(there)}


def picture_changes(
    here: Measurements, there: Measurements, mixed: Measurements, lids_here: np.ndarray, lids_there: np.ndarray
) -> Changes:
    """{what changes: {figure: mean absolute change}} of what the instrument reads in K pictures of each kind.

    mouth and lids: of the opening; gaze: degrees in the head's own frame, where both true lid openings (K, 2) are
    open; rotation: degrees.
    """

    def change(before: Measurements, lids: np.ndarray) -> dict[str, float]:
        seen = np.minimum(lids, lids_here).mean(-1) > OPEN_LIDS
        turned = np.abs(measures.gaze_in_head(before.gaze, before.pose) - measures.gaze_in_head(mixed.gaze, mixed.pose))
        return {
            "mouth": float(np.abs(before.mouth - mixed.mouth).mean()),
            "lids": float(np.abs(before.lids - mixed.lids).mean()),
            "gaze": float(turned[seen].mean()) if seen.any() else float("nan"),
            "rotation": float(measures.rotation_error_degrees(before.pose, mixed.pose).mean()),
        }

    return {"pose": change(here, lids_here), "dynamics": change(there, lids_there)}


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(np.asarray(a, np.float64) - b).sum(-1).mean()))
