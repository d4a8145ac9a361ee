"""What the mark costs a video, and whether it is found and read after each attack."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.evaluation.mark_attacks import ATTACKS
from vasa_jax.evaluation.marked_videos import WHOLE, Carrier
from vasa_jax.generation.detect import READABLE, detect_frames
from vasa_jax.generation.mark_search import SURE
from vasa_jax.generation.watermark import Payload, flat_ground
from vasa_jax.schema import Flag, Real, Text, Whole


def kept() -> dict[str, Any]:
    """Returns the schema of what is kept of a video, see `try_carrier`."""
    share = Real(0, 1 + 1e-9)  # probabilities, rounded
    return {
        "kind": Text(), "size": Whole(1, 10**6), "psnr": Real(0, 1000), "flicker": Real(0, 255),
        "flat": {"share": share, "rms": Real(0, 255), "most": Real(0, 255), "flicker": Real(0, 255)},
        **{name: dict.fromkeys(ATTACKS, share) for name in ("p", "certainty")}, "right": dict.fromkeys(ATTACKS, Flag()),
    }  # fmt: skip


def try_carrier(carrier: Carrier) -> dict[str, Any]:
    """Returns what a marked video lost and what was found in it after every attack.

    kind; size, of the shorter side; psnr: dB of the marked frames against the unmarked ones; flicker: mean absolute
    frame-to-frame difference that the mark adds, in levels; flat: what it is where nothing hides it, see
    `on_flat_ground`; by attack: p, of the evidence; certainty, of its payload; right, whether that is the payload.
    """
    rng = np.random.default_rng(carrier.number)
    payload = Payload(int(rng.integers(2**28)))
    shown = carrier.marked(payload)
    difference = shown.astype(np.float32) - carrier.frames
    row: dict[str, Any] = {
        "kind": carrier.kind,
        "size": min(shown.shape[1:3]),
        "psnr": float(10 * np.log10(255**2 / np.mean(difference**2))),
        "flicker": float(np.abs(np.diff(difference, axis=0)).mean()),
        "flat": on_flat_ground(difference, carrier.frames),
    }
    del difference
    with tempfile.TemporaryDirectory() as folder:
        written = np.stack(list(read_video(write_video(Path(folder) / "a.mp4", shown)).frames))
    row |= {"p": {}, "certainty": {}, "right": {}}
    for name, attack in ATTACKS.items():
        evidence, _, _ = detect_frames(attack(written, rng), FPS)
        row["p"][name], row["certainty"][name] = evidence.p_value, evidence.certainty
        row["right"][name] = evidence.payload == payload
    return row


def on_flat_ground(difference: np.ndarray, frames: np.ndarray) -> dict[str, float]:
    """Returns what a mark adds, float (T, H, W, 3) in levels, where frames, uint8 (T, H, W, 3), hide nothing.

    share: of the pixels; rms and most: of the difference there; flicker: its mean absolute frame-to-frame difference
    where both frames are flat. All 0 without such ground.
    """
    flat = np.concatenate([np.asarray(flat_ground(frame[None])) for frame in frames])
    lasting = flat[1:] & flat[:-1]
    added, changes = difference[flat], np.diff(difference, axis=0)[lasting]
    return {
        "share": float(flat.mean()),
        "rms": float(np.sqrt((added**2).mean())) if added.size else 0.0,
        "most": float(np.abs(added).max(initial=0)),
        "flicker": float(np.abs(changes).mean()) if changes.size else 0.0,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns counts by kind, size and attack, beside PSNR and flicker; whole photographs of all sizes are one group.

    found: marks; read: payloads that are right with certainty; wrong: others that were told with certainty; flat: the
    number of videos with flat ground, and there the mean rms, the most, and the mean flicker.
    """
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault((row["kind"], 0 if row["kind"] == WHOLE else row["size"]), []).append(row)
    result = {}
    for (kind, size), group in sorted(groups.items()):
        sizes = sorted(row["size"] for row in group)
        counts: dict[str, dict[str, int]] = {"found": {}, "read": {}, "wrong": {}}
        for name in group[0]["p"]:
            found = [row for row in group if row["p"][name] <= SURE]
            told = [row["right"][name] for row in found if row["certainty"][name] >= READABLE]
            counts["found"][name], counts["read"][name] = len(found), sum(told)
            counts["wrong"][name] = len(told) - sum(told)
        psnr = [row["psnr"] for row in group]
        result[f"{kind}, {size} x {size}" if size else f"{kind}, {sizes[0]} to {sizes[-1]} pixels"] = {
            "videos": len(group),
            "psnr": [min(psnr), float(np.mean(psnr))],
            "flicker": float(np.mean([row["flicker"] for row in group])),
            "flat": _of_flat_ground([row["flat"] for row in group if row["flat"]["share"] > 0]),
            **counts,
        }
    return result


def _of_flat_ground(rows: list[dict[str, float]]) -> list[float]:
    if not rows:
        return [0, 0.0, 0.0, 0.0]
    rms, flicker = (float(np.mean([row[name] for row in rows])) for name in ("rms", "flicker"))
    return [len(rows), rms, max(row["most"] for row in rows), flicker]


def as_lines(groups: dict[str, Any]) -> list[str]:
    """Returns the summary as lines of Markdown."""
    if not groups:
        return ["No video was marked."]
    lines = ["| marked videos of 5 s | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    values = groups.values()
    row("videos", [str(group["videos"]) for group in values])
    row("PSNR: least, mean", ["{:.1f}, {:.1f} dB".format(*group["psnr"]) for group in values])
    row("frame-to-frame difference added", [f"{group['flicker']:.2f} levels" for group in values])
    row("flat ground: rms, most; frame-to-frame", [
        "{1:.2f}, {2:.0f}; {3:.3f} levels in {0} videos".format(*group["flat"]) for group in values
    ])  # fmt: skip
    for name in next(iter(values))["found"]:
        row(f"{name}: found; payload read", [
            f"{group['found'][name]}; {group['read'][name]}"
            + (f" ({group['wrong'][name]} wrong)" if group["wrong"][name] else "")
            for group in values
        ])  # fmt: skip
    return lines
