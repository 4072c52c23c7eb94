"""Figures of good images over auxiliary classes, from which a bank's threshold is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..analysis.decision import CONFIDENCE, LEAST_SPREAD

SHARES = (
    0.9, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.065, 0.05, 0.04, 0.03, 0.02,
    0.015, 0.01, 0.005,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScoredBank:
    """Good images against one bank, and its normals against each other.

    Attributes:
        source: Data set.
        name: Class within it.
        good: [N], log-odds of the fused scores of good images that are not in the bank.
        own: [K], of the normals, each against the others; empty where K is 1.
    """

    source: str
    name: str
    good: np.ndarray
    own: np.ndarray


def fit_good_scores(banks: Sequence[ScoredBank]) -> dict[str, Any]:
    """The fields of :class:`inctrl_core.analysis.decision.Population` for one number of normals.

    Every source has the same share, and in it every class.

    Args:
        banks: Banks of that many normals.

    Raises:
        ValueError: There are none.
    """
    if not banks:
        raise ValueError("figures of good images need at least one bank")
    weights = _equal_shares(banks)
    means = np.array([bank.good.mean() for bank in banks])
    spreads = np.log([max(float(bank.good.std()), LEAST_SPREAD) for bank in banks])
    level, spread = float(weights @ means), float(weights @ spreads)
    bias = trust = own_spread = spread_trust = 0.0
    levels, widths = np.full(len(banks), level), np.full(len(banks), spread)
    if len(banks[0].own) > 1:
        own = np.array([bank.own.mean() for bank in banks])
        apart = np.log([max(float(bank.own.std(ddof=1)), LEAST_SPREAD) for bank in banks])
        bias, own_spread = float(weights @ (means - own)), float(weights @ apart)
        trust = _slope(own + bias - level, means - level, weights)
        spread_trust = _slope(apart - own_spread, spreads - spread, weights)
        levels = level + trust * (own + bias - level)
        widths = spread + spread_trust * (apart - own_spread)
    # A class has too few images for its own tail: its place and width are its own, its shape that
    # of all classes together.
    shape = _shape(banks, means, np.exp(spreads), weights)
    places = _places(shape, (means - levels) / np.exp(widths), np.exp(spreads - widths), weights)
    above = _shares_above(
        shape, places, (means - levels) / np.exp(widths), np.exp(spreads - widths)
    )
    low, high = _interval(above, weights)
    return {
        "level": level,
        "bias": bias,
        "trust": trust,
        "spread": spread,
        "own_spread": own_spread,
        "spread_trust": spread_trust,
        "shares": list(SHARES),
        "places": places,
        "low": low,
        "high": high,
    }


def _equal_shares(banks: Sequence[ScoredBank]) -> np.ndarray:
    classes = {(bank.source, bank.name) for bank in banks}
    sizes = Counter(source for source, _ in classes)
    counts = Counter((bank.source, bank.name) for bank in banks)
    weights = np.array(
        [1 / (sizes[bank.source] * counts[bank.source, bank.name]) for bank in banks]
    )
    return weights / weights.sum()


def _slope(given: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    slope = float(weights @ (given * wanted)) / max(float(weights @ given**2), 1e-6)
    return min(max(slope, 0.0), 1.0)


def _shape(
    banks: Sequence[ScoredBank], means: np.ndarray, spreads: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Standardised scores of all banks, rising, and the share of good images above each."""
    parts = zip(banks, means, spreads, strict=True)
    values = np.concatenate([(bank.good - mean) / spread for bank, mean, spread in parts])
    pairs = zip(banks, weights, strict=True)
    mass = np.concatenate([np.full(len(bank.good), w / len(bank.good)) for bank, w in pairs])
    order = np.argsort(values)
    return values[order], 1.0 - np.cumsum(mass[order]) + mass[order] / 2


def _places(
    shape: tuple[np.ndarray, np.ndarray],
    centres: np.ndarray,
    widths: np.ndarray,
    weights: np.ndarray,
) -> list[float]:
    """For each of ``SHARES`` the place above which it lies in the median bank; rising."""
    values, above = shape
    order_of = [centres + widths * np.interp(-share, -above, values) for share in SHARES]
    found = np.maximum.accumulate([_weighted(own, weights, 0.5) for own in order_of])
    return [float(place) + 1e-6 * i for i, place in enumerate(found)]


def _shares_above(
    shape: tuple[np.ndarray, np.ndarray],
    places: Sequence[float],
    centres: np.ndarray,
    widths: np.ndarray,
) -> list[np.ndarray]:
    """For each place the share of every bank's good images above it."""
    values, above = shape
    return [np.interp((place - centres) / widths, values, above) for place in places]


def _interval(above: Sequence[np.ndarray], weights: np.ndarray) -> tuple[list[float], list[float]]:
    """For each place the ends between which the banks' own shares above it lie."""
    ends = (1.0 - CONFIDENCE) / 2, (1.0 + CONFIDENCE) / 2
    low, high = ([_weighted(shares, weights, end) for shares in above] for end in ends)
    return low, high


def _weighted(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """A quantile of weighted values."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(share, reached, values[order]))
