"""Does a measure change over time? A straight line through its values, with a confidence interval of its slope."""

import dataclasses

import numpy as np

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Trend:
    """Least-squares line: `mean` is its value in the middle of the times, `slope` per unit of time, with `low` and
    `high` the ends of its CONFIDENCE interval."""

    mean: float
    slope: float
    low: float
    high: float

    @property
    def drifts(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.low <= 0.0 <= self.high


def fit_trend(time_N: np.ndarray, value_N: np.ndarray) -> Trend | None:
    """The line through values at times; nan values are left out. None for fewer than three, or all at one time.

    The interval is Student's, for independent errors of one size: values of sections much longer than what correlates
    within them. Values on one exact line have an interval without width.
    """
    from scipy.stats import t

    time_N, value_N = np.asarray(time_N, np.float64), np.asarray(value_N, np.float64)
    known = np.isfinite(value_N)
    time, value = time_N[known], value_N[known]
    if len(value) < 3 or np.ptp(time) == 0:
        return None
    centred = time - time.mean()
    spread = np.square(centred).sum()
    slope = float((centred * value).sum() / spread)
    residual = value - value.mean() - slope * centred
    error = np.sqrt(np.square(residual).sum() / (len(value) - 2) / spread)
    half = float(t.ppf(0.5 + CONFIDENCE / 2.0, len(value) - 2) * error)
    return Trend(float(value.mean()), slope, slope - half, slope + half)
