"""Datasets whose split stands in a CSV file, as VisA is distributed."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import name_some
from .datasets import DataError, Query, Subset

ONE_CLASS_SPLIT = Path("split_csv", "1cls.csv")  # Training images are all normal.
LABELS = {"normal": False, "anomaly": True}
SPLITS = frozenset({"train", "test"})
COLUMNS = frozenset({"object", "split", "label", "image", "mask"})


def load_split_list(root: Path, object_name: str | None = None) -> tuple[Subset, ...]:
    """Reads ``ROOT/split_csv/1cls.csv``: a line for each image, one subset for each object.

    Its columns are ``object``, ``split`` (train or test), ``label`` (normal or anomaly), ``image``
    and ``mask`` (empty where there is none); the paths are relative to ``root``.

    Raises:
        DataError: The list cannot be read, lacks a column, has another label or split, names files
            that are not there, or one image both for training and for the test.
    """
    path = root / ONE_CLASS_SPLIT
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [_stripped(row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); unpack it anew.") from None
    if not rows or not COLUMNS <= rows[0].keys():
        raise DataError(f"{path} needs the columns {', '.join(sorted(COLUMNS))}; unpack it anew.")
    objects = dict.fromkeys(row["object"] for row in rows)
    return tuple(
        _subset(root, name, object_name, [row for row in rows if row["object"] == name])
        for name in objects
    )


def _subset(
    root: Path, name: str, object_name: str | None, rows: Iterable[Mapping[str, str]]
) -> Subset:
    normals: list[Path] = []
    queries: list[Query] = []
    for row in rows:
        if row["label"] not in LABELS or row["split"] not in SPLITS:
            raise DataError(
                f"{root / ONE_CLASS_SPLIT} has a line of label '{row['label']}' and split "
                f"'{row['split']}'; labels are normal or anomaly, splits train or test."
            )
        image, anomalous = _listed(root, row["image"]), LABELS[row["label"]]
        if row["split"] == "train" and not anomalous:
            normals.append(image)
        elif row["split"] == "test":
            mask = _listed(root, row["mask"]) if row["mask"] else None
            queries.append(Query(image, anomalous, "anomaly" if anomalous else "good", mask))
    twice = {query.path for query in queries} & set(normals)
    if twice:
        raise DataError(
            f"{root / ONE_CLASS_SPLIT} lists {name_some(sorted(map(str, twice)))} both for "
            "training and for the test; unpack the dataset anew."
        )
    return Subset(root.name, name, object_name or name, root, tuple(normals), tuple(queries))


def _stripped(row: Mapping[str | None, str | None]) -> dict[str, str]:
    return {key: (row[key] or "").strip() for key in row if key is not None}


def _listed(root: Path, relative: str) -> Path:
    # By its name alone: what lies there may be a link, as stores of large data have them.
    path = Path(os.path.normpath(root / relative))
    if not path.is_relative_to(os.path.normpath(root)) or not path.is_file():
        raise DataError(
            f"{root / ONE_CLASS_SPLIT} lists '{relative}', which is no file in {root}; unpack the "
            "dataset anew."
        )
    return path
