"""How sure a pass rate is."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

CONFIDENCE = 0.95
"""Share of such intervals that hold the true rate."""


def wilson(passed: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a rate of `passed` in `total` independent tries; (0, 1) for none.

    Unlike the textbook interval (rate plus or minus z standard errors) it stays within 0 and 1 and means something for few
    tries and for rates near 0 or 1: 1 of 1 gives (0.21, 1), 5 of 5 gives (0.57, 1). E. B. Wilson, "Probable inference, the
    law of succession, and statistical inference", Journal of the American Statistical Association 22 (1927), 209-212;
    recommended for few tries by L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion",
    Statistical Science 16 (2001), 101-133.
    """
    if total < 1:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, part = passed / total, z * z / total
    middle = (rate + part / 2) / (1 + part)
    half = z / (1 + part) * sqrt(rate * (1 - rate) / total + part / (4 * total))
    low = 0.0 if passed == 0 else max(0.0, middle - half)
    high = 1.0 if passed == total else min(1.0, middle + half)
    return low, high
