"""Why one query got its score: its signals, its words and the counterparts of its patches.

Nothing here runs the backbone: every figure follows from a bank and an encoded query, through the
same fusion that made the score.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import PromptError
from ..model.bank import PromptBank
from ..model.detector import Detector, EncodedImages
from ..model.evidence import Evidence
from ..model.gated import GatedHeads
from ..model.residuals import TEXT_SCALE, global_distance, text_anomaly
from ..model.score import Score
from ..model.signals import TEXT


@dataclass(frozen=True)
class LedgerEntry:
    """One signal of the fusion, and the score had it been unremarkable.

    Attributes:
        signal: "patches", "image" or "text".
        value: What the query shows: ``patch_max``, ``image_residual`` or ``text_anomaly``.
        neutral: The same of the closest normal, which takes the query's place in this signal.
        fused_without: The fused score after that exchange.
        change: Fused score minus ``fused_without``: the signal's contribution, given the others.
    """

    signal: str
    value: float
    neutral: float
    fused_without: float
    change: float


@dataclass(frozen=True)
class Share:
    """One signal of a gated fusion, and its share in the score.

    Attributes:
        signal: Name of the signal, see :class:`inctrl_core.model.signals.Signal`.
        group: "patches", "image" or "text".
        value: What the query shows, in [0, 1]: a mean patch residual, a distance or the share of
            the damage phrases.
        deviation: How far its logarithm (of the text the log-odds) lies above what the normals lead
            to expect of a good image, in standard deviations of good images.
        weight: What the normals make of it, none negative.
        share: ``weight * deviation``.
    """

    signal: str
    group: str
    value: float
    deviation: float
    weight: float
    share: float


@dataclass(frozen=True)
class Breakdown:
    """The parts of a gated score; they add up to it exactly.

    Attributes:
        shares: One for each signal, the largest patch first.
        offset: What is taken away from their sum: then 0 is what one good image in 20 of the
            auxiliary classes exceeds.
        log_odds: The sum less the offset, and what defects add; the score is its sigmoid.
        looks_for: What the bank looks for.
        defects: What known defects add; None without any.
    """

    shares: tuple[Share, ...]
    offset: float
    log_odds: float
    looks_for: str
    defects: float | None = None

    def of(self, group: str) -> float:
        """The shares of a group together."""
        return sum(share.share for share in self.shares if share.group == group)


@dataclass(frozen=True)
class Ledger:
    """Counterfactual account of one score. The changes need not add up.

    Attributes:
        fused: The score as it is.
        closest: Index of the normal whose global embedding is closest to the query's.
        entries: The entries "patches", "image" and "text".
        breakdown: The parts that do add up, of a gated fusion; None of others.
    """

    fused: float
    closest: int
    entries: tuple[LedgerEntry, ...]
    breakdown: Breakdown | None = None


def fusion_ledger(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, score: Score
) -> Ledger:
    """Re-fuses a query with one signal at a time replaced by that of its closest normal.

    Neutral means, for the patches, the closest normal's own maps against the other normals; for the
    image, its global embedding against theirs; both are zero where it is the only one. For the
    text, it means what the prompts say of it. The normals that the image is held against are one
    fewer then, which gated heads take into account.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        encoded: One query.
        score: Its score against the bank.
    """
    query, neutral, closest = _query_and_neutral(detector, bank, encoded, score)
    nowhere = torch.full_like(query.layer_maps, -1, dtype=torch.long)

    def fuse(evidence: Evidence) -> Score:
        return detector.fuse(evidence, nowhere, encoded.crop_boxes)[0]

    others = bank.others(closest)
    reference = detector.score_normal(closest, bank) if others else fuse(neutral)
    swap = dataclasses.replace
    swapped = {
        "patches": (
            "patch_max",
            swap(query, layer_maps=neutral.layer_maps, shift=neutral.shift),
        ),
        # From the other side: an embedding goes with the normals that it is held against.
        "image": (
            "image_residual",
            swap(
                neutral,
                layer_maps=query.layer_maps,
                text_anomaly=query.text_anomaly,
                shift=query.shift,
            ),
        ),
        "text": ("text_anomaly", swap(query, text_anomaly=neutral.text_anomaly)),
    }
    entries = []
    for signal, (score_field, evidence) in swapped.items():
        without = fuse(evidence).fused
        entries.append(
            LedgerEntry(
                signal=signal,
                value=getattr(score, score_field),
                neutral=getattr(reference, score_field),
                fused_without=without,
                change=score.fused - without,
            )
        )
    parts = break_down(detector.heads, query) if isinstance(detector.heads, GatedHeads) else None
    return Ledger(score.fused, closest, tuple(entries), parts)


@torch.inference_mode()
def break_down(heads: GatedHeads, evidence: Evidence) -> Breakdown:
    """The parts of the score of the first query of ``evidence``."""
    account = heads.account(evidence)
    columns = zip(
        heads.signals,
        account.values[0].tolist(),
        account.deviations[0].tolist(),
        account.weights[0].tolist(),
        account.shares[0].tolist(),
        strict=True,
    )
    shares = tuple(
        Share(
            signal.name,
            signal.group,
            1 / (1 + math.exp(-value)) if signal.group == TEXT else math.exp(value),
            deviation,
            weight,
            share,
        )
        for signal, value, deviation, weight, share in columns
    )
    offset, log_odds = float(account.offset), float(account.log_odds[0])
    defects = None if evidence.shift is None else float(evidence.shift[0])
    return Breakdown(shares, offset, log_odds + (defects or 0.0), evidence.looks_for, defects)


@torch.inference_mode()
def _query_and_neutral(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, score: Score
) -> tuple[Evidence, Evidence, int]:
    """The query's evidence, the same with one signal neutral, and the nearest normal."""
    embeddings = encoded.features.embeddings
    query = evidence_of(detector, bank, encoded, score)
    closest = int(global_distance(embeddings, bank.features.embeddings)[0].argmin())
    normal = bank.features.embeddings[closest : closest + 1]
    normal_maps = bank.normal_layer_maps
    maps = torch.zeros_like(query.layer_maps) if normal_maps is None else normal_maps[closest][None]
    # Against itself its embedding would be at no distance, which no other image reaches.
    kept = bank.others(closest)
    others = bank.without_patches().subset(kept) if kept else bank
    return query, detector.evidence(maps, normal, others), closest


def evidence_of(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, score: Score
) -> Evidence:
    """The evidence that one query's score came of, from the maps that the score holds."""
    embeddings = encoded.features.embeddings
    layer_maps = torch.from_numpy(score.layer_maps).to(embeddings.device).flatten(-2)[None]
    near = score.defect_map
    if near is not None:
        near = torch.from_numpy(near).to(embeddings.device).flatten()[None]
    return detector.evidence(layer_maps, embeddings, bank, near)


@dataclass(frozen=True)
class PhraseMatch:
    """A prompt against the query.

    Attributes:
        phrase: The prompt.
        cosine: With the query's global embedding, in [-1, 1].
        weight: Its softmax weight relative to the closest prompt of all, in [0, 1].
    """

    phrase: str
    cosine: float
    weight: float


@dataclass(frozen=True)
class TextEvidence:
    """The evidence of the text prompts about one query.

    Attributes:
        share: Softmax share of the anomaly prompts, the query's ``text_anomaly``.
        normal_shares: The same of each normal. Where the query's lies among them, the words say
            nothing against it, however large it is.
        normal_cosine: Cosine with the prototype of the normal prompts.
        anomaly_cosine: Cosine with the prototype of the anomaly prompts.
        normal: The closest normal prompts, closest first.
        anomaly: The closest anomaly prompts, closest first.
    """

    share: float
    normal_shares: tuple[float, ...]
    normal_cosine: float
    anomaly_cosine: float
    normal: tuple[PhraseMatch, ...]
    anomaly: tuple[PhraseMatch, ...]


def text_evidence(bank: PromptBank, encoded: EncodedImages, top: int = 3) -> TextEvidence:
    """Compares one query, and the normals, with the prompts.

    Args:
        bank: Holds the prompts.
        encoded: One query.
        top: Number of single prompts kept in each group.
    """
    text = bank.text
    image = F.normalize(encoded.features.embeddings[0], dim=-1)
    cosines = text.normal @ image, text.anomaly @ image
    largest = float(torch.cat(cosines).max())

    def closest(group: torch.Tensor, phrases: Sequence[str]) -> tuple[PhraseMatch, ...]:
        values, order = group.topk(min(top, len(phrases)))
        return tuple(
            PhraseMatch(phrases[i], cosine, math.exp(TEXT_SCALE * (cosine - largest)))
            for i, cosine in zip(order.tolist(), values.tolist(), strict=True)
        )

    def shares(embeddings: torch.Tensor) -> tuple[float, ...]:
        prototypes = text.normal_prototype, text.anomaly_prototype
        return tuple(text_anomaly(embeddings, *prototypes).tolist())

    return TextEvidence(
        share=shares(encoded.features.embeddings)[0],
        normal_shares=shares(bank.features.embeddings),
        normal_cosine=float(text.normal_prototype @ image),
        anomaly_cosine=float(text.anomaly_prototype @ image),
        normal=closest(cosines[0], text.prompts.normal),
        anomaly=closest(cosines[1], text.prompts.anomaly),
    )


@dataclass(frozen=True)
class PatchMatch:
    """Where a patch of the query has its closest counterpart, at one layer.

    Attributes:
        layer: Index of the layer, 0 for the shallowest.
        distance: Patch residual there, in [0, 1].
        normal: Index of the normal that holds the counterpart.
        row: Its row in that normal's grid.
        column: Its column.
    """

    layer: int
    distance: float
    normal: int
    row: int
    column: int


def patch_matches(score: Score, row: int, column: int) -> tuple[PatchMatch, ...]:
    """The provenance of one value of the map, one match per layer.

    Raises:
        PromptError: The patch lies outside the grid.
    """
    grid = score.patch_map.shape[0]
    if not (0 <= row < grid and 0 <= column < grid):
        raise PromptError(f"Choose a row and a column between 1 and {grid}.")
    return tuple(
        PatchMatch(layer, float(values[row, column]), *map(int, places[row, column]))
        for layer, (values, places) in enumerate(zip(score.layer_maps, score.nearest, strict=True))
    )
