"""The signals of the gated fusion, and how far each deviates from what the normals lead to expect.

A patch residual of 0.2 means little by itself: on one object every good image has such a patch, on
another none comes close. The normals tell, because each can be scored against the others. A query
is described by order statistics of its residual maps, its global distances and its text; each
number is put in relation to the same number of the normals.

The relation is an empirical-Bayes one. For every signal good images of one class are taken to
scatter around the class's own level, and the levels of classes around a population's. The auxiliary
data give the population's constants, for every K; the leave-one-out values of the bank then give an
estimate of its level that is shrunk towards the population's by as much as banks of that size are
wrong. With a single normal there are none, and the level is the population's: K = 1 is the end of
the same rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import MAX_SHOTS
from .evidence import Evidence
from .residuals import global_distance

# Patches averaged, largest first, of the 15 x 15 grid: of the mean map, and of the deepest layer's.
MAP_COUNTS = (1, 12, 225)
DEEP_COUNTS = (3,)
ALL_PATCHES = 225
FLOOR = 1e-4  # Residuals below this are noise of the arithmetic.
LIMIT = 12.0  # Deviations are clipped to this many standard deviations.
TEXT_LIMIT = 1e-6  # Shares of the text closer to 0 or 1 are taken for this far.
PATCHES, IMAGE, TEXT = GROUPS = ("patches", "image", "text")


@dataclass(frozen=True)
class Signal:
    """One number that describes a query.

    Attributes:
        name: "top 12" for the mean of the 12 largest patches of the mean map, "layer 3 top 3" for
            the three largest of the deepest layer; "closest" and "mean distance" of the whole
            image; "text".
        group: One of ``GROUPS``.
        count: Patches averaged, of 225; 0 where it is no mean of patches.
        layer: Index of the layer; None for the mean map, and where there is no map.
    """

    name: str
    group: str
    count: int = 0
    layer: int | None = None


def list_signals(layers: int) -> tuple[Signal, ...]:
    """The signals in their order; the first is the largest patch residual.

    Args:
        layers: D.
    """
    return (
        *(Signal(f"top {count}", PATCHES, count) for count in MAP_COUNTS),
        *(
            Signal(f"layer {layers} top {count}", PATCHES, count, layers - 1)
            for count in DEEP_COUNTS
        ),
        Signal("closest", IMAGE),
        Signal("mean distance", IMAGE),
        Signal("text", TEXT),
    )


def order_statistics(maps: Tensor, counts: Sequence[int]) -> Tensor:
    """Logarithm of the mean of the largest values of each map.

    Args:
        maps: [..., P], non-negative.
        counts: How many values, of 225; of other maps the same shares.

    Returns:
        [..., len(counts)].
    """
    patches = maps.shape[-1]
    taken = [max(1, round(count / ALL_PATCHES * patches)) for count in counts]
    sums = maps.sort(dim=-1, descending=True).values.cumsum(dim=-1)
    means = torch.stack([sums[..., count - 1] / count for count in taken], dim=-1)
    return means.clamp_min(FLOOR).log()


def read_signals(evidence: Evidence) -> tuple[Tensor, Tensor | None]:
    """The signals of the queries, and those of the normals against each other.

    Copies among the normals are left out.

    Returns:
        [B, F] and [B or 1, N, F] of the N distinct normals; the second is None where N is 1.
    """
    normals, maps, text = (
        evidence.normal_embeddings,
        evidence.normal_layer_maps,
        evidence.normal_text,
    )
    if evidence.distinct is not None and len(evidence.distinct) < normals.shape[1]:
        kept = list(evidence.distinct)
        normals, text = normals[:, kept], None if text is None else text[:, kept]
        maps = None if maps is None else maps[:, kept]
    distances = global_distance(evidence.embeddings, normals)
    # One by one: a logarithm's last bit depends on its place among those that are taken together,
    # and what a query scores may not depend on its batch.
    parts = evidence.layer_maps, distances, evidence.text_anomaly
    rows = zip(*(part.split(1) for part in parts), strict=True)
    queries = torch.cat([_joined(*row) for row in rows])
    if maps is None or text is None:
        return queries, None
    among = torch.stack([_distances_among(own) for own in normals])
    return queries, _joined(maps, among, text)


def _joined(maps: Tensor, distances: Tensor, text: Tensor) -> Tensor:
    # [..., D, P], [..., K], [...] -> [..., F]
    closest, mean = distances.amin(dim=-1), distances.mean(dim=-1)
    parts = [
        order_statistics(maps.mean(dim=-2), MAP_COUNTS),
        order_statistics(maps[..., -1, :], DEEP_COUNTS),
        torch.stack([closest, mean], dim=-1).clamp_min(FLOOR).log(),
        torch.logit(text.clamp(TEXT_LIMIT, 1.0 - TEXT_LIMIT))[..., None],
    ]
    return torch.cat(parts, dim=-1)


def _distances_among(embeddings: Tensor) -> Tensor:
    # [K, E] -> [K, K - 1], each normal to the others.
    shots = len(embeddings)
    table = global_distance(embeddings, embeddings)
    others = table[~torch.eye(shots, dtype=torch.bool, device=table.device)]
    return others.view(shots, shots - 1)


@dataclass(frozen=True, eq=False)
class BankSignals:
    """One bank's contribution to the population's constants.

    Attributes:
        queries: [N, F] of N >= 1 good images that are not in the bank.
        among: [K, F] of the bank's normals; None where K is 1.
        weight: How much the bank counts.
    """

    queries: Tensor
    among: Tensor | None
    weight: float = 1.0


class Population(nn.Module):
    """The constants of the auxiliary classes, for every signal and every K up to ``MAX_SHOTS``.

    ``level``: mean of good queries. ``bias``: what a good query exceeds the normals' leave-one-out
    mean by, on average (against K - 1 others instead of K a normal looks worse). ``trust``:
    how far a bank's own level is to be believed against the population's, 0 to 1, the slope of the
    regression of the one on the other. ``spread``: standard deviation of good queries around the
    level expected of them. ``range``: standard deviation of the classes' levels. Each is
    [MAX_SHOTS, F], row K - 1.

    Args:
        signals: F.
    """

    CONSTANTS = (("level", 0.0), ("bias", 0.0), ("trust", 0.0), ("spread", 1.0), ("range", 1.0))

    def __init__(self, signals: int) -> None:
        super().__init__()
        for name, value in self.CONSTANTS:
            self.register_buffer(name, torch.full((MAX_SHOTS, signals), value))

    def fit(self, banks: Sequence[BankSignals]) -> None:
        """Estimates the constants; a K without banks takes those of its neighbours.

        Raises:
            ValueError: There are no banks.
        """
        by_shots: dict[int, list[BankSignals]] = {}
        for bank in banks:
            shots = 1 if bank.among is None else len(bank.among)
            by_shots.setdefault(shots, []).append(bank)
        if not by_shots:
            raise ValueError("the population needs at least one bank")
        rows = {shots: _fit_shots(group) for shots, group in by_shots.items()}
        known = sorted(rows)
        for shots in range(1, MAX_SHOTS + 1):
            below = max((k for k in known if k <= shots), default=known[0])
            above = min((k for k in known if k >= shots), default=known[-1])
            share = 0.0 if above == below else (shots - below) / (above - below)
            for (name, _), low, high in zip(self.CONSTANTS, rows[below], rows[above], strict=True):
                getattr(self, name)[shots - 1] = torch.lerp(low, high, share)

    def expect(self, among: Tensor | None) -> tuple[Tensor, Tensor]:
        """The level to expect of good queries, and how far it lies from the population's.

        Args:
            among: [B or 1, K, F], or None where K is 1.

        Returns:
            [B or 1, F] each; the second in standard deviations of the classes' levels.
        """
        row = shots_row(among)
        level = self.level[row][None]
        if among is None:
            return level, torch.zeros_like(level)
        own = self.trust[row] * (among.mean(dim=1) + self.bias[row] - level)
        return level + own, own / self.range[row]

    def deviate(self, queries: Tensor, among: Tensor | None) -> Tensor:
        """Deviation of queries from the level to expect of good ones, in units of ``spread``.

        Args:
            queries: [B, F].
            among: As in :meth:`expect`.

        Returns:
            [B, F], clipped to ``LIMIT``.
        """
        expected, _ = self.expect(among)
        return ((queries - expected) / self.spread[shots_row(among)]).clamp(-LIMIT, LIMIT)


def shots_row(among: Tensor | None) -> int:
    """Row of the population's constants for a bank: its number of normals less one."""
    return (1 if among is None else min(among.shape[-2], MAX_SHOTS)) - 1


def _fit_shots(banks: Sequence[BankSignals]) -> tuple[Tensor, ...]:
    weights = torch.tensor([bank.weight for bank in banks])
    weights = (weights / weights.sum())[:, None]
    means = torch.stack([bank.queries.mean(dim=0) for bank in banks])
    level = (weights * means).sum(dim=0)
    if banks[0].among is None:
        bias = trust = torch.zeros_like(level)
        expected = level.expand_as(means)
    else:
        own = torch.stack([bank.among.mean(dim=0) for bank in banks if bank.among is not None])
        bias = (weights * (means - own)).sum(dim=0)
        centred = own + bias - level
        explained = (weights * (means - level) * centred).sum(dim=0)
        trust = explained / (weights * centred**2).sum(dim=0).clamp_min(1e-6)
        trust = trust.clamp(0.0, 1.0)
        expected = level + trust * centred
    pairs = zip(banks, expected, strict=True)
    within = torch.stack([(bank.queries - at).square().mean(dim=0) for bank, at in pairs])
    spread = (weights * within).sum(dim=0).sqrt().clamp_min(0.02)
    between = (weights * (means - level) ** 2).sum(dim=0).sqrt().clamp_min(0.05)
    return level, bias, trust, spread, between
