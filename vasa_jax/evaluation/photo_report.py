"""The tables of `evaluate_photos`."""

from __future__ import annotations

from typing import Any

from vasa_jax.evaluation.report import Rows, cell, markdown_table, metrics_table
from vasa_jax.preparation.report import plain_text

COLUMNS = {
    "model": "this codec",
    "against": "beside it",
    "truth": "photo head (truth)",
    "portrait": "portrait, unmoved",
}
CLIP_COLUMNS = {name: COLUMNS[name] for name in ("model", "against", "portrait")} | {
    "encoder": "this codec, motion by its encoder alone"
}
FIXED: Rows = {
    "identity": ("identity: distance of dlib's descriptor (one person < 0.45)", 3),
    "identity_turned": ("identity, portraits turned 20 degrees and more", 3),
    "nearest_training": ("distance to the nearest face that trained the codec", 3),
    "sharpness": ("sharpness of the face over the portrait's", 2),
    "truth_fine_r": ("fine detail of the face, r with the truth", 3),
    "truth_psnr": ("PSNR against the truth, whole, dB", 2),
    "truth_psnr_face": ("PSNR against the truth, face, dB", 2),
    "mouth_size": ("mouth, spread over the true one", 2),
    "mouth_r": ("mouth, r with the true one", 3),
    "lids_size": ("lids, spread over the true one", 2),
    "lids_r": ("lids, r with the true one", 3),
    "deepest_blink": ("deepest blink, of the open eye", 2),
    "asked_mouth_r": ("mouth, r with what was asked", 3),
    "asked_lids_r": ("lids, r with what was asked", 3),
    "gaze_r": ("gaze, yaw, r with the true one", 3),
    "turn_error": ("head turn about its mean, error in degrees", 2),
    "flicker_over_truth": ("flicker over the truth's", 2),
    "background": ("change of the background, of 255", 2),
    "faces": ("frames with a face", 3),
}
SPEECH: Rows = {
    "identity": FIXED["identity"],
    "sharpness": FIXED["sharpness"],
    "mouth_spread": ("mouth opening, spread", 4),
    "deepest_blink": FIXED["deepest_blink"],
    "flicker": ("flicker, of 255", 2),
    "background": FIXED["background"],
    "faces": FIXED["faces"],
}
CLIPS: Rows = {
    "psnr": ("PSNR, whole, dB", 2),
    "psnr_face": ("PSNR, face, dB", 2),
    "psnr_mouth": ("PSNR, mouth, dB", 2),
    "psnr_eyes": ("PSNR, eyes, dB", 2),
    "ssim": ("SSIM, whole", 3),
    "ssim_face": ("SSIM, face", 3),
    "fine_r": ("fine detail of the face, r", 3),
}
GROUP_FIGURES = {"identity": 3, "sharpness": 2, "mouth_size": 2, "lids_size": 2, "background": 2, "faces": 3}


def photos_markdown(report: dict[str, Any]) -> str:
    """Writes the tables: fixed motion, speech, clips, groups, and what was left out."""
    asked = report["asked"]
    lines = [
        "# Photographs, moved", "",
        f"{report['photographs']} photographs, {report['with_truth']} with an exact truth. This codec: "
        f"{report['checkpoint']}; beside it: {report['against']}.", "",
        *(f"{note}." for note in report["notes"]), *[""] * bool(report["notes"]),
        f"## Fixed motion ({asked['frames']} frames, spread of yaw {asked['yaw_degrees']:.1f} degrees"
        + (f", of the mouth {asked['mouth']:.3f}" if "mouth" in asked else "") + ")", "",
        *metrics_table(FIXED, COLUMNS, report["fixed"]), "",
        "Mean +- standard error over photographs. The truth is a photo head fitted to the photograph, drawn in the "
        "same motion and read by the same landmarks.", "",
        "## Generated speech", "",
        *metrics_table(SPEECH, {name: COLUMNS[name] for name in ("model", "against")}, report["speech"]), "",
    ]  # fmt: skip
    if report["clips"]:
        lines += [
            f"## {len(report['clips']['clips'])} real clips, driven by themselves", "",
            *metrics_table(CLIPS, CLIP_COLUMNS, report["clips"]["table"]), "",
        ]  # fmt: skip
    if report["groups"]:
        lines += ["## Groups (this codec, fixed motion)", "", *_groups(report["groups"]), ""]
    if report["left_out"]:
        left = [plain_text(f"{name}: {why}") for name, why in report["left_out"].items()]
        lines += ["## Left out", "", *(f"* {line}" for line in left), ""]
    order = "the widest mouth, a shut eye, the furthest turn"
    return "\n".join([*lines, f"sheet.png: the portrait, then truth, this codec, the one beside it in {order}.", ""])


def _groups(groups: dict[str, dict[str, Any]]) -> list[str]:
    known = [name for name in GROUP_FIGURES if any(name in v for values in groups.values() for v in values.values())]
    rows = [
        [
            plain_text(f"{name}: {value}"), str(figures["photographs"]),
            *(cell(figures.get(k), GROUP_FIGURES[k]) for k in known),
        ]
        for name, values in groups.items()
        for value, figures in values.items()
    ]  # fmt: skip
    return markdown_table(["", "photographs", *(FIXED[k][0] for k in known)], rows)
