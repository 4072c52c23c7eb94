"""Masks of defects as data sets have them: what they mark, and what of it the model sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ..config import PreprocessConfig
from ..errors import ImageError, name_some
from ..image_files import images_in, open_values, upright_size
from ..preprocessing import CropBox, seen_box
from .datasets import DataError, Query, Subset

# Different values of a map of labels, as a picture with soft edges has more; and how many there may
# be where they are numbers without a gap, as of the defects of an image.
MOST_LABELS, MOST_NUMBERS = 16, 128


def open_mask(path: Path) -> np.ndarray:
    """Reads which pixels a mask, or any of a folder of masks, marks: bool [H, W].

    In a map of labels (``MOST_LABELS`` values at most, or ``MOST_NUMBERS`` from 0 on without a gap)
    all but 0 mark; in a picture, which may have soft edges or traces of a lossy format, what
    exceeds half of its brightest value. What is transparent marks nothing.

    Raises:
        ImageError: It cannot be read, or those of a folder differ in size.
    """
    if path.is_dir():
        masks = [open_mask(inside) for inside in images_in(path)]
        if len({mask.shape for mask in masks}) > 1:
            raise ImageError(f"The masks in {path} differ in size; save them in their image's.")
        return np.logical_or.reduce(masks)
    values = open_values(path)
    return values > (0 if _are_labels(_distinct(values)) else values.max() / 2)


def crop_mask(mask: np.ndarray, config: PreprocessConfig, crop_box: CropBox) -> np.ndarray:
    """What the model sees of a mask: a pixel of its crop is defective where any part of it is.

    So no defect is lost, however small beside the pixels that it is reduced to.

    Args:
        mask: bool [H, W], of the size of its image.
        config: How the model's images become squares, of side S.
        crop_box: Of the image.

    Returns:
        bool [S, S].

    Raises:
        ImageError: The mask is not the size of its image.
    """
    height, width = mask.shape
    size = config.image_size
    if not np.allclose(seen_box((width, height), size, config.resize_mode), crop_box, atol=1e-6):
        raise ImageError(
            f"A mask of {width} x {height} pixels is not the size of its image; "
            "save it in the image's size."
        )
    left, top, right, bottom = crop_box
    # The sum over any rectangle is a difference of four sums over what lies above and left of it.
    sums = np.pad(mask.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    (above, below), (before, after) = (
        _spans(top, bottom, size, height),
        _spans(left, right, size, width),
    )
    marked = sums[np.ix_(below, after)] - sums[np.ix_(above, after)]
    marked -= sums[np.ix_(below, before)] - sums[np.ix_(above, before)]
    return marked > 0


def check_masks(subset: Subset, skip: bool = False) -> tuple[Subset, list[str]]:
    """Reads every mask once, before anything long begins.

    Args:
        subset: With or without masks.
        skip: Whether those that cannot be used are left out, and only told.

    Returns:
        The subset with the masks that can be used, and sentences about the others and about
        anomalous images that have none.

    Raises:
        DataError: Names those that cannot be used, unless they are to be left out.
    """
    if not subset.has_masks:
        return subset, []
    wrong = {query.mask: why for query in subset.queries if (why := _problem(query))}
    if wrong and not skip:
        listed = name_some([f"{path} ({why})" for path, why in wrong.items()])
        raise DataError(f"These masks cannot be used: {listed}; mend or remove them.")
    notes = [f"{subset.name}: left out {path} ({why})" for path, why in wrong.items()]
    queries = tuple(
        dataclasses.replace(query, mask=None) if query.mask in wrong else query
        for query in subset.queries
    )
    anomalous = [query for query in queries if query.anomalous]
    without = sum(query.mask is None for query in anomalous)
    if without:
        notes.append(
            f"{subset.name}: {without} of {len(anomalous)} anomalous images have no mask; the "
            "figures by pixel leave them out"
        )
    return dataclasses.replace(subset, queries=queries), notes


def _are_labels(distinct: np.ndarray) -> bool:
    count = len(distinct)
    return count <= MOST_LABELS or (count <= MOST_NUMBERS and distinct[-1] == count - 1)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Its different values, ascending."""
    if values.dtype.kind in "bu":  # Ten times as fast as sorting them.
        return np.flatnonzero(np.bincount(values.ravel()))
    return np.unique(values)


def _problem(query: Query) -> str:
    """Why a mask cannot be used; empty where it can, or where there is none."""
    if query.mask is None:
        return ""
    try:
        height, width = open_mask(query.mask).shape
    except ImageError:
        return "it cannot be read"
    try:
        sides = upright_size(query.path)
    except ImageError:
        return ""  # The image itself is at fault, and told where it is opened.
    own = f"{width} x {height} pixels"
    return "" if (width, height) == sides else f"{own}, its image {sides[0]} x {sides[1]}"


def _spans(start: float, end: float, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last of the pixels that each of ``count`` equal parts touches."""
    edges = start + (end - start) * np.arange(count + 1) / count
    # A part that only touches a pixel by rounding does not see it.
    first = np.floor(edges[:-1] + 1e-6).astype(int)
    past = np.ceil(edges[1:] - 1e-6).astype(int)
    return first.clip(0, length - 1), past.clip(1, length)
