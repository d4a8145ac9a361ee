"""Statistics of a prepared set: what was kept and discarded, and how each metric of the clips is spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from vasa_jax.data.records import SPLITS


def set_statistics(outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns figures of the whole set; distance_mean, by which distance labels are divided, is None without labels."""
    clips = [clip for outcome in outcomes for clip in outcome["clips"]]
    discards = [(outcome, discard) for outcome in outcomes for discard in outcome["discards"]]
    reasons = sorted({discard["reason"] for _, discard in discards})
    statistics: dict[str, Any] = {
        "videos": len(outcomes),
        "clips": len(clips),
        "seconds": float(sum(clip["seconds"] for clip in clips)),
        "persons": len({outcome["person"] for outcome in outcomes if outcome["clips"]}),
        "splits": _split_counts(outcomes),
        "discarded": {
            reason: {
                "ranges": sum(discard["reason"] == reason for _, discard in discards),
                "videos": len({outcome["video"] for outcome, discard in discards if discard["reason"] == reason}),
                "seconds": float(sum(d["stop"] - d["start"] for _, d in discards if d["reason"] == reason)),
            }
            for reason in reasons
        },
        "distance_mean": None,
        "figures": {},
    }
    for name in sorted({name for clip in clips for name in clip} - {"clip_id", "start", "stop"}):
        values = np.array([clip[name] for clip in clips if name in clip])
        statistics["figures"][name] = {
            "mean": float(values.mean()), "deviation": float(values.std()),
            "p5": float(np.percentile(values, 5)), "p95": float(np.percentile(values, 95)),
        }  # fmt: skip
    if "distance" in statistics["figures"]:
        statistics["distance_mean"] = statistics["figures"]["distance"]["mean"]
    return statistics


def _split_counts(outcomes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each split holds. The split is that of the present run: a set that grew may be split otherwise."""
    result = {}
    for split in SPLITS:
        members = [outcome for outcome in outcomes if outcome["split"] == split]
        clips = [clip for outcome in members for clip in outcome["clips"]]
        if members:
            result[split] = {
                "videos": len(members),
                "persons": len({outcome["person"] for outcome in members if outcome["clips"]}),
                "clips": len(clips),
                "seconds": float(sum(clip["seconds"] for clip in clips)),
            }
    return result
