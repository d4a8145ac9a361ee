"""What the search finds where there is no mark: alarms, and whether chances are what they are said to be.

Each window tries many scales and mirrorings. The mark's phases were drawn by a hash, so each of them is a draw of the
null distribution that `mark_search.tail` computes. Their counts beyond a few levels test that tail far below the
share of alarms that windows alone could show.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vasa_jax.evaluation.unmarked_windows import Window
from vasa_jax.generation.mark_search import GRID, SCALES, SURE, level_of, search
from vasa_jax.schema import Each, Real, Text, Whole

LEVELS = tuple(10.0**-power for power in range(1, 8))
PLACES = np.arange(4) * (GRID // 4 + 2)  # along each axis: over half a shortest wave apart, whatever the shift
DRAWS = 2 * len(SCALES) * len(PLACES) ** 2  # per window
CONFIDENCE = 0.95


# What is kept of a window, see `search_window`.
ROW = {"source": Text(), "piece": Text(), "p": Real(0, 1), "beyond": Each(Whole(0, DRAWS), len(LEVELS), len(LEVELS))}


def search_window(window: Window) -> dict[str, Any]:
    """Returns what the search says of a window: source, piece, `p`, and how many draws were beyond each level."""
    limits = np.array([level_of(level) for level in LEVELS])
    beyond = np.zeros(len(LEVELS), int)

    def count(sums: np.ndarray) -> None:
        nonlocal beyond
        beyond += (sums[np.ix_(PLACES, PLACES)].reshape(-1, 1) >= limits).sum(0)

    p_value = search(window.luma, count).p_value
    return {"source": window.source, "piece": window.piece, "p": p_value, "beyond": beyond.tolist()}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns counts by source, shares of p-values and of draws up to each level, and a bound on the alarms."""
    by_source: dict[str, list[dict]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    p_values = np.array([row["p"] for row in rows])
    alarms = int((p_values <= SURE).sum())
    return {
        "sources": {
            name: {
                "windows": len(group),
                "disjoint": len({row["piece"] for row in group}),
                "alarms": sum(row["p"] <= SURE for row in group),
                "least": min(row["p"] for row in group),
            }
            for name, group in sorted(by_source.items())
        },
        "rate at most": upper_bound(alarms, len(rows)) if rows else 1.0,
        "levels": [
            {
                "level": level,
                "windows": int((p_values <= level).sum()) / max(len(rows), 1),
                "draws": sum(row["beyond"][index] for row in rows) / max(len(rows) * DRAWS, 1),
            }
            for index, level in enumerate(LEVELS)
        ],
    }


def upper_bound(events: int, trials: int) -> float:
    """Returns the largest rate that CONFIDENCE does not exclude (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    return float(beta.ppf(CONFIDENCE, events + 1, trials - events)) if events < trials else 1.0


def as_lines(report: dict[str, Any]) -> list[str]:
    """Returns the summary as lines of Markdown."""
    lines = ["| unmarked windows | searched | disjoint | alarms | least p |", "|---|---|---|---|---|"]
    rows = report["sources"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['windows']} | {row['disjoint']} | {row['alarms']} | {row['least']:.1g} |")
    total, disjoint, alarms = (sum(row[key] for row in rows.values()) for key in ("windows", "disjoint", "alarms"))
    least = min((row["least"] for row in rows.values()), default=1)
    lines.append(f"| all | {total} | {disjoint} | {alarms} | {least:.1g} |")
    bound = report["rate at most"]
    lines += ["", f"An alarm is p <= {SURE:g}. If windows were independent, the rate of false alarms would be at most"]
    lines += [f"{bound:.1e} ({CONFIDENCE:.0%} confidence). {DRAWS} scales, mirrorings and places of each window:", ""]
    lines += ["| chance said | windows whose p is no more | draws whose chance is no more |", "|---|---|---|"]
    lines += [f"| {row['level']:.0e} | {row['windows']:.1e} | {row['draws']:.1e} |" for row in report["levels"]]
    return lines
