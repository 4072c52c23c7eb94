"""A threshold for a chosen rate of false alarms, from the normals and many other classes.

A handful of normals scored against each other tells where good images of their kind lie, but
poorly. So their own figures are shrunk towards those of auxiliary classes, which the model carries
(``heads.good_scores`` of its configuration): the fewer the normals, and the less such figures told
on those classes, the more. With a single normal the classes alone speak.

Scores are handled as log-odds, in which good images of one bank are taken to have a level and a
spread of their own around which their scores are distributed as those of the auxiliary classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import HeadsConfig
from ..errors import InctrlError, ModelError
from ..model.bank import PromptBank

RATE = 0.05  # Of false alarms, where nobody chooses.
RATES = 0.01, 0.20  # The least and the most that can be chosen.
CONFIDENCE = 0.8  # Of the interval: the share of auxiliary banks whose own rate lay in it.
LEAST_SPREAD = 0.02  # Of leave-one-out scores in log-odds: two may be equal by chance.
# How far above a threshold a score lies.
GRADES = BELOW, LITTLE, CLEARLY, FAR = "below", "a little above", "clearly above", "far above"
_LITTLE = 0.01  # So many good images are expected above it at least.
_FAR = 2.0  # So many times as far from their level as the least share that is known.
_EDGE = 1e-6  # Scores closer to 0 or 1 are taken for this far.


@dataclass(frozen=True)
class Population:
    """Good images of the auxiliary classes against banks of one size, in log-odds.

    Attributes:
        level: Mean of good images.
        bias: What they exceed the mean of the normals' leave-one-out scores by, on average.
        trust: How far a bank's own level is believed, 0 to 1.
        spread: Logarithm of the standard deviation of good images around their level.
        own_spread: Logarithm of the leave-one-out scores' standard deviation, on average.
        spread_trust: How far a bank's own spread is believed, 0 to 1.
        shares: Shares of good images, falling.
        places: For each share the place, in standard deviations from the level, that it lies above
            in the median of the banks.
        low: For each share the least that lay above the place in ``CONFIDENCE`` of the banks.
        high: The most.
    """

    level: float
    bias: float
    trust: float
    spread: float
    own_spread: float
    spread_trust: float
    shares: tuple[float, ...]
    places: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class GoodScores:
    """The scores to expect of good images beside certain normals.

    Attributes:
        level: Mean, in log-odds.
        spread: Standard deviation, in log-odds.
        population: The auxiliary classes.
    """

    level: float
    spread: float
    population: Population

    def threshold(self, rate: float = RATE) -> float:
        """The score that a share ``rate`` of good images is expected to exceed.

        Args:
            rate: In ``RATES``.

        Raises:
            InctrlError: It is not.
        """
        check_rate(rate)
        known = self.population
        # Both from their ends, since numpy asks for rising places.
        place = np.interp(math.log(rate), np.log(known.shares[::-1]), known.places[::-1])
        return _from_odds(self.level + self.spread * float(place))

    def share_above(self, threshold: float) -> float:
        """The share of good images that is expected to score above a threshold, 0 to 1.

        Beyond the ends of what the auxiliary classes tell, their last share stands.
        """
        known = self.population
        place = (to_odds(threshold) - self.level) / self.spread
        return float(np.exp(np.interp(place, known.places, np.log(known.shares))))

    def interval(self, threshold: float) -> tuple[float, float]:
        """Between which shares the true one lay for ``CONFIDENCE`` of the auxiliary banks."""
        known = self.population
        place = (to_odds(threshold) - self.level) / self.spread
        ends = known.low, known.high
        low, high = (float(np.interp(place, known.places, end)) for end in ends)
        return low, high

    def grade(self, fused: float, threshold: float) -> str:
        """How far above a threshold a score lies: ``BELOW``, ``LITTLE``, ``CLEARLY`` or ``FAR``.

        Args:
            fused: The score.
            threshold: See :func:`decide`.
        """
        if fused <= threshold:
            return BELOW
        if self.share_above(fused) >= _LITTLE:
            return LITTLE
        place = (to_odds(fused) - self.level) / self.spread
        return FAR if place > _FAR * self.population.places[-1] else CLEARLY


@dataclass(frozen=True)
class Decision:
    """A threshold, and what to expect of it.

    Attributes:
        threshold: Fused score from which on an image is called anomalous.
        rate: The share of good images above it that was asked for; None where the threshold was.
        expected: The share of good images that is expected above it.
        low: The lower end of the interval around that, see :meth:`GoodScores.interval`.
        high: Its upper end.
    """

    threshold: float
    rate: float | None
    expected: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """The decision, ready for ``json.dumps``."""
        return {
            "threshold": self.threshold,
            "false_alarm_rate": self.rate,
            "expected_share_above": self.expected,
            "interval": [self.low, self.high],
        }


def decide(
    good: GoodScores | None, rate: float | None = RATE, threshold: float | None = None
) -> Decision | None:
    """The threshold for a rate of false alarms, or what to expect of a given threshold.

    Args:
        good: What :func:`expect_good` says of the normals.
        rate: The share of good images that may lie above, in ``RATES``; not used where there is a
            threshold.
        threshold: A fused score.

    Returns:
        None where ``good`` is: the model carries no figures of auxiliary classes.

    Raises:
        InctrlError: The rate is out of bounds.
    """
    if good is None:
        return None
    if threshold is None:
        line = good.threshold(rate)
        return Decision(line, rate, rate, *good.interval(line))
    return Decision(threshold, None, good.share_above(threshold), *good.interval(threshold))


def expect_good(heads: HeadsConfig, bank: PromptBank, own: Sequence[float]) -> GoodScores | None:
    """The scores to expect of good images beside a bank's normals.

    Args:
        heads: The fusion of the model that made the bank.
        bank: The normals.
        own: The fused score of each distinct normal against the others; empty for a single one.

    Returns:
        None where the model carries no figures of auxiliary classes.

    Raises:
        ModelError: Those figures cannot be used.
    """
    if not heads.good_scores:
        return None
    return place_bank(read_population(heads, bank.looks_for, len(bank.distinct)), own)


def place_bank(population: Population, own: Sequence[float]) -> GoodScores:
    """Shrinks a bank's own figures towards the population's.

    Args:
        population: The auxiliary classes, for as many normals.
        own: The fused score of each normal against the others; empty for a single one.
    """
    if len(own) < 2:
        return GoodScores(population.level, math.exp(population.spread), population)
    odds = np.array([to_odds(score) for score in own])
    level = population.level + population.trust * (
        float(odds.mean()) + population.bias - population.level
    )
    apart = math.log(max(float(odds.std(ddof=1)), LEAST_SPREAD)) - population.own_spread
    spread = population.spread + population.spread_trust * apart
    return GoodScores(level, math.exp(spread), population)


def read_population(heads: HeadsConfig, looks_for: str, shots: int) -> Population:
    """The figures for a number of normals, between those that are stored.

    Raises:
        ModelError: They are incomplete.
    """
    try:
        stored = heads.good_scores[looks_for]
        rows = {int(key): _population(row) for key, row in stored.items()}
        below = max((k for k in rows if k <= shots), default=min(rows))
        above = min((k for k in rows if k >= shots), default=max(rows))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ModelError(
            "The model's figures of good images (heads.good_scores) are damaged; fetch it again."
        ) from None
    if below == above:
        return rows[below]
    share = (shots - below) / (above - below)
    return _between(rows[below], rows[above], share)


def check_rate(rate: float) -> None:
    """Raises InctrlError unless a rate of false alarms lies in ``RATES``."""
    if not isinstance(rate, int | float) or not RATES[0] <= rate <= RATES[1]:
        raise InctrlError(
            f"Choose a rate of false alarms between {RATES[0]:g} and {RATES[1]:g}, not {rate}."
        )


def check_threshold(threshold: float) -> float:
    """The threshold itself.

    Raises:
        InctrlError: It is no number in [0, 1].
    """
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise InctrlError("Choose a threshold between 0 and 1.")
    return float(threshold)


def odds(score: float) -> float:
    """The odds of a score in [0, 1], kept positive and finite at the ends."""
    kept = min(max(score, _EDGE), 1.0 - _EDGE)
    return kept / (1.0 - kept)


def to_odds(score: float) -> float:
    """The log-odds of a score in [0, 1], kept finite at the ends."""
    return math.log(odds(score))


def _from_odds(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-odds))


_NUMBERS = ("level", "bias", "trust", "spread", "own_spread", "spread_trust")
_LISTS = ("shares", "places", "low", "high")


def _population(row: Mapping[str, Any]) -> Population:
    numbers = {name: float(row[name]) for name in _NUMBERS}
    lists = {name: tuple(float(value) for value in row[name]) for name in _LISTS}
    (length,) = {len(values) for values in lists.values()}
    flat = [*numbers.values(), *(value for values in lists.values() for value in values)]
    if length < 2 or not all(map(math.isfinite, flat)) or min(lists["shares"]) <= 0:
        raise ValueError("not a population")
    return Population(**numbers, **lists)


def _between(first: Population, second: Population, share: float) -> Population:
    def mixed(name: str) -> Any:
        low, high = np.array(getattr(first, name)), np.array(getattr(second, name))
        value = (1 - share) * low + share * high
        return float(value) if value.ndim == 0 else tuple(value.tolist())

    return Population(**{name: mixed(name) for name in (*_NUMBERS, *_LISTS)})
