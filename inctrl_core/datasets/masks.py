"""Masks of defects as data sets have them: what they mark, and what of it the model sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import PreprocessConfig
from ..errors import ImageError, name_some
from ..images.files import images_in, open_values, upright_size
from ..images.preprocessing import CropBox, seen_box
from .subsets import DataError, Query, Subset

# Different values of a map of labels, as a picture with soft edges has more; and how many there may
# be where they are numbers without a gap, as of the defects of an image.
MOST_LABELS, MOST_NUMBERS = 16, 128
# A mask that marks more than half of its image, and more than this of its border, looks inverted.
MOST_OF_BORDER = 0.9

NOTHING = "nothing on an anomalous image"
ON_GOOD = "something on a good image"
EVERYTHING = "the whole image"
INVERTED = "most of the image and its border, as inverted masks do"
# What masks may mark that looks wrong, and what follows.
_REMARKS = {
    NOTHING: "used as it is: no pixel of its image counts as defective",
    ON_GOOD: "not used; move the image to the bad ones, or remove the mask",
    EVERYTHING: "used as it is",
    INVERTED: "used as it is; where white means normal, invert it",
}


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


def mask_picture(path: str, side: int) -> Image.Image:
    """A mask as a picture for the screen, white where it marks; nothing thin is lost.

    Args:
        path: The mask, or the folder of several.
        side: Pixels of its longer side at most.

    Raises:
        ImageError: See :func:`open_mask`.
    """
    mask = open_mask(Path(path))
    step = -(-max(mask.shape) // side)
    rows, columns = (-length % step for length in mask.shape)
    cells = np.pad(mask, ((0, rows), (0, columns)))
    cells = cells.reshape(cells.shape[0] // step, step, cells.shape[1] // step, step)
    return Image.fromarray(cells.any(axis=(1, 3)).astype(np.uint8) * 255).convert("RGB")


def crop_mask(mask: np.ndarray, config: PreprocessConfig, crop_box: CropBox) -> np.ndarray:
    """The model's view of a mask: a pixel of its crop is defective where any part of it is.

    So no defect is lost, however small beside the pixels that it is reduced to.

    Args:
        mask: bool [H, W], of the size of its image.
        config: How the model's images become squares, of side S.
        crop_box: The image's crop box.

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

    A mask of an anomalous image that marks nothing or everything, or looks inverted, is used as it
    is; one of a good image is not.

    Args:
        subset: With or without masks.
        skip: Whether those that cannot be used are left out, and only told.

    Returns:
        The subset with the masks that can be used, all of anomalous images, and sentences about the
        others, about those that look wrong, and about anomalous images that have none.

    Raises:
        DataError: Names those that cannot be used, unless they are to be left out.
    """
    if all(query.mask is None for query in subset.queries):
        return subset, []
    found = {query.mask: _examined(query) for query in subset.queries if query.mask}
    wrong = {mask: why for mask, why in found.items() if why not in (*_REMARKS, "")}
    if wrong and not skip:
        listed = name_some([f"{path} ({why})" for path, why in wrong.items()])
        raise DataError(f"These masks cannot be used: {listed}; mend or remove them.")
    notes = [f"{subset.name}: left out {path} ({why})" for path, why in wrong.items()]
    for remark, consequence in _REMARKS.items():
        masks = [f"{m.parent.name}/{m.name}" for m, why in found.items() if why == remark]
        if masks:
            named = f"masks that mark {remark}: {name_some(masks)}"
            notes.append(f"{subset.name}: {named}; each is {consequence}")
    queries = tuple(
        dataclasses.replace(query, mask=None)
        if query.mask in wrong or not query.anomalous
        else query
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


def _examined(query: Query) -> str:
    """Why a mask cannot be used, or one of ``_REMARKS``; empty where all is well."""
    try:
        mask = open_mask(query.mask)
    except ImageError:
        return "it cannot be read"
    try:
        sides = upright_size(query.path)
    except ImageError:
        return ""  # The image itself is at fault, and told where it is opened.
    height, width = mask.shape
    if (width, height) != sides:
        return f"{width} x {height} pixels, its image {sides[0]} x {sides[1]}"
    if not query.anomalous:
        return ON_GOOD if mask.any() else ""
    if not mask.any():
        return NOTHING
    if mask.all():
        return EVERYTHING
    border = np.concatenate([mask[[0, -1]].ravel(), mask[:, [0, -1]].ravel()])
    return INVERTED if mask.mean() > 0.5 and border.mean() > MOST_OF_BORDER else ""


def _spans(start: float, end: float, count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last of the pixels that each of ``count`` equal parts touches."""
    edges = start + (end - start) * np.arange(count + 1) / count
    # A part that only touches a pixel by rounding does not see it.
    first = np.floor(edges[:-1] + 1e-6).astype(int)
    past = np.ceil(edges[1:] - 1e-6).astype(int)
    return first.clip(0, length - 1), past.clip(1, length)
