"""Student's t distribution for whole degrees of freedom, so that verdicts need no scipy.

Source: Abramowitz, Stegun: Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math


def t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for `freedom` >= 1 degrees of freedom."""
    if freedom < 1:
        raise ValueError(f"degrees of freedom must be at least 1, not {freedom}")
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    total = 0.0
    term = 1.0 if freedom % 2 == 0 else cosine
    for k in range(freedom % 2, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (k + 1) / (k + 2)
    if freedom % 2 == 0:
        within = sine * total
    else:
        within = 2 / math.pi * (angle + sine * total)
    return 0.5 + within / 2


def t_quantile(probability: float, freedom: int) -> float:
    """The t with P(T <= t) = `probability`, in (0, 1), by bisection to machine precision."""
    if not 0 < probability < 1:
        raise ValueError(f"a probability must be between 0 and 1, not {probability}")
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
