"""Layouts of folders: MVTec's, and a folder per class for semantic anomaly detection."""

from __future__ import annotations

import os
from pathlib import Path

from ..image_files import images_in
from .datasets import DataError, Query, Subset, list_images, split_normals
from .split_lists import ONE_CLASS_SPLIT, load_split_list

ONE_VS_ALL = "one-vs-all"
MULTI_CLASS = "multi-class"
SETTINGS = (ONE_VS_ALL, MULTI_CLASS)
GOOD_NAMES = frozenset({"good", "ok", "normal"})  # Of folders, in any case.


def load_folders(root: Path, object_name: str | None = None) -> tuple[Subset, ...]:
    """Reads the MVTec layout.

    ``SUBSET/train/good``, ``SUBSET/test/good``, ``SUBSET/test/DEFECT`` and, where there are masks,
    ``SUBSET/ground_truth/DEFECT/NAME_mask.png`` (or ``NAME.png``, or another format). "ok" and
    "normal" are as good a name as "good". A folder with ``train`` directly inside is one subset;
    otherwise each of its folders that has ``train`` or ``test`` is one. Several masks of one image
    (MVTec LOCO) lie in a folder of its name. Without such folders, the split may stand in a list
    (VisA; see :func:`split_lists.load_split_list`).

    Args:
        root: Folder of subsets, or one subset.
        object_name: Replaces the names of the folders in the text prompts.

    Raises:
        DataError: The folder or one that the layout needs is missing or holds no images.
    """
    root = _existing(root)
    single = (root / "train").is_dir()
    # What else lies beside the subsets, as lists of another split, is none.
    beside = [f for f in _folders(root) if (f / "train").is_dir() or (f / "test").is_dir()]
    folders = [root] if single else beside
    if not folders:
        if (root / ONE_CLASS_SPLIT).is_file():
            return load_split_list(root, object_name)
        raise DataError(
            f"{root} holds no folders of the form SUBSET/train/good and SUBSET/test/DEFECT; "
            "arrange the images so, or, for one folder of images per class, give --setting."
        )
    return tuple(_load_subset(folder, root, object_name) for folder in folders)


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
    root = _existing(root)
    if setting not in SETTINGS:
        raise DataError(f"There is no setting '{setting}'; use {' or '.join(SETTINGS)}.")
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


def masks_in(folder: Path) -> dict[str, Path]:
    """The masks in a folder by their image's name.

    They are files ``NAME_mask`` or ``NAME``, or folders ``NAME`` of several.
    """
    if not folder.is_dir():
        return {}
    several = {path.name: path for path in _folders(folder) if images_in(path)}
    return several | {path.stem.removesuffix("_mask"): path for path in images_in(folder)}


def _load_subset(folder: Path, root: Path, object_name: str | None) -> Subset:
    queries: list[Query] = []
    for kind in _folders(_existing(folder / "test")):
        anomalous = not _is_good(kind)
        masks = masks_in(folder / "ground_truth" / kind.name) if anomalous else {}
        queries += [
            Query(path, anomalous, kind.name, masks.get(path.stem)) for path in list_images(kind)
        ]
    train = _existing(folder / "train")
    good = next(filter(_is_good, _folders(train)), train / "good")
    return Subset(
        dataset=root.name,
        name=folder.name,
        object_name=object_name or folder.name,
        root=root,
        train_normals=list_images(good),
        queries=tuple(queries),
    )


def _class_parts(
    root: Path,
) -> tuple[dict[str, tuple[Path, ...]], dict[str, tuple[Path, ...]]]:
    """Training and test images of every class."""
    if (root / "train").is_dir() and (root / "test").is_dir():
        train, test = (
            {folder.name: list_images(folder) for folder in _folders(root / part)}
            for part in ("train", "test")
        )
        return train, test
    parts = {folder.name: split_normals(list_images(folder)) for folder in _folders(root)}
    return {c: part[0] for c, part in parts.items()}, {c: part[1] for c, part in parts.items()}


def _is_good(folder: Path) -> bool:
    return folder.name.lower() in GOOD_NAMES


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror}); check it.") from None


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; check the path of the dataset.")
    return Path(os.path.abspath(folder))  # Not resolved: a link keeps its own name.
