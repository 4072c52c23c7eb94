"""Layouts of data sets on disk: the published ones, folders of good and bad images, and classes.

``lists`` and ``readers`` hold a function for each layout, with a drawing of what it reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from ...errors import name_some
from ...images.files import images_in
from ..subsets import DataError, Query, Subset, list_images, split_normals
from .lists import LISTS
from .names import is_mask_folder, is_wrapper, label_of
from .readers import LAYOUTS
from .splits import Splits
from .survey import existing, folders_in, masks_in

__all__ = [
    "MULTI_CLASS",
    "ONE_VS_ALL",
    "SETTINGS",
    "load_classes",
    "load_folders",
    "load_labelled",
    "masks_in",
]

ONE_VS_ALL = "one-vs-all"
MULTI_CLASS = "multi-class"
SETTINGS = (ONE_VS_ALL, MULTI_CLASS)
MOST_LEVELS = 4  # Of folders above the subsets.

T = TypeVar("T")


def load_folders(
    root: Path,
    object_name: str | None = None,
    tell: Callable[[str], None] = lambda note: None,
) -> tuple[Subset, ...]:
    """Reads a data set in any of the layouts of ``lists.LISTS`` and ``readers.LAYOUTS``.

    The folder itself is one subset, or those inside it are, up to ``MOST_LEVELS`` deep. A subset
    that cannot be read is left out where there are others. A folder's name means the same in any
    case: "ok" and "normal" are as good a name as "good" (see ``names``).

    Args:
        root: Folder of subsets, or one subset.
        object_name: Replaces the names of the folders in the text prompts.
        tell: Called with a sentence about everything that is left out or may be misread.

    Raises:
        DataError: No subset is found, or all that are found lack a folder or images.
    """
    root = existing(root)
    read = next((found for reader in LISTS if (found := reader(root))), None)
    found = read or _named(root, dict(_read_below(root, MOST_LEVELS)))
    usable = {name: splits for name, splits in found.items() if isinstance(splits, Splits)}
    wrong = {name: why for name, why in found.items() if isinstance(why, DataError)}
    if not usable:
        raise next(iter(wrong.values()), DataError(_advice(root)))
    for name, why in wrong.items():
        tell(f"{name}: left out: {str(why).rstrip('.')}")
    alone = [name for name, splits in found.items() if splits is None]
    if alone:
        tell(f"{root.name}: left alone, as no subset of a known layout: {name_some(alone)}")
    for name, splits in usable.items():
        for note in splits.notes:
            tell(f"{name}: {note}")
    return tuple(
        Subset(
            dataset=root.name,
            name=name,
            object_name=object_name or name.rsplit("/")[-1],
            root=_common(root, splits),
            train_normals=splits.train_normals,
            queries=splits.queries,
        )
        for name, splits in usable.items()
    )


def load_classes(root: Path, setting: str, object_name: str | None = None) -> tuple[Subset, ...]:
    """Reads a folder per class for semantic anomaly detection (the paper's section 4.1).

    One subset per class. In "one-vs-all" that class is normal and all others are anomalous; in
    "multi-class" that class is anomalous and all others are normal. The classes lie in
    ``ROOT/train/CLASS`` and ``ROOT/test/CLASS``, or in ``ROOT/CLASS``; then each class is split as
    :func:`split_normals` does.

    Args:
        root: Folder of classes.
        setting: One of ``SETTINGS``.
        object_name: Goes into the text prompts; by default the class in "one-vs-all", and "object"
            in "multi-class", where the normals have no name in common.

    Raises:
        DataError: The folder is missing, a class holds no images, or there are fewer than two.
    """
    root = existing(root)
    if setting not in SETTINGS:
        raise DataError(f"There is no setting '{setting}'; use {' or '.join(SETTINGS)}.")
    labels = {label_of(folder.name) for folder in folders_in(root)}
    if {True, False} <= labels and any(is_mask_folder(f.name) for f in folders_in(root)):
        raise DataError(
            f"{root} holds good and bad images with their masks, not classes; leave out --setting."
        )
    train, test = _class_parts(root)
    if len(train) < 2 or set(train) != set(test):
        raise DataError(
            f"{root} needs at least two classes, the same for training and test; "
            "name a folder with one folder of images per class, or leave out --setting."
        )
    subsets = []
    for name in train:
        normal = [c for c in train if (c == name) == (setting == ONE_VS_ALL)]
        default = name if setting == ONE_VS_ALL else "object"
        subsets.append(
            Subset(
                dataset=f"{root.name} {setting}",
                name=name,
                object_name=object_name or default,
                root=root,
                train_normals=tuple(path for c in normal for path in train[c]),
                queries=tuple(
                    Query(path, c not in normal, c) for c, paths in test.items() for path in paths
                ),
            )
        )
    return tuple(subsets)


def load_labelled(root: Path) -> Splits:
    """Reads one folder of images that are known to be good or bad, in any layout of ``readers``.

    The normals are those of folders for training; good images of which nothing says what they are
    for are queries. Paths in notes are relative to the folder.

    Raises:
        DataError: It cannot be read so, or holds several subsets.
    """
    root = existing(root)
    found = _named(root, dict(_read_below(root, MOST_LEVELS, divide=False)))
    usable = {name: splits for name, splits in found.items() if isinstance(splits, Splits)}
    if len(usable) > 1:
        raise DataError(f"It holds several sets of images ({name_some(list(usable))}); take one.")
    if not usable:
        wrong = next((why for why in found.values() if isinstance(why, DataError)), None)
        raise wrong or DataError(
            "None of its folders says which images are good: call them good and bad (or OK and "
            "NG), or lay them out as MVTec AD does."
        )
    (splits,) = usable.values()
    return splits


def _read_below(
    folder: Path, levels: int, divide: bool = True
) -> Iterator[tuple[Path, Splits | DataError | None]]:
    """The subsets at or below a folder; None for one of images that belongs to none."""
    try:
        splits = next((read for layout in LAYOUTS if (read := layout(folder, divide))), None)
    except DataError as error:
        yield folder, error
        return
    if splits:
        yield folder, splits
        return
    if images_in(folder):
        yield folder, None
    for inside in folders_in(folder) if levels else ():
        yield from _read_below(inside, levels - 1, divide)


def _named(root: Path, found: Mapping[Path, T]) -> dict[str, T]:
    """By the last part of each path that is a name; by the whole path where two are the same."""
    paths = {folder: folder.relative_to(root.parent).parts for folder in found}
    names = {
        folder: next((part for part in parts[::-1] if not is_wrapper(part)), root.name)
        for folder, parts in paths.items()
    }
    count = Counter(names.values())
    return {
        names[folder] if count[names[folder]] == 1 else folder.relative_to(root).as_posix(): value
        for folder, value in found.items()
    }


def _common(root: Path, splits: Splits) -> Path:
    """The root, or the folder above it that all images lie in, where lists lie apart from them."""
    paths = [*splits.train_normals, *(query.path for query in splits.queries)]
    return next(folder for folder in (root, *root.parents) if _all_below(paths, folder))


def _all_below(paths: Iterable[Path], folder: Path) -> bool:
    return all(path.is_relative_to(folder) for path in paths)


def _advice(root: Path) -> str:
    """Advice on a folder in which no subset was found."""
    folders = [one for one in folders_in(root) if not is_mask_folder(one.name)]
    bad = [one.name for one in folders if label_of(one.name)]
    if bad:
        return (
            f"{root} holds bad images in '{bad[0]}', but none of its folders is called good, OK, "
            "normal or pass; name that of the good images so."
        )
    advice = (
        f"{root} holds no folders of the form SUBSET/train/good and SUBSET/test/DEFECT, nor any "
        "called good and bad (or OK and NG, normal and abnormal, pass and fail); arrange the "
        "images so"
    )
    if sum(bool(images_in(one)) for one in folders) > 1:
        advice += ", or, for one folder of images per class, give --setting (of evaluate)"
    return f"{advice}."


def _class_parts(
    root: Path,
) -> tuple[dict[str, tuple[Path, ...]], dict[str, tuple[Path, ...]]]:
    """Training and test images of every class."""
    if (root / "train").is_dir() and (root / "test").is_dir():
        train, test = (
            {folder.name: list_images(folder) for folder in folders_in(root / part)}
            for part in ("train", "test")
        )
        return train, test
    parts = {folder.name: split_normals(list_images(folder)) for folder in folders_in(root)}
    return {c: part[0] for c, part in parts.items()}, {c: part[1] for c, part in parts.items()}
