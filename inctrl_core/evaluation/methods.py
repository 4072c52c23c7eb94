"""Other few-shot methods on the same features and draws, so that the method alone differs.

Each is its paper's recipe for a score, without what belongs to another backbone: windows of the
image, rotated copies of the normals, a smaller bank for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.backbone import ImageFeatures

NEIGHBOURS = 9  # PatchCore: patches of the bank that weigh the largest distance.
EXPLAINED = 0.99  # SubspaceAD: share of the variance that the principal components keep.
TAIL = 0.01  # SubspaceAD: share of the patches whose residuals are the image's score.


class Method(Protocol):
    """A method that has seen its normals, for several banks of them at once."""

    def __init__(self, normals: ImageFeatures, banks: Sequence[Sequence[int]]) -> None:
        """Takes the features of all normals, and the places in these of each bank's."""

    def scores(self, queries: ImageFeatures) -> Tensor:
        """Anomaly scores [banks, B] of B queries, at least 0, on the scale of the method."""


class PatchCore:
    """PatchCore (Roth et al., CVPR 2022, section 3.3) with every patch of the normals in its bank.

    The largest Euclidean distance of a patch to the bank, times the weight of the paper's
    equation 7.
    """

    def __init__(self, normals: ImageFeatures, banks: Sequence[Sequence[int]]) -> None:
        self._normals = average_neighbours(join_depths(normals.patches))
        self._banks = [list(bank) for bank in banks]

    def scores(self, queries: ImageFeatures) -> Tensor:
        """See :meth:`Method.scores`."""
        averaged = average_neighbours(join_depths(queries.patches))
        return torch.stack([self._scores(patches) for patches in averaged], dim=1)

    def _scores(self, patches: Tensor) -> Tensor:
        count, places, _ = self._normals.shape
        # To each normal alone, once for all banks.
        distances = torch.cdist(patches, self._normals.flatten(0, 1))
        nearest = distances.view(len(patches), count, places).amin(dim=2)
        scores = []
        for bank in self._banks:
            furthest = nearest[:, bank].amin(dim=1).argmax()
            row = distances[furthest].view(count, places)[bank].flatten()
            scores.append(weighted_distance(row, self._normals[bank].flatten(0, 1)))
        return torch.stack(scores)


class Subspace:
    """SubspaceAD (Lendering et al., CVPR 2026): the residual of a principal subspace."""

    def __init__(self, normals: ImageFeatures, banks: Sequence[Sequence[int]]) -> None:
        patches = join_depths(normals.patches)
        self._spaces = []
        for bank in banks:
            rows = patches[list(bank)].flatten(0, 1)
            self._spaces.append((rows.mean(dim=0), principal_components(rows)))

    def scores(self, queries: ImageFeatures) -> Tensor:
        """See :meth:`Method.scores`."""
        patches = join_depths(queries.patches)
        highest = max(1, round(TAIL * patches.shape[1]))
        scores = []
        for mean, components in self._spaces:
            centred = patches - mean
            explained = (centred @ components).square().sum(dim=2)
            residuals = (centred.square().sum(dim=2) - explained).clamp_min(0.0)
            scores.append(residuals.topk(highest, dim=1).values.mean(dim=1))
        return torch.stack(scores)


# With classes for those that read the features; WinCLIP's follows from the residuals and the text.
METHODS: dict[str, type[Method] | None] = {
    "patchcore": PatchCore,
    "subspace": Subspace,
    "winclip": None,
}


def join_depths(patches: Sequence[Tensor]) -> Tensor:
    """The depths side by side: one [B, P, C] from [B, P, C_d] each."""
    return torch.cat(list(patches), dim=-1)


def average_neighbours(patches: Tensor) -> Tensor:
    """Each patch averaged with those around it, 3 x 3, on a square grid (PatchCore, section 3.1).

    >>> average_neighbours(torch.tensor([[[4.0], [0.0], [0.0], [0.0]]]))[0, :, 0].tolist()
    [1.0, 1.0, 1.0, 1.0]

    Args:
        patches: [B, P, C].

    Returns:
        [B, P, C]; at the border the mean of those that exist.
    """
    count, places, width = patches.shape
    side = round(places**0.5)
    grid = patches.transpose(1, 2).reshape(count, width, side, side)
    averaged = F.avg_pool2d(grid, 3, stride=1, padding=1, count_include_pad=False)
    return averaged.flatten(2).transpose(1, 2)


def winclip_score(text_anomaly: Tensor, patch_map: Tensor) -> Tensor:
    """WinCLIP+ (Jeong et al., CVPR 2023, section 4.2): half the text, half the largest residual.

    The map has the patches of the backbone's depths and no windows of several sizes.

    >>> winclip_score(torch.tensor([0.5]), torch.tensor([[0.1, 0.3]])).tolist()
    [0.4000000059604645]

    Args:
        text_anomaly: [B], in [0, 1].
        patch_map: [B, P], in [0, 1].

    Returns:
        [B], in [0, 1].
    """
    return 0.5 * (text_anomaly + patch_map.amax(dim=1))


def weighted_distance(distances: Tensor, bank: Tensor) -> Tensor:
    """PatchCore's score of an image from its patch that is furthest from the bank (equation 7).

    The distance counts less where the patch is as far from all that surrounds its nearest patch of
    the bank: there the bank is dense, and a distance less surprising.

    >>> bank = torch.tensor([[0.0], [1.0]])
    >>> round(weighted_distance(torch.tensor([3.0, 2.0]), bank).item(), 4)
    1.4621

    Args:
        distances: [R], of that patch to each of the bank.
        bank: [R, C].

    Returns:
        A number of at least 0.
    """
    found = distances.argmin()
    around = torch.cdist(bank[found][None], bank)[0]
    neighbours = around.topk(min(NEIGHBOURS, len(bank)), largest=False).indices
    shares = distances[neighbours].exp()
    return (1.0 - distances[found].exp() / shares.sum()) * distances[found]


def principal_components(patches: Tensor) -> Tensor:
    """The fewest principal components that explain ``EXPLAINED`` of the variance.

    Args:
        patches: [R, C].

    Returns:
        [C, M], columns of unit length at right angles.
    """
    # On the CPU: not every device has this decomposition.
    values, vectors = torch.linalg.eigh(torch.cov(patches.T, correction=0).cpu())
    shares = values.flip(0).clamp_min(0.0).cumsum(0) / values.clamp_min(0.0).sum()
    count = int((shares < EXPLAINED).sum()) + 1
    return vectors.flip(1)[:, :count].to(patches.device)
