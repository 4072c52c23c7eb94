"""The pure tensor functions of in-context residual learning.

No model, no state, no device of their own: every function works wherever its arguments live.
Shapes use B queries, K normal prompts, D depths, P = G * G patches, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Each = Callable[..., Iterator]  # Called as Python's ``map``.

TEXT_SCALE = 100.0  # Of cosines with prompts; where CLIP's trained logit scale ends.

# Similarities held at once, in elements: 32 MiB of float32, whatever the bank's size.
_CHUNK_ELEMENTS = 8 * 2**20


def resample_to_grid(features: Tensor, grid: int) -> Tensor:
    """Brings a feature map to ``grid`` x ``grid`` and lists its patches.

    A finer map is averaged over the cells of the grid, a coarser one interpolated bilinearly.

    Args:
        features: [B, C, H, W].
        grid: G.

    Returns:
        [B, G * G, C], row by row.
    """
    if features.shape[-1] > grid or features.shape[-2] > grid:
        # Metal's kernel takes only sizes that the grid divides.
        on_metal = features.device.type == "mps"
        average = average_by_products if on_metal else F.adaptive_avg_pool2d
        features = average(features, grid)
    elif features.shape[-2:] != (grid, grid):
        features = F.interpolate(features, (grid, grid), mode="bilinear", align_corners=False)
    return features.flatten(2).transpose(1, 2).contiguous()


def average_by_products(features: Tensor, grid: int) -> Tensor:
    """``F.adaptive_avg_pool2d`` but for rounding, as two matrix products, which any device has.

    >>> average_by_products(torch.tensor([[[[1.0, 2.0, 6.0]]]]), 2).tolist()
    [[[[1.5, 4.0], [1.5, 4.0]]]]

    Args:
        features: [B, C, H, W].
        grid: G.

    Returns:
        [B, C, G, G].
    """
    rows, columns = (_cell_weights(length, grid, features) for length in features.shape[-2:])
    return rows @ features @ columns.T


def _cell_weights(length: int, grid: int, like: Tensor) -> Tensor:
    """[G, length]: what each of ``length`` positions counts in the mean of each cell."""
    at = torch.arange(length, device=like.device)
    cell = torch.arange(grid, device=like.device)[:, None]
    # From the cell's start rounded down to its end rounded up: neighbours share what lies between.
    inside = (at >= cell * length // grid) & (at * grid < (cell + 1) * length)
    return inside.to(like.dtype) / inside.sum(dim=1, keepdim=True)


def nearest_patches(query: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each query patch to its closest normal patch at one depth.

    The paper's patch-level residual.
    ``0.5 * (1 - max cos)``: 0 for a direction that a normal patch has too, 0.5 for one at right
    angles to all, 1 for the opposite of all.

    >>> query = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> normals = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> nearest_patches(query, normals)[0].tolist()
    [[0.0, 0.5]]

    Args:
        query: [B, P, C], rows of unit length.
        normals: [K, P, C], rows of unit length.

    Returns:
        Distances [B, P] in [0, 1], and int64 [B, P], the index of the closest patch among K * P.
    """
    flat = normals.flatten(0, 1)
    rows = max(1, _CHUNK_ELEMENTS // flat.shape[0])
    distances, indices = [], []
    # One product per query and chunk of rows: the result of a query never depends on its batch.
    for patches in query:
        for part in patches.split(rows):
            cosine, index = (part @ flat.T).max(dim=1)
            distances.append(0.5 * (1.0 - cosine))
            indices.append(index)
    shape = query.shape[:2]
    return torch.cat(distances).clamp(0.0, 1.0).view(shape), torch.cat(indices).view(shape)


def nearest_per_normal(query: Tensor, normals: Tensor) -> Tensor:
    """Distance of each query patch to its closest patch in each normal alone, at one depth.

    The minimum over any of the normals is :func:`nearest_patches` against those, so one table
    serves every choice of prompts.

    >>> query = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> normals = torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    >>> nearest_per_normal(query, normals)[0].tolist()
    [[0.0, 0.5], [1.0, 0.5]]

    Args:
        query: [B, P, C], rows of unit length.
        normals: [K, R, C], rows of unit length.

    Returns:
        [B, K, P], in [0, 1].
    """
    flat = normals.flatten(0, 1)
    rows = max(1, _CHUNK_ELEMENTS // flat.shape[0])
    cosines = [
        (part @ flat.T).unflatten(1, normals.shape[:2]).amax(dim=2)
        for patches in query
        for part in patches.split(rows)
    ]
    distances = (0.5 * (1.0 - torch.cat(cosines))).clamp(0.0, 1.0)
    return distances.unflatten(0, query.shape[:2]).transpose(1, 2)


def layer_residuals(
    query: Sequence[Tensor], normals: Sequence[Tensor], each: Each = map
) -> tuple[Tensor, Tensor]:
    """:func:`nearest_patches` at every depth.

    Args:
        query: D tensors [B, P, C_d].
        normals: D tensors [K, P, C_d].
        each: Python's ``map``, or one that has several calls computed at once.

    Returns:
        Distances [B, D, P], indices [B, D, P].
    """
    count, depths = len(query[0]), list(zip(query, normals, strict=True))
    # The last depth first: it is the widest, and what takes longest is to begin first.
    pairs = [(image[None], others) for own, others in reversed(depths) for image in own]
    found = list(each(nearest_patches, *zip(*pairs, strict=True)))
    parts = [found[start : start + count] for start in range(0, len(found), count)]
    distances, indices = (
        torch.stack([torch.cat(images) for images in result], dim=1)
        for result in zip(*(zip(*part, strict=True) for part in reversed(parts)), strict=True)
    )
    return distances, indices


def pairwise_residuals(normals: Sequence[Tensor]) -> Tensor:
    """Distance of every patch of each normal to its closest patch in each other normal.

    The table from which leave-one-out maps of any subset of the normals follow by a minimum,
    without another product.

    Args:
        normals: D tensors [K, P, C_d], rows of unit length.

    Returns:
        [K, K, D, P]; entry (i, j) is normal i as a query against normal j alone.
    """
    return residuals_per_normal(normals, normals)


def residuals_per_normal(query: Sequence[Tensor], normals: Sequence[Tensor]) -> Tensor:
    """:func:`nearest_per_normal` at every depth.

    Args:
        query: D tensors [B, P, C_d], rows of unit length.
        normals: D tensors [K, P, C_d], rows of unit length.

    Returns:
        [B, K, D, P].
    """
    pairs = zip(query, normals, strict=True)
    return torch.stack([nearest_per_normal(*pair) for pair in pairs], dim=2)


def residuals_both_ways(one: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Residuals of an image against each of others, and of each of those against it.

    One product for both, so a table of all images against all takes half of them.

    >>> one, other = torch.eye(2), torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> [maps.tolist() for maps in residuals_both_ways([one], [other])]
    [[[0.0, 0.5]], [[0.0, 0.5]]]

    Args:
        one: D tensors [P, C_d], rows of unit length.
        others: D tensors [N, P, C_d], rows of unit length.

    Returns:
        Two of [N, P] in [0, 1], the mean over depths: the image's own patches, and the others'.
    """
    own, theirs = [], []
    for patches, flat in zip(one, others, strict=True):
        cosine = (patches @ flat.flatten(0, 1).T).unflatten(1, flat.shape[:2])
        own.append(cosine.amax(dim=2).T)
        theirs.append(cosine.amax(dim=0))
    return tuple(
        (0.5 * (1.0 - torch.stack(maps).mean(dim=0))).clamp(0.0, 1.0) for maps in (own, theirs)
    )


def leave_one_out(pairwise: Tensor, left_out: Tensor | None = None) -> Tensor:
    """Each normal's residual maps against the other K - 1, or against fewer of them.

    >>> table = torch.tensor([[0.0, 0.3, 0.2], [0.1, 0.0, 0.4], [0.5, 0.6, 0.0]])
    >>> leave_one_out(table[:, :, None, None]).flatten().tolist()
    [0.20000000298023224, 0.10000000149011612, 0.5]

    Args:
        pairwise: [K, K, ...] of :func:`pairwise_residuals`, K >= 2.
        left_out: bool [K, K], true where normal j is left out for normal i; None for itself alone.

    Returns:
        [K, ...].

    Raises:
        ValueError: A normal has no others, as where K is 1.
    """
    shots = pairwise.shape[0]
    if left_out is None:
        left_out = torch.eye(shots, dtype=torch.bool)
    if left_out.all(dim=1).any():
        raise ValueError("leave-one-out needs at least two normals")
    left_out = left_out.to(pairwise.device).view(shots, shots, *[1] * (pairwise.dim() - 2))
    return pairwise.masked_fill(left_out, float("inf")).amin(dim=1)


def distances_in_place(query: Sequence[Tensor], normals: Sequence[Tensor]) -> Tensor:
    """Distance of every patch of each query to the patch at the same place in each normal.

    Half the cosine distance, mean over depths.

    Args:
        query: D tensors [B, P, C_d], rows of unit length.
        normals: D tensors [K, P, C_d], rows of unit length.

    Returns:
        [B, K, P], in [0, 1].
    """
    cosines = [
        (own[:, None] * other).sum(dim=-1) for own, other in zip(query, normals, strict=True)
    ]
    return (0.5 * (1.0 - torch.stack(cosines).mean(dim=0))).clamp(0.0, 1.0)


def compare_places(one: Sequence[Tensor], other: Sequence[Tensor]) -> tuple[float, float]:
    """Compares the patches of two images with those at all other places.

    A patch finds its own place where none of the other image's patches is more like it, by the mean
    over depths, than the one at the same place.

    >>> image = [torch.eye(3)]
    >>> compare_places(image, image)
    (1.0, 0.5)
    >>> round(compare_places(image, [torch.eye(3)[[1, 0, 2]]])[0], 6)
    0.0

    Args:
        one: D tensors [P, C_d], rows of unit length.
        other: The same of the other image.

    Returns:
        The share of patches that find their own place: at most 1, the smaller of both directions; 0
        where it is no more than chance, as it always is with a single patch. And the mean distance,
        in [0, 1], of a place to the nearest one elsewhere in the other image, by either direction.
    """
    cosines = sum(own @ others.T for own, others in zip(one, other, strict=True)) / len(one)
    in_place = cosines.diagonal() + 1e-6  # No rounding makes another place the better one.
    share = min(float((in_place >= cosines.amax(dim=axis)).float().mean()) for axis in (0, 1))
    chance = 1.0 / len(cosines)
    share = max(0.0, (share - chance) / (1.0 - chance)) if len(cosines) > 1 else 0.0
    elsewhere = cosines.masked_fill(torch.eye(len(cosines), device=cosines.device) > 0, -1.0)
    nearest = torch.maximum(elsewhere.amax(dim=0), elsewhere.amax(dim=1)).clamp(-1.0, 1.0)
    return share, float(0.5 * (1.0 - nearest.mean()))


def text_prototype(embeddings: Tensor) -> Tensor:
    """Mean direction of a group of prompts: normalise, average, normalise again.

    Args:
        embeddings: [N, E].

    Returns:
        [E], of unit length.
    """
    return F.normalize(F.normalize(embeddings, dim=-1).mean(dim=0), dim=-1)


def text_anomaly(
    image: Tensor, normal: Tensor, anomaly: Tensor, scale: float = TEXT_SCALE
) -> Tensor:
    """Softmax share of the anomaly prototype (the paper's text prior).

    >>> both = torch.eye(2)
    >>> text_anomaly(both[:1], both[0], both[0]).item()
    0.5

    Args:
        image: [B, E] global embeddings of any length.
        normal: [E], unit length.
        anomaly: [E], unit length.
        scale: Multiplies the cosines.

    Returns:
        [B], in [0, 1].
    """
    # Sums of products, not a matrix product: the result of a query never depends on its batch.
    image = F.normalize(image, dim=-1)
    cosines = torch.stack([(image * group).sum(dim=-1) for group in (normal, anomaly)], dim=-1)
    return torch.softmax(scale * cosines, dim=-1)[:, 1]


def global_distance(query: Tensor, normals: Tensor) -> Tensor:
    """Half the cosine distance of global embeddings, query by normal.

    Args:
        query: [B, E].
        normals: [K, E], or [B or 1, K, E] where queries have normals of their own.

    Returns:
        [B, K], in [0, 1].
    """
    # Sums of products, not a matrix product: the result of a query never depends on its batch.
    cosine = (F.normalize(query, dim=-1)[:, None] * F.normalize(normals, dim=-1)).sum(dim=-1)
    return (0.5 * (1.0 - cosine)).clamp(0.0, 1.0)
