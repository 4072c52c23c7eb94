"""Datasets whose split stands in a CSV file, as VisA is distributed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from .datasets import DataError, Query, Subset

ONE_CLASS_SPLIT = Path("split_csv", "1cls.csv")  # Training images are all normal.
COLUMNS = frozenset({"object", "split", "label", "image", "mask"})


def load_split_list(root: Path, object_name: str | None = None) -> tuple[Subset, ...]:
    """Reads ``ROOT/split_csv/1cls.csv``: a line for each image, one subset for each object.

    Its columns are ``object``, ``split`` (train or test), ``label`` (normal or anomaly), ``image``
    and ``mask`` (empty where there is none); the paths are relative to ``root``.

    Raises:
        DataError: The list cannot be read, lacks a column, or names files that are not there.
    """
    path = root / ONE_CLASS_SPLIT
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
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
        image, anomalous = _listed(root, row["image"]), row["label"] != "normal"
        if row["split"] == "train" and not anomalous:
            normals.append(image)
        elif row["split"] == "test":
            mask = _listed(root, row["mask"]) if row["mask"] else None
            queries.append(Query(image, anomalous, "anomaly" if anomalous else "good", mask))
    return Subset(root.name, name, object_name or name, root, tuple(normals), tuple(queries))


def _listed(root: Path, relative: str | None) -> Path:
    path = root / (relative or "")
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise DataError(
            f"{root / ONE_CLASS_SPLIT} lists '{relative}', which is no file in {root}; unpack the "
            "dataset anew."
        )
    return path
