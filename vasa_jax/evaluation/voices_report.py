"""The report of job `evaluate_voices` for people."""

from typing import Any

COLUMNS = {"own": "own sound", "shuffled": "another clip's sound", "loudness": "loudness of the own sound"}
ROWS = {
    "r": ("mouth opening, r", 3),
    "r_at_offset": ("mouth opening, r at the best offset", 3),
    "offset": ("best offset, frames (+ is late)", 2),
    "offset_size": ("best offset, absolute, frames", 2),
    "r_lips": ("against the height of the lips, r", 3),
}


def voices_markdown(report: dict[str, Any]) -> str:
    """The tables: pooled, then per clip, then what was not used."""
    controls, clips, known = report["controls"], report["clips"], report["instrument"]
    lines = ["# Real voices", ""]
    if {"mouth_r", "mouth_mae"} <= set(known):
        lines += [
            f"The instrument on true renders: mouth opening r {known['mouth_r']:.3f}, mean absolute error "
            f"{known['mouth_mae']:.4f}. The real mouth comes from landmarks (config.prepare.analyzer), whose own error "
            "on drawn heads job label_accuracy measures.",
            "",
        ]
    gain, beaten = report["gain"], report["beaten"]
    how = f"hop {controls['hop']}, look-ahead {controls['look_ahead']}" if controls["hop"] else "whole windows"
    lines += [
        f"{len(clips)} clips of {report['videos']} videos drive {report['heads']} held-out heads; {how}, "
        f"{controls['steps']} steps of {controls['solver']}, audio guidance {controls['audio_guidance']}, seed "
        f"{controls['seed']}.",
        "",
        f"Own sound over another clip's: r {gain['mean']:+.3f} +- {gain['error']:.3f}; it is the better one in "
        f"{beaten['mean']:.0%} +- {beaten['error']:.0%} of the pairs (chance: 50 %).",
        "",
        "| | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|---|---|",
    ]
    for name, (title, digits) in ROWS.items():
        cells = [_spread(report["table"][name][column], digits) for column in COLUMNS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    pooled = [f"{report['pooled'][column]:.3f}" for column in COLUMNS]
    lines += [
        f"| mouth opening, r over all frames, each clip about its mean | {' | '.join(pooled)} |",
        "",
        "Mean +- standard error over videos. A best offset is searched over 12 frames either way, which finds a larger "
        "r by chance too: compare it with the other sound's.",
        "",
        "## Per clip",
        "",
        "| clip | seconds | r | another's | loudness | best offset | r there | another's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in clips:
        own, shuffled = row["own"], row["shuffled"]
        lines.append(
            f"| {row['name']} | {row['seconds']:.1f} | {own['r']:.3f} | {shuffled['r']:.3f} | "
            f"{row['loudness']['r']:.3f} | {own['offset']:+.0f} | {own['r_at_offset']:.3f} | "
            f"{shuffled['r_at_offset']:.3f} |"
        )
    if report["none"]:
        lines += ["", "## Videos that gave no clip", ""]
        lines += [f"* {name}: {reason}" for name, reason in report["none"].items()]
    return "\n".join([*lines, "", "curves.png shows both openings of every clip.", ""])


def _spread(value: dict[str, float], digits: int) -> str:
    return f"{value['mean']:.{digits}f} +- {value['error']:.{digits}f}"
