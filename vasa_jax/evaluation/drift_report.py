"""The report of job `evaluate_drift` for people: tables, and a plot of every measure over time."""

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vasa_jax.evaluation.trend import fit_trend

# Measures per section: title, digits.
SERIES = {
    "sharpness": ("sharpness of the face", 4),
    "identity": ("identity, cosine to the portrait", 4),
    "red": ("mean red of the face, of 255", 2),
    "green": ("mean green of the face, of 255", 2),
    "blue": ("mean blue of the face, of 255", 2),
    "mouth_r": ("mouth opening against the true one, r", 3),
    "offset": ("best offset of the mouth, frames (+ is late)", 2),
    "head_motion": ("head motion, degrees per frame", 3),
    "pause_mouth": ("mouth opening in the pauses", 4),
    "pause_motion": ("head motion in the pauses, degrees per frame", 3),
}
PAUSES = {
    "mouth": ("mouth opening in the pauses", 4),
    "mouth_most": ("95 % of it are below", 4),
    "mouth_speaking": ("mouth opening elsewhere", 4),
    "motion": ("head motion in the pauses, degrees per frame", 3),
    "motion_speaking": ("head motion elsewhere", 3),
    "blinks": ("blinks per minute, pauses or not", 1),
}
GENERATED, TRUE = (214, 70, 40), (150, 150, 150)
PANEL = (440, 150)  # pixels
COLUMNS = 2


def drift_markdown(report: dict[str, Any]) -> str:
    """The tables; the instrument's own error on the true video first."""
    instrument, controls, offsets = report["instrument"], report["controls"], report["offsets"]
    ours, true = report["trends"]["generated"], report["trends"]["truth"]
    drifting = [SERIES[name][0] for name in SERIES if name in ours and ours[name]["drifts"]]
    how = f"live, {controls['hop']} frames at once, {controls['look_ahead']} ahead" if controls["hop"] else "in windows"
    pauses = report["pauses"]
    lines = [
        f"# Drift over {report['minutes']:g} minutes",
        "",
        f"Held-out head, voice ({report['voice']}) and sentences; {how}, {controls['steps']} steps of "
        f"{controls['solver']}, seed {controls['seed']}.",
        "",
        f"The instrument on {instrument['frames']} true frames: mouth opening r {instrument['mouth_r']:.3f}, mean "
        f"absolute error {instrument['mouth_mae']:.4f}.",
        "",
        f"## Change per minute, over {offsets['sections']} sections",
        "",
        "| | mean | per minute | 95 % interval | over the whole | drifts | truth, measured: per minute |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (title, digits) in SERIES.items():
        if name in ours:
            fit = ours[name]
            whole = fit["slope"] * report["minutes"]
            known = true.get(name)
            beside = "" if known is None else f"{_signed(known['slope'], digits)} ({_interval(known, digits)})"
            lines.append(
                f"| {title} | {fit['mean']:.{digits}f} | {_signed(fit['slope'], digits)} | {_interval(fit, digits)} | "
                f"{_signed(whole, digits)} | {'yes' if fit['drifts'] else 'no'} | {beside} |"
            )
    lines += [
        "",
        f"Intervals that leave 0 out: {'; '.join(drifting) or 'none'}. Of 20 such intervals one does by chance.",
        "",
        f"Offset of the mouth: clear in {offsets['clear']} of {offsets['sections']} sections, 0 in {offsets['zero']} "
        f"of them" + (f", at most {offsets['largest']:g} frames." if math.isfinite(offsets["largest"]) else "."),
        "",
        f"## In the pauses ({pauses['share']:.0%} of the frames)",
        "",
        "| | generated | truth, measured | truth |",
        "|---|---|---|---|",
    ]
    for name, (title, digits) in PAUSES.items():
        cells = [_number(pauses[column].get(name), digits) for column in ("generated", "truth", "labels")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "drift.png shows every measure over time, sections.png a frame of each section.", ""]
    return "\n".join(lines)


def drift_plot(sections: dict[str, Any]) -> np.ndarray:
    """One panel per measure, uint8 (H, W, 3): values per section over the minutes and the line through them; the true
    video's in grey."""
    panels = [
        panel(sections["minutes"], sections["generated"][name], sections["truth"][name], title, digits)
        for name, (title, digits) in SERIES.items()
    ]
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % COLUMNS)
    rows = [np.concatenate(panels[i : i + COLUMNS], axis=1) for i in range(0, len(panels), COLUMNS)]
    return np.concatenate(rows)


def panel(time_S: np.ndarray, value_S: np.ndarray, true_S: np.ndarray, title: str, digits: int) -> np.ndarray:
    """Both series as points about their own means, which the title has, on one axis; uint8 PANEL."""
    picture = Image.new("RGB", PANEL, "white")
    draw = ImageDraw.Draw(picture)
    series = {}
    for name, colour, values in (("true", TRUE, true_S), ("", GENERATED, value_S)):
        known = np.isfinite(values)
        if known.any():
            mean = float(values[known].mean())
            series[name] = (colour, time_S[known], values[known] - mean, mean)
    means = [f"{name} mean {mean:.{digits}f}".strip() for name, (_, _, _, mean) in reversed(series.items())]
    draw.text((8, 4), f"{title}: {', '.join(means) or 'none'}", fill=(60, 60, 60))
    if not series:
        return np.asarray(picture)
    reach = 1.1 * max(float(np.abs(values).max()) for _, _, values, _ in series.values()) or 10.0**-digits
    left, right, top, bottom = 64, PANEL[0] - 12, 24, PANEL[1] - 22
    end = float(time_S[0] + time_S[-1])

    def place(time: float, value: float) -> tuple[float, float]:
        share = np.clip(value / reach, -1.0, 1.0)
        return left + (right - left) * time / end, (top + bottom) / 2 - (bottom - top) / 2 * share

    draw.rectangle([left, top, right, bottom], outline=(220, 220, 220))
    draw.line([place(0, 0), place(end, 0)], fill=(220, 220, 220))
    for value in (-reach, 0.0, reach):
        draw.text((6, place(0, value)[1] - 6), f"{value:+.{digits}f}", fill=(120, 120, 120))
    for time, anchor in ((0.0, "la"), (end, "ra")):
        draw.text((place(time, 0)[0], bottom + 4), f"{time:g} min", fill=(120, 120, 120), anchor=anchor)
    for colour, times, values, _ in series.values():
        for time, value in zip(times, values):
            x, y = place(time, value)
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        fit = fit_trend(times, values)
        if fit is not None:
            draw.line([place(t, fit.mean + fit.slope * (t - times.mean())) for t in (times[0], times[-1])], fill=colour)
    return np.asarray(picture)


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits + 1}f}"


def _interval(fit: dict[str, float], digits: int) -> str:
    return f"{_signed(fit['low'], digits)} to {_signed(fit['high'], digits)}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
