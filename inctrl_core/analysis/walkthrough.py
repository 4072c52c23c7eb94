"""The steps between a query and its score, one by one, for those who want to follow them.

Nothing here runs the backbone: every figure is a field of a score or follows from a bank and an
encoded query, through the same functions and the same heads that made the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ModelError, PromptError
from ..model.bank import PromptBank
from ..model.calibrated import CalibratedHeads, order_statistics, top_counts
from ..model.detector import Detector, EncodedImages
from ..model.evidence import Evidence
from ..model.heads import ReferenceHeads, ScoreHead, TrainingFreeFusion
from ..model.residuals import global_distance
from ..model.score import Score


@dataclass(frozen=True, eq=False)
class PatchComparison:
    """One patch of the query against every patch of the normals.

    Attributes:
        similarities: float32 [D, K, G, G], cosine with each patch of each normal, in [-1, 1].
        features: D arrays [C_d], the patch's own features, of unit length.
    """

    similarities: np.ndarray
    features: tuple[np.ndarray, ...]

    def best(self, layer: int) -> tuple[int, int, int]:
        """(normal, row, column) of the most similar patch at a layer; the first of equal ones."""
        values = self.similarities[layer]
        normal, row, column = np.unravel_index(int(values.argmax()), values.shape)
        return int(normal), int(row), int(column)


def compare_patch(
    bank: PromptBank, encoded: EncodedImages, row: int, column: int
) -> PatchComparison:
    """All the similarities of which a patch residual keeps the largest.

    ``0.5 * (1 - max)`` at a layer is the value of ``layer_maps`` there (the paper's patch-level
    residual), and the place of the maximum that of ``nearest``.

    Args:
        bank: The normals.
        encoded: One query.
        row: Row of its patch, from 0.
        column: Likewise.

    Raises:
        PromptError: The patch lies outside the grid.
    """
    grid = _grid(encoded)
    index = _index(grid, row, column)
    similarities, features = [], []
    for query, normals in zip(encoded.features.patches, bank.features.patches, strict=True):
        patch = query[0, index]
        cosines = (normals.flatten(0, 1) @ patch).clamp(-1.0, 1.0)
        similarities.append(cosines.view(len(normals), grid, grid).cpu().numpy())
        features.append(patch.cpu().numpy())
    return PatchComparison(np.stack(similarities), tuple(features))


def normal_patch(bank: PromptBank, layer: int, normal: int, row: int, column: int) -> np.ndarray:
    """The features of one patch of one normal at a layer: [C_d], of unit length.

    Raises:
        PromptError: The patch lies outside the grid.
    """
    patches = bank.features.patches[layer][normal]
    return patches[_index(round(len(patches) ** 0.5), row, column)].cpu().numpy()


@dataclass(frozen=True)
class Term:
    """One signal of a weighted sum.

    Attributes:
        signal: A name of ``TrainingFreeFusion.SIGNALS``.
        weight: Its weight in ``holistic``, above 0.
        value: What the query shows, in [0, 1].
    """

    signal: str
    weight: float
    value: float


@dataclass(frozen=True)
class TrainingFreeAccount:
    """How the training-free fusion came to its score.

    Attributes:
        distances: K, half the cosine distance of the whole image to each normal, in [0, 1]; the
            smallest is ``image_residual``.
        terms: Their weighted sum is ``holistic``.
    """

    distances: tuple[float, ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True, eq=False)
class ReferenceAccount:
    """How the heads of the paper came to their score.

    Attributes:
        residual: float32 [E], the mean adapted embedding of the normals minus that of the query,
            which the image head reads.
        shifted_map: float32 [G, G], M+, which the map head reads.
        image_layers: Widths of the image head, from its input to its one output.
        map_layers: Likewise of the map head.
    """

    residual: np.ndarray
    shifted_map: np.ndarray
    image_layers: tuple[int, ...]
    map_layers: tuple[int, ...]


@dataclass(frozen=True)
class Deviation:
    """One statistic of the query, relative to what is expected of a good image of its kind.

    Attributes:
        patches: Largest patches of the mean map that were averaged.
        value: Their mean patch residual, in [0, 1].
        deviation: Distance of its logarithm from the expectation, in standard deviations
            of good images; clipped as the heads clip it.
    """

    patches: int
    value: float
    deviation: float


@dataclass(frozen=True)
class CalibratedAccount:
    """How the calibrated heads came to their score.

    Attributes:
        distances: K, half the cosine distance of the whole image to each normal, in [0, 1].
        deviations: Deviations of the mean map, the largest patch first.
        closest_deviation: Deviation of the distance to the closest normal.
        mean_deviation: Deviation of the mean distance.
        statistics: Number of deviations that the ensemble reads, those above among them.
        image_logit: ``image_residual`` before the sigmoid.
        surprise_weight: Weight of the first deviation.
        surprise_bias: Added to it.
        surprise: Sigmoid of both, in [0, 1]; half of the score.
        members: One logit for each network; ``holistic`` is the sigmoid of their mean.
    """

    distances: tuple[float, ...]
    deviations: tuple[Deviation, ...]
    closest_deviation: float
    mean_deviation: float
    statistics: int
    image_logit: float
    surprise_weight: float
    surprise_bias: float
    surprise: float
    members: tuple[float, ...]


FusionAccount = TrainingFreeAccount | ReferenceAccount | CalibratedAccount


def fusion_account(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, score: Score
) -> FusionAccount:
    """The steps between the signals and the score, for the model's form of fusion.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        encoded: One query.
        score: Its score against the bank.

    Raises:
        ModelError: The model's form of fusion is none of those known.
    """
    heads = detector.heads
    with torch.inference_mode():
        embeddings = encoded.features.embeddings
        layer_maps = torch.from_numpy(score.layer_maps).to(embeddings.device).flatten(-2)[None]
        evidence = detector.evidence(layer_maps, embeddings, bank)
        if isinstance(heads, TrainingFreeFusion):
            return _training_free(heads, evidence, score)
        if isinstance(heads, ReferenceHeads):
            return _reference(heads, evidence, score)
        if isinstance(heads, CalibratedHeads):
            return _calibrated(heads, evidence)
    raise ModelError("The fusion of this model cannot be followed step by step.")


def _training_free(
    heads: TrainingFreeFusion, evidence: Evidence, score: Score
) -> TrainingFreeAccount:
    values = {
        "patch_max": score.patch_max,
        "patch_mean": float(score.patch_map.mean()),
        "image": score.image_residual,
        "text": score.text_anomaly,
    }
    terms = (Term(name, weight, values[name]) for name, weight in heads.weights.items() if weight)
    return TrainingFreeAccount(_distances(evidence), tuple(terms))


def _reference(heads: ReferenceHeads, evidence: Evidence, score: Score) -> ReferenceAccount:
    normals = heads.adapter(evidence.normal_embeddings)[0].mean(dim=0)
    residual = normals - heads.adapter(evidence.embeddings)[0]
    return ReferenceAccount(
        residual=residual.cpu().numpy(),
        shifted_map=score.patch_map + np.float32(score.image_residual + score.text_anomaly),
        image_layers=_widths(heads.image_head),
        map_layers=_widths(heads.map_head),
    )


def _calibrated(heads: CalibratedHeads, evidence: Evidence) -> CalibratedAccount:
    descriptors = heads.describe(evidence)
    logits = heads.logits(descriptors)
    row = descriptors[0].tolist()
    # Behind the statistics stand 1 / K and whether K is 1.
    statistics = len(row) - 2
    counts = top_counts(evidence.layer_maps.shape[-1])
    values = order_statistics(evidence.layer_maps)[0, : len(counts)].exp().tolist()
    # The mean map's statistics come first.
    deviations = map(Deviation, counts, values, row[: len(counts)])
    return CalibratedAccount(
        distances=_distances(evidence),
        deviations=tuple(deviations),
        closest_deviation=row[statistics - 2],
        mean_deviation=row[statistics - 1],
        statistics=statistics,
        image_logit=float(logits.image),
        surprise_weight=float(heads.surprise_head.weight),
        surprise_bias=float(heads.surprise_head.bias),
        surprise=float(logits.surprise.sigmoid()),
        members=tuple(logits.members[:, 0].tolist()),
    )


def _distances(evidence: Evidence) -> tuple[float, ...]:
    distances: Tensor = global_distance(evidence.embeddings, evidence.normal_embeddings)
    return tuple(distances[0].tolist())


def _widths(head: ScoreHead) -> tuple[int, ...]:
    linear = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    return (linear[0].in_features, *(layer.out_features for layer in linear))


def _grid(encoded: EncodedImages) -> int:
    return round(encoded.features.patches[0].shape[1] ** 0.5)


def _index(grid: int, row: int, column: int) -> int:
    if not (0 <= row < grid and 0 <= column < grid):
        raise PromptError(f"Choose a row and a column between 1 and {grid}.")
    return row * grid + column
