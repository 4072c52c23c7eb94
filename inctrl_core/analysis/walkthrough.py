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
from ..model.detector import Detector, EncodedImages
from ..model.evidence import Evidence
from ..model.gated import GatedHeads
from ..model.heads import ReferenceHeads, ScoreHead, TrainingFreeFusion
from ..model.residuals import global_distance
from ..model.score import Score
from ..model.signals import IMAGE, TEXT
from .explanations import Breakdown, break_down, evidence_of


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
class GatedAccount:
    """How the gated heads came to their score.

    Attributes:
        distances: K, half the cosine distance of the whole image to each normal, in [0, 1].
        breakdown: The signals, their weights and their shares.
        image_deviation: Mean deviation of the two distances; ``image_residual`` is its sigmoid.
        text_deviation: Deviation of the text; ``text_anomaly`` is its sigmoid.
        members: Members of the gate whose mean the weights are.
    """

    distances: tuple[float, ...]
    breakdown: Breakdown
    image_deviation: float
    text_deviation: float
    members: int


FusionAccount = TrainingFreeAccount | ReferenceAccount | GatedAccount


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
        evidence = evidence_of(detector, bank, encoded, score)
        if isinstance(heads, TrainingFreeFusion):
            return _training_free(heads, evidence, score)
        if isinstance(heads, ReferenceHeads):
            return _reference(heads, evidence, score)
        if isinstance(heads, GatedHeads):
            return _gated(heads, evidence)
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


def _gated(heads: GatedHeads, evidence: Evidence) -> GatedAccount:
    parts = break_down(heads, evidence)
    deviations = {
        group: [share.deviation for share in parts.shares if share.group == group]
        for group in (IMAGE, TEXT)
    }
    return GatedAccount(
        distances=_distances(evidence),
        breakdown=parts,
        image_deviation=sum(deviations[IMAGE]) / len(deviations[IMAGE]),
        text_deviation=sum(deviations[TEXT]) / len(deviations[TEXT]),
        members=len(heads.gates[evidence.looks_for].turn),
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
