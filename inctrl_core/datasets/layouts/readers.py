"""Layouts of one subset, a function each: a folder -> its splits, or None if it is of another.

Their order in ``LAYOUTS`` is that in which they are tried. In all of them masks may lie wherever
:func:`survey.survey` finds them. With ``divide=False`` good images of which nothing says what they
are for are all queries, see :func:`.splits.assemble`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ...images.files import images_in
from ..subsets import DataError
from .names import TEST, TRAIN, VALIDATION, is_mask_folder, is_wrapper, label_of, part_of
from .splits import Kind, Splits, assemble, kinds_by_masks
from .survey import Survey, existing, folders_in, survey

_KOLEKTOR = re.compile(r"kos\d+", re.IGNORECASE)


def read_kolektor(folder: Path, divide: bool = True) -> Splits | None:
    """Reads KolektorSDD, where masks tell which images are anomalous.

    ::

        kos01/Part0.jpg
              Part0_label.bmp     marks nothing: normal
        kos02/...
    """
    inside = folders_in(folder)
    if not inside or not all(_KOLEKTOR.fullmatch(one.name) for one in inside):
        return None
    found = survey(folder)
    kinds = kinds_by_masks(found, None, found.images) if found.masks else None
    return assemble(found, kinds, divide) if kinds else None


def read_parts(folder: Path, divide: bool = True) -> Splits | None:
    """Reads folders for training and test, with folders of kinds inside, or with masks that tell.

    ::

        train/good/000.png            or train/ok, train/normal; or images without a folder of kinds
        test/good/000.png             or test_public (MVTec AD 2); or test/good/rgb (MVTec 3D-AD)
             DEFECT/000.png           whatever is not good
        ground_truth/DEFECT/000_mask.png    or test/DEFECT/gt/000.png, Test/Label/000_label.PNG, ...

    Where there is no such folder for the test, one for validation with anomalous images serves.
    What training folders hold that is not good is left out.
    """
    parts = next(filter(None, map(_parts, _holders(folder))), {})
    train = [one for one, part in parts.items() if part == TRAIN]
    tests = [one for one, part in parts.items() if part == TEST] or [
        one for one, part in parts.items() if part == VALIDATION and _has_bad(one)
    ]
    if not train and not tests:
        return None
    found = survey(folder)
    kinds = [kind for one in train for kind in _training_kinds(found, one)]
    kinds += [kind for one in tests for kind in _test_kinds(found, one)]
    if not tests and not any(kind.anomalous for kind in kinds):
        existing(folder / "test")  # Says that it is missing.
    return assemble(found, kinds, divide)


def read_labelled(folder: Path, divide: bool = True) -> Splits | None:
    """Reads folders of good and bad images without folders for training and test.

    ::

        OK/000.png        or good, normal, pass, negative, no_defect ...; or OK/train, OK/test
        NG/000.png        or bad, abnormal, fail, positive, defect ...; or NG/DEFECT/000.png
        MASK/000.png      or NG_mask, masks/NG, ...

    Or all of it under "images" or "Data/Images", with "Masks" beside that. Where only a good folder
    is named so, all others are anomalous. Parts may also stand in the names, as "train_good". Where
    nothing says so, the good images are split as :func:`split_normals` does.
    """
    holder = next(filter(_labelled, _holders(folder)), folder)
    labelled = _labelled(holder)
    if False not in labelled.values() or any(_holds_subset(one) for one in labelled):
        return None
    others = [
        one
        for one in folders_in(holder)
        if one not in labelled and not is_mask_folder(one.name) and not is_wrapper(one.name)
    ]
    if True not in labelled.values():
        labelled |= dict.fromkeys(others, True)
    found = survey(folder)
    kinds: list[Kind] = []
    for one, anomalous in labelled.items():
        parts = {sub: part for sub, part in _parts(one).items() if part in (TRAIN, TEST)}
        if not parts or images_in(one):
            parts[one] = part_of(one.name)
        for sub, part in parts.items():
            kinds.append(Kind(part, anomalous, one.name, _images(found, sub)))
    return assemble(found, kinds, divide)


def read_masked(folder: Path, divide: bool = True) -> Splits | None:
    """Reads one folder of images, where masks tell which are anomalous.

    ::

        images/000.png      or directly in the folder
        masks/000.png       or beside the images; none, or one that marks nothing: normal
    """
    beside = folders_in(folder)
    if not images_in(folder) and not any(is_wrapper(one.name) for one in beside):
        return None
    if not all(is_mask_folder(one.name) or is_wrapper(one.name) for one in beside):
        return None
    found = survey(folder)
    images = found.below(folder)
    if not found.masks or not images:
        return None
    return assemble(found, kinds_by_masks(found, None, images), divide)


LAYOUTS: tuple[Callable[..., Splits | None], ...] = (
    read_kolektor,
    read_parts,
    read_labelled,
    read_masked,
)


def _training_kinds(found: Survey, part: Path) -> list[Kind]:
    inside = [one for one in folders_in(part) if not is_mask_folder(one.name)]
    labels = {one: label_of(one.name) for one in inside}
    if False not in labels.values():
        if images_in(part) or (inside and all(is_wrapper(one.name) for one in inside)):
            return kinds_by_masks(found, TRAIN, found.below(part))
        if inside and not (part / "good").is_dir():
            raise DataError(
                f"None of the folders in {part} is called good, OK, normal or pass; name that of "
                "the good images so, or, for one folder of images per class, give --setting (of "
                "evaluate)."
            )
        return [Kind(TRAIN, False, "good", _images(found, part / "good"))]
    known = {one: label for one, label in labels.items() if label is not None}
    return [Kind(TRAIN, bad, one.name, _images(found, one)) for one, bad in known.items()]


def _test_kinds(found: Survey, part: Path) -> list[Kind]:
    inside = [one for one in folders_in(part) if not is_mask_folder(one.name)]
    if all(is_wrapper(one.name) for one in inside):
        if found.masks:
            return kinds_by_masks(found, TEST, found.below(part))
        if found.below(part):
            raise DataError(
                f"{part} holds images that nothing labels; sort them into {part.name}/good and "
                f"{part.name}/DEFECT, or add masks."
            )
    return [
        Kind(TEST, label_of(one.name) is not False, one.name, _images(found, one)) for one in inside
    ]


def _holders(folder: Path) -> Iterator[Path]:
    """The folder itself, and those in it that say no more than "images" or "data"."""
    yield folder
    for inside in folders_in(folder):
        if is_wrapper(inside.name):
            yield from _holders(inside)


def _parts(folder: Path) -> dict[Path, str]:
    """Folders inside for training, test and validation."""
    return {
        one: part
        for one in folders_in(folder)
        if (part := part_of(one.name)) and label_of(one.name) is None
    }


def _labelled(folder: Path) -> dict[Path, bool]:
    """Folders inside that are called good or bad."""
    return {
        one: label
        for one in folders_in(folder)
        if (label := label_of(one.name)) is not None and not is_mask_folder(one.name)
    }


def _holds_subset(folder: Path) -> bool:
    """Whether there are folders for training or test with kinds inside: this is no kind."""
    return any(_labelled(part) for part in _parts(folder))


def _has_bad(part: Path) -> bool:
    kinds = [one for one in folders_in(part) if not is_mask_folder(one.name)]
    return any(label_of(one.name) is not False and not is_wrapper(one.name) for one in kinds)


def _images(found: Survey, folder: Path) -> tuple[Path, ...]:
    """Images of one kind.

    Raises:
        DataError: The folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; a dataset needs this folder of images.")
    images = found.below(folder)
    if not images:
        raise DataError(f"{folder} holds no images; add some or remove the folder.")
    return images
