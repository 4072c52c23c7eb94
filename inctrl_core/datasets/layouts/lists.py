"""Layouts whose split stands in lists: a root -> name of each subset -> its splits, or None.

In place of the splits of a subset that cannot be used stands the :class:`DataError` that says why.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import name_some
from ..subsets import DataError, Query
from .splits import Splits

ONE_CLASS_SPLIT = Path("split_csv", "1cls.csv")  # Training images are all normal.
LABELS = {"normal": False, "anomaly": True}
SPLITS = frozenset({"train", "test"})
COLUMNS = frozenset({"object", "split", "label", "image", "mask"})

# Where Real-IAD's lists lie under its root: of all cameras, and of one.
REAL_IAD_LISTS = (
    "",
    "realiad_jsons/realiad_jsons",
    "realiad_jsons",
    "realiad_jsons/realiad_jsons_sv",
    "realiad_jsons_sv",
)
_RESOLUTION = re.compile(r"realiad_(\d+|raw)", re.IGNORECASE)
_CAMERA = re.compile(r"_(C\d)_")

Found = dict[str, Splits | DataError]


def read_visa(root: Path) -> Found | None:
    """Reads VisA, whose list has a line for each image; one subset for each object.

    ::

        split_csv/1cls.csv      object,split,label,image,mask; paths relative to the root
        candle/Data/Images/Normal/0000.JPG
                           Anomaly/000.JPG
                    Masks/Anomaly/000.png

    ``split`` is train or test, ``label`` normal or anomaly, ``mask`` empty where there is none.

    Raises:
        DataError: The list cannot be read, lacks a column, has another label or split, names files
            that are not there, or one image both for training and for the test.
    """
    path = root / ONE_CLASS_SPLIT
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [_stripped(row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); unpack it anew.") from None
    if not rows or not COLUMNS <= rows[0].keys():
        raise DataError(f"{path} needs the columns {', '.join(sorted(COLUMNS))}; unpack it anew.")
    objects = dict.fromkeys(row["object"] for row in rows)
    return {
        name: _of_object(root, [row for row in rows if row["object"] == name]) for name in objects
    }


def read_real_iad(root: Path) -> Found | None:
    """Reads Real-IAD, which has a list for each class.

    ::

        realiad_1024/audiojack/OK/S0001/audiojack_0001_OK_C1_2023.jpg     or _512, _256, _raw
                               NG/BX/S0001/audiojack_0001_NG_C1_2023.jpg, ..._mask.png
        realiad_jsons/realiad_jsons/audiojack.json    or realiad_jsons, realiad_jsons_sv

    A list has ``meta`` (``prefix`` of the paths, ``normal_class``), ``train`` and ``test``, whose
    entries have ``anomaly_class``, ``image_path`` and ``mask_path``. The images of all cameras are
    one subset, as in the published figures; where the root is a folder of lists, as that of one
    camera, these are read. Of several resolutions the largest is taken.
    """
    folders = [root / name for name in REAL_IAD_LISTS]
    lists = next(filter(None, map(_real_iad_lists, folders)), {})
    if not lists:
        return None
    places = (root, root.parent, root.parent.parent)
    images = max(next(filter(None, map(_resolutions, places)), [(0, root)]))[1]
    return {name: _of_class(images, *source) for name, source in sorted(lists.items())}


LISTS: tuple[Callable[[Path], Found | None], ...] = (read_visa, read_real_iad)


def _of_object(root: Path, rows: Iterable[Mapping[str, str]]) -> Splits | DataError:
    """One object of VisA."""
    try:
        return _checked_object(root, rows)
    except DataError as error:
        return error


def _checked_object(root: Path, rows: Iterable[Mapping[str, str]]) -> Splits:
    normals: list[Path] = []
    queries: list[Query] = []
    for row in rows:
        if row["label"] not in LABELS or row["split"] not in SPLITS:
            raise DataError(
                f"{root / ONE_CLASS_SPLIT} has a line of label '{row['label']}' and split "
                f"'{row['split']}'; labels are normal or anomaly, splits train or test."
            )
        image, anomalous = _listed(root, row["image"], root / ONE_CLASS_SPLIT), LABELS[row["label"]]
        if row["split"] == "train" and not anomalous:
            normals.append(image)
        elif row["split"] == "test":
            mask = _listed(root, row["mask"], root / ONE_CLASS_SPLIT) if row["mask"] else None
            queries.append(Query(image, anomalous, "anomaly" if anomalous else "good", mask))
    twice = {query.path for query in queries} & set(normals)
    if twice:
        raise DataError(
            f"{root / ONE_CLASS_SPLIT} lists {name_some(sorted(map(str, twice)))} both for "
            "training and for the test; unpack the dataset anew."
        )
    return Splits(tuple(normals), tuple(queries))


def _stripped(row: Mapping[str | None, str | None]) -> dict[str, str]:
    return {key: (row[key] or "").strip() for key in row if key is not None}


def _listed(root: Path, relative: str, source: Path) -> Path:
    # By its name alone: what lies there may be a link, as stores of large data have them.
    path = Path(os.path.normpath(root / relative))
    if not path.is_relative_to(os.path.normpath(root)) or not path.is_file():
        raise DataError(
            f"{source} lists '{relative}', which is no file in {root}; unpack the dataset anew."
        )
    return path


def _real_iad_lists(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Lists directly in a folder, with their contents, by the name of their class."""
    found = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            content = json.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict) and all(isinstance(content.get(s), list) for s in SPLITS):
            entries = [*content["train"][:1], *content["test"][:1]]
            if any(isinstance(entry, dict) and "anomaly_class" in entry for entry in entries):
                found[path.stem] = path, content
    return found


def _of_class(images: Path, source: Path, content: Mapping[str, Any]) -> Splits | DataError:
    """One class of Real-IAD."""
    meta = content.get("meta") if isinstance(content.get("meta"), dict) else {}
    prefix, good = str(meta.get("prefix") or source.stem), meta.get("normal_class") or "OK"
    normals: list[Path] = []
    queries: list[Query] = []
    spare = 0
    try:
        for split in sorted(SPLITS):
            for entry in content[split]:
                kind, image, mask = _entry(entry, source)
                path = _of_prefix(images, prefix, image, source)
                if split == "test":
                    place = _of_prefix(images, prefix, mask, source) if mask else None
                    queries.append(Query(path, kind != good, kind, place))
                elif kind == good:
                    normals.append(path)
                else:
                    spare += 1
    except DataError as error:
        return error
    notes = [f"left out as training images: {spare} anomalous ones"] if spare else []
    cameras = {c for path in normals for c in _CAMERA.findall(path.name)}
    if len(cameras) > 1:
        notes.append(
            f"images of {len(cameras)} cameras are taken together; for those of one, give the "
            "folder realiad_jsons_sv with --data"
        )
    return Splits(tuple(normals), tuple(queries), tuple(notes))


def _entry(entry: object, source: Path) -> tuple[str, str, str | None]:
    """Kind, image and mask that an entry of a list names."""
    if isinstance(entry, dict):
        kind, image, mask = (entry.get(k) for k in ("anomaly_class", "image_path", "mask_path"))
        if isinstance(kind, str) and isinstance(image, str) and isinstance(mask, str | None):
            return kind, image, mask or None
    raise DataError(
        f"{source} has an entry without anomaly_class and image_path; unpack the dataset anew."
    )


def _of_prefix(images: Path, prefix: str, relative: str, source: Path) -> Path:
    """A listed file, under its class's folder; that may lie in one of the same name, once more."""
    for start in (prefix, os.path.join(prefix, prefix)):
        path = os.path.join(start, relative)
        if (images / path).is_file():
            return _listed(images, path, source)
    return _listed(images, os.path.join(prefix, relative), source)


def _resolutions(place: Path) -> list[tuple[int, Path]]:
    """Folders of images beside or above the lists, by their resolution."""
    names = {folder: _RESOLUTION.fullmatch(folder.name) for folder in place.glob("realiad_*")}
    return [(int(m[1]) if m[1].isdigit() else 0, folder) for folder, m in names.items() if m]
