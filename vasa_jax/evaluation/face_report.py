"""The report on a codec as tables that a person reads."""

from typing import Any

from vasa_jax.evaluation.report import figure_cell, figure_table, instrument_table

COLUMNS = {
    "same": "same person",
    "cross": "across people",
    "truth": "truth, measured",
    "portrait": "portrait, unmoved",
}
ROWS = {
    "psnr": ("PSNR, whole picture, dB", 2),
    "psnr_head": ("PSNR, head and body, dB", 2),
    "ssim": ("SSIM, whole picture", 3),
    "ssim_head": ("SSIM, head and body", 3),
    "identity": ("identity, cosine to the portrait", 3),
    "rotation_error_degrees": ("head rotation, error in degrees", 2),
    "distance_error": ("head distance, mean absolute error", 3),
    "gaze_mae_degrees": ("gaze, mean absolute error in degrees", 2),
    "lids_mae": ("lids, mean absolute error", 3),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "mouth_r": ("mouth opening, r per person", 3),
    "landmark_error_pixels": ("landmarks, error in pixels of 128", 2),
}
PROBE_COLUMNS = {
    "dynamics": "z_dyn",
    "pose": "z_pose",
    "truth": "exact dynamics",
    "shuffled": "z_dyn of another row",
    "chance": "chance",
    "wanted": "wanted of z_dyn",
}
# (title, digits, what is wanted of the dynamics).
PROBE_ROWS = {
    "identity": ("who it is, accuracy", 3, ""),
    "yaw": ("head yaw, R2", 3, "<= 0.1"),
    "pitch": ("head pitch, R2", 3, "<= 0.1"),
    "roll": ("head roll, R2", 3, "<= 0.1"),
    "rotation": ("mean of the three, R2", 3, "<= 0.1"),
    "mouth": ("mouth opening, R2", 3, ">= 0.8"),
    "gaze": ("gaze in the head, R2", 3, ">= 0.8"),
    "lids": ("lids, R2", 3, ">= 0.8"),
}
CHANGE_COLUMNS = {"pose": "only the pose changes", "dynamics": "only the dynamics change"}
LATENT_ROWS = {
    "dynamics": ("z_dyn moves, over what it moves when both change", 3),
    "rotation": ("z_pose turns, degrees", 2),
    "position": ("z_pose shifts, half pictures", 3),
}
PICTURE_ROWS = {
    "mouth": ("mouth opening", 4),
    "lids": ("lids", 3),
    "gaze": ("gaze in the head, degrees", 2),
    "rotation": ("head rotation, degrees", 2),
}


def face_markdown(report: dict[str, Any]) -> str:
    """The tables: the instrument's own errors first, then reenactment, probes and exchanges."""
    s, instrument = report["settings"], report["instrument"]
    pictures = {
        f"{source} {factor}": values
        for factor in CHANGE_COLUMNS
        for source, values in ((name, report["pictures"][name][factor]) for name in ("decoded", "true"))
    }
    picture_columns = {
        f"{source} {factor}": f"{title}, {source}"
        for factor, title in CHANGE_COLUMNS.items()
        for source in ("decoded", "true")
    }
    encoder, swapped = report["encoder"], report["swapped"]
    lines = [
        "# The codec on held-out people",
        "",
        f"{report['set']}: {s['people']} people in {s['stills']} broad stills each, seed {s['seed']}; head poses are "
        "drawn apart from the dynamics. Mean +- standard error over people.",
        "",
        "## The instrument's own errors on true renders",
        "",
        *instrument_table(instrument["here"], "these true pictures", instrument["training"]),
        "",
        f"These true pictures: {instrument['frames']} of {s['people']} people. "
        "Broad stills: when the instrument was trained.",
        "",
        "## True pictures drive the portrait",
        "",
        *figure_table(ROWS, COLUMNS, report["table"]),
        "",
        "Against the exact truth: the person itself in the driver's motion. Across people: the drivers are another "
        f"person's pictures. Identity of two different people: {figure_cell(report['different_people'], 3)}. The "
        f"codec's own pose encoder errs by {figure_cell(encoder['rotation_error'], 2)} degrees and "
        f"{figure_cell(encoder['position_error'], 3)} half pictures on the true ones. Sheet, by columns: portrait; "
        "own driver, which is the truth; decoded; another person's driver; decoded; the first driver's dynamics in "
        "another head pose, true; decoded from the two drivers' latents.",
        "",
        "## Linear probes on frozen latents",
        "",
        *_probe_table(report["probes"]),
        "",
        "Ridge regression. R2: fitted on other people in other motions. Accuracy: fitted on other motions of the same "
        "people, who keep their light and surroundings. Exact dynamics: the scene's own numbers in the place of the "
        "code, what a linear probe gets of perfect dynamics.",
        "",
        "## One factor changed at a time",
        "",
        *figure_table(LATENT_ROWS, CHANGE_COLUMNS, report["latents"]),
        "",
        f"{s['mixed']} true pictures per person with the dynamics of one still and the head pose of another. Separate "
        "latents: zero where the other factor changes.",
        "",
        *figure_table(PICTURE_ROWS, picture_columns, pictures),
        "",
        "What the instrument reads, mean absolute change. Decoded: the latents of two stills, exchanged. True: the "
        "same exchange, rendered; what it shows where nothing should change is the instrument's own error. Decoded "
        f"pictures with exchanged pose against the exact truth: PSNR {figure_cell(swapped['psnr'], 2)} dB, head and "
        f"body {figure_cell(swapped['psnr_head'], 2)} dB, SSIM {figure_cell(swapped['ssim'], 3)}.",
        "",
    ]
    return "\n".join(lines)


def _probe_table(probes: dict[str, dict[str, float]]) -> list[str]:
    lines = ["| | " + " | ".join(PROBE_COLUMNS.values()) + " |", "|---|" + "---|" * len(PROBE_COLUMNS)]
    for name, (title, digits, wanted) in PROBE_ROWS.items():
        cells = [
            f"{probes[column][name]:.{digits}f}" if name in probes[column] else ""
            for column in PROBE_COLUMNS
            if column != "wanted"
        ]
        lines.append(f"| {title} | " + " | ".join([*cells, wanted]) + " |")
    return lines
