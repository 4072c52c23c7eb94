"""Training of the gated form: its population, and gates that rank good below anomalous images."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.evidence import DECIDE, LOOKS_FOR
from ..model.gated import Gate, GatedHeads
from ..model.signals import BankSignals, read_signals
from .good_scores import ScoredBank, fit_good_scores
from .pools import Pool, bank_episode

FALSE_ALARMS = 0.05  # The share of good images of the auxiliary classes that score above 0.5.
STEEPNESS = 1.5  # Standard deviations of good images in one unit of log-odds.


@dataclass(frozen=True)
class GatedOptions:
    """The settings of a run, besides the data.

    Attributes:
        shots: Every K that banks are drawn with.
        draws: Banks of each size that are drawn from a pool.
        steps: Batches.
        pairs: Pairs of a good and an anomalous image of one bank in a batch.
        learning_rate: Of Adam; falls to almost nothing.
        restraint: Weight of the sum of all weights but those of the largest patch and of the text.
        text_restraint: Weight of the text's weight.
        decay: Weight of the squares of what a gate makes of the normals.
        strengths: For each of ``LOOKS_FOR`` the part of the other weights that is taken.
        near: How far from every training bank, in standard deviations, "decide" takes it in full.
        members: Members of a gate.
        seed: Decides the initial weights and every draw.
    """

    shots: tuple[int, ...] = (1, 2, 4, 8)
    draws: int = 4
    steps: int = 400
    pairs: int = 256
    learning_rate: float = 0.01
    restraint: float = 0.003
    text_restraint: float = 0.05
    decay: float = 1e-3
    strengths: tuple[float, ...] = (0.4, 0.1, 1.0)
    near: float = 0.4
    members: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class DrawnBank:
    """One bank of a pool, and its other images as queries.

    Attributes:
        source: Data set.
        name: Class within it.
        kind: "flaw" or "kind", what its anomalies are.
        good: [N, F], signals of good images.
        bad: [M, F], signals of anomalous ones.
        among: [K, F], signals of the normals against each other; None where K is 1.
    """

    source: str
    name: str
    kind: str
    good: Tensor
    bad: Tensor
    among: Tensor | None


def draw_banks(
    pools: Sequence[Pool], kinds: Sequence[str], options: GatedOptions
) -> list[DrawnBank]:
    """Banks of every size from every pool.

    Args:
        pools: The pools.
        kinds: For each "flaw" or "kind".
        options: See there.
    """
    banks = []
    for number, (pool, kind) in enumerate(zip(pools, kinds, strict=True)):
        for shots in options.shots:
            for draw in range(options.draws if shots < pool.references else 0):
                rng = np.random.default_rng((options.seed, number, shots, draw))
                evidence, labels = bank_episode(pool, shots, rng)
                queries, among = read_signals(evidence)
                own = None if among is None else among[0]
                good, bad = queries[labels < 0.5], queries[labels > 0.5]
                banks.append(DrawnBank(pool.source, pool.name, kind, good, bad, own))
    return banks


def train_gated(
    banks: Sequence[DrawnBank],
    layers: int,
    options: GatedOptions,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[GatedHeads, dict[str, Any]]:
    """Fits the population to all banks, and a gate for each of ``LOOKS_FOR``.

    "flaw" and "kind" learn from the classes whose anomalies are such, or from all where there are
    none; "decide" from all.

    Args:
        banks: What :func:`draw_banks` has drawn.
        layers: D.
        options: See there.
        report: Called with figures of each gate.

    Returns:
        The heads, in evaluation mode, and a record of the run.
    """
    torch.manual_seed(options.seed)
    heads = GatedHeads(layers, options.members, count_prototypes(banks))
    shares = _equal_shares(banks)
    pairs = zip(banks, shares, strict=True)
    heads.population.fit([BankSignals(bank.good, bank.among, share) for bank, share in pairs])
    figures = {}
    for index, looks_for in enumerate(LOOKS_FOR):
        chosen = [bank for bank in banks if looks_for in (DECIDE, bank.kind)] or list(banks)
        figures[looks_for] = _train_gate(heads, looks_for, chosen, options)
        heads.gates[looks_for].strength.fill_(options.strengths[index])
        heads.offset[index], heads.scale[index] = _place(heads, looks_for, chosen)
        if report is not None:
            report({"looks_for": looks_for} | figures[looks_for])
    heads.eval().requires_grad_(False)
    return heads, {"options": dataclasses.asdict(options), "gates": figures}


def _train_gate(
    heads: GatedHeads, looks_for: str, banks: Sequence[DrawnBank], options: GatedOptions
) -> dict[str, Any]:
    gate = heads.gates[looks_for]
    with torch.no_grad():
        normals = torch.cat([_normals(heads, bank) for bank in banks])
        good = [heads.population.deviate(bank.good, _own(bank)) for bank in banks]
        bad = [heads.population.deviate(bank.bad, _own(bank)) for bank in banks]
        gate.mean.copy_(normals.mean(dim=0))
        gate.spread.copy_(normals.std(dim=0).clamp_min(1e-3))
        if looks_for == DECIDE:
            gate.prototypes.copy_(_prototypes(gate, banks, normals))
            gate.near.fill_(options.near)
    table = torch.cat([*good, *bad])
    sizes = np.array([len(rows) for rows in (*good, *bad)])
    starts = (np.cumsum(sizes) - sizes).reshape(2, -1)
    sizes = sizes.reshape(2, -1)
    shares = np.array(_equal_shares(banks))
    rng = np.random.default_rng((options.seed, LOOKS_FOR.index(looks_for)))
    optimizer = torch.optim.Adam(gate.parameters(), lr=options.learning_rate)
    losses = []
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * min(1.0, 2 * (1 - step / options.steps) + 0.02)
        drawn = rng.choice(len(banks), options.pairs, p=shares / shares.sum())
        rows = starts[:, drawn] + (rng.random((2, options.pairs)) * sizes[:, drawn]).astype(int)
        loss = gate_loss(gate, normals[drawn], table[rows[1]] - table[rows[0]], options)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    tail = losses[-max(1, options.steps // 10) :]
    return {"loss": float(np.mean(tail)), "classes": len({(b.source, b.name) for b in banks})}


def gate_loss(gate: Gate, normals: Tensor, apart: Tensor, options: GatedOptions) -> Tensor:
    """Logistic loss of pairs of one bank, of each network alone, and what restrains the weights.

    Args:
        gate: To be trained.
        normals: [B, G], descriptions of the banks.
        apart: [B, F], deviations of the anomalous images less those of the good ones.
        options: See there.

    Returns:
        A scalar.
    """
    weights = gate.members(normals)
    ranking = F.softplus(-(weights * apart).sum(dim=-1)).mean()
    mean = weights.mean(dim=(0, 1))
    restraint = options.restraint * mean[1:-1].sum() + options.text_restraint * mean[-1]
    return ranking + restraint + options.decay * gate.turn.square().sum() / len(gate.turn)


def count_prototypes(banks: Sequence[DrawnBank]) -> int:
    """Number of the classes, times the sizes of their banks."""
    return len({_size(bank) for bank in banks})


def _prototypes(gate: Gate, banks: Sequence[DrawnBank], normals: Tensor) -> Tensor:
    """The mean description of each class's banks of a size, as the gate reads it."""
    groups: dict[tuple[str, str, int], list[int]] = {}
    for index, bank in enumerate(banks):
        groups.setdefault(_size(bank), []).append(index)
    rows = gate.standardise(normals)
    return torch.stack([rows[group].mean(dim=0) for group in groups.values()])


def _size(bank: DrawnBank) -> tuple[str, str, int]:
    return bank.source, bank.name, 1 if bank.among is None else len(bank.among)


def _place(heads: GatedHeads, looks_for: str, banks: Sequence[DrawnBank]) -> tuple[float, float]:
    """Offset, which ``FALSE_ALARMS`` of the good images exceed, and scale."""
    sums, mass = [], []
    with torch.no_grad():
        for bank, share in zip(banks, _equal_shares(banks), strict=True):
            weights = heads.gates[looks_for](_normals(heads, bank))
            sums.append((weights * heads.population.deviate(bank.good, _own(bank))).sum(dim=-1))
            mass.append(torch.full((len(bank.good),), share / len(bank.good)))
    values, masses = torch.cat(sums), torch.cat(mass)
    masses = masses / masses.sum()
    order = values.argsort()
    reached = masses[order].cumsum(dim=0)
    offset = float(values[order][int((reached < 1.0 - FALSE_ALARMS).sum())])
    mean = (masses * values).sum()
    spread = float((masses * (values - mean) ** 2).sum().sqrt())
    return offset, STEEPNESS * spread


def good_scores(
    heads: GatedHeads, pools: Sequence[Pool], options: GatedOptions
) -> dict[str, dict[str, Any]]:
    """Figures of good images, for each of ``LOOKS_FOR`` and by the number of normals.

    Args:
        heads: Trained.
        pools: The auxiliary classes.
        options: The sizes and draws of the banks.
    """
    tables: dict[str, dict[str, Any]] = {}
    for looks_for in LOOKS_FOR:
        by_shots: dict[int, list[ScoredBank]] = {}
        for number, pool in enumerate(pools):
            for shots in options.shots:
                for draw in range(options.draws if shots < pool.references else 0):
                    rng = np.random.default_rng((options.seed, number, shots, draw))
                    bank = _scored_bank(heads, pool, looks_for, shots, rng)
                    by_shots.setdefault(shots, []).append(bank)
        tables[looks_for] = {str(k): fit_good_scores(banks) for k, banks in by_shots.items()}
    return tables


@torch.inference_mode()
def _scored_bank(
    heads: GatedHeads, pool: Pool, looks_for: str, shots: int, rng: np.random.Generator
) -> ScoredBank:
    normals = rng.choice(pool.references, shots, replace=False).tolist()
    good = [i for i in np.flatnonzero(~pool.anomalous.numpy()).tolist() if i not in normals]
    evidence = dataclasses.replace(pool.evidence(good, normals), looks_for=looks_for)
    own = heads.judge(evidence).fused.double().logit() if shots > 1 else torch.zeros(0)
    found = heads.account(evidence).log_odds.double()
    return ScoredBank(pool.source, pool.name, found.numpy(), own.numpy())


def _normals(heads: GatedHeads, bank: DrawnBank) -> Tensor:
    return heads.describe_normals(_own(bank))


def _own(bank: DrawnBank) -> Tensor | None:
    return None if bank.among is None else bank.among[None]


def _equal_shares(banks: Sequence[DrawnBank]) -> list[float]:
    """A weight for each bank: every source counts the same, and in it every class."""
    sizes = Counter(source for source, _ in {(bank.source, bank.name) for bank in banks})
    counts = Counter((bank.source, bank.name) for bank in banks)
    return [1 / (sizes[bank.source] * counts[bank.source, bank.name]) for bank in banks]
