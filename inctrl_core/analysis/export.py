"""A batch as files: a table (CSV), everything (JSON), and overlays with raw maps (ZIP).

Names of files are somebody's text. In the table they must not become formulas, in the archive
they must be names on every system, each its own, and lead nowhere but into the archive.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError
from ..images.files import ImageSource, plain_name
from ..images.levels import describe_levels
from ..images.overlay import overlay, scale_box
from ..images.seen import MOST_DRAWN, Opener, open_here, shrink
from ..output import table_text
from .batch import Batch, BatchRow
from .copies import called
from .normal_range import normals_to_dict

# Overlays have their image's own size; beyond so many pixels in all, an archive would be as large
# as a disk and minutes in the making. About 100 images of 2 megapixels.
MAX_OVERLAY_PIXELS = 200_000_000
# In UTF-8 a character takes up to 4 bytes, and file systems end a name at 255.
MAX_STEM = 60

COLUMNS = (
    "file",
    "index",
    "score",
    "grade",
    "against_the_normals",
    "copy_of_normal",
    "strongest_patch",
    "strongest_row",
    "strongest_column",
    "image_residual",
    "text_anomaly",
    "other_proportions",
    "normals_lowest",
    "normals_highest",
    "threshold",
    "truth",
    "error",
)

# Names of devices on Windows, with any extension; the raised digits count too.
_DEVICES = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(?![^. ])", re.IGNORECASE)

OnProgress = Callable[[int, int], None]


def batch_csv(batch: Batch, names: Mapping[BatchRow, str] | None = None) -> str:
    """The ranked rows as comma-separated values; figures with six decimals.

    For a file, encode as "utf-8-sig": spreadsheets take anything else for an older encoding.

    Args:
        batch: The results.
        names: Names of the files to give in place of their own.
    """
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for row in batch.ranked:
        given = {} if names is None else {"file": table_text(names[row])}
        writer.writerow(_cells(batch, row) | given)
    return stream.getvalue()


def batch_dict(batch: Batch, entries: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Everything about a batch, ready for ``json.dumps``.

    Args:
        batch: The results.
        entries: What to add to each ranked row, in that order.

    Returns:
        ``results`` has one entry per file, highest score first; ``index`` is the file's place in
        the order in which they were given, counted from 0, and ``file`` its name, which another may
        have too. ``normals`` and ``normal_range``: see
        :func:`inctrl_core.analysis.normal_range.normals_to_dict`. Each ``patch_map`` is [G][G], row
        by row; its ``crop_box`` is the (left, top, right, bottom) that it covers, in pixels of the
        upright original, whose width and height are ``size``. ``other_proportions`` tells where
        those are none of the normals': such an image is squeezed by another amount. ``data`` and
        ``normals_data`` tell the kind of data, such as "12-bit data". ``threshold`` is the score
        above which an image counts as anomalous, ``grade`` tells how far above it one lies, one of
        :data:`.decision.GRADES`. ``decision``: see
        :meth:`.decision.Decision.to_dict`, None where the model cannot tell, and with it
        ``expected_share_above``, the share of good images that is expected to score higher.
    """
    results = [_result(batch, row) for row in batch.ranked]
    for result, entry in zip(results, entries or [{}] * len(results), strict=True):
        result.update(entry)
    return {
        "model": batch.model,
        "object_name": batch.object_name,
        "shots": batch.shots,
        "looks_for": batch.looks_for,
        "normals_data": describe_levels(batch.levels),
        **normals_to_dict(batch.normal_names, batch.copy_of, batch.ranges),
        "threshold": batch.threshold,
        "decision": None if batch.decision is None else batch.decision.to_dict(),
        "heatmap_scale": {"low": batch.scale.low, "high": batch.scale.high},
        "results": results,
    }


def batch_json(batch: Batch, entries: Sequence[dict[str, Any]] | None = None) -> str:
    """:func:`batch_dict` as text."""
    return json.dumps(batch_dict(batch, entries), indent=1, allow_nan=False, ensure_ascii=False)


def write_zip(
    path: Path,
    batch: Batch,
    on_progress: OnProgress | None = None,
    opener: Opener = open_here,
) -> int:
    """Writes table, JSON, overlays and raw maps of a batch into one archive.

    ``maps/NAME.npy`` is float32 [G, G]; ``overlays/NAME.png`` has the original's own pixels,
    or ``MOST_DRAWN`` of them. The
    JSON names both of each file, or says why there is none. Originals are opened one at a time.

    Args:
        path: Path of the archive, which is written anew.
        batch: The results.
        on_progress: Told of rows done and rows in all.
        opener: Opens an original.

    Returns:
        Number of images whose overlay would have exceeded ``MAX_OVERLAY_PIXELS``; as the highest
        scores come first, those that matter least.
    """
    rows = batch.ranked
    # In the order of the files: which of two equal names gets a number does not hang on scores.
    taken = safe_names([Path(row.file.name).stem for row in batch.rows])
    names = [taken[batch.index(row)] for row in rows]
    entries: list[dict[str, Any]] = []
    pixels, left_out = 0, 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for row, name in zip(rows, names, strict=True):
            entry: dict[str, Any] = {"overlay": None, "map": None}
            if row.score is not None:
                entry["map"] = f"maps/{name}.npy"
                archive.writestr(entry["map"], _npy(row.score.patch_map))
                size = row.size[0] * row.size[1]
                if pixels + size > MAX_OVERLAY_PIXELS:
                    left_out += 1
                    entry["overlay_error"] = "The archive has no room for this overlay."
                else:
                    pixels += size
                    entry |= _add_overlay(archive, f"overlays/{name}.png", batch, row, opener)
            entries.append(entry)
            if on_progress:
                on_progress(len(entries), len(rows))
        text = zipfile.ZIP_DEFLATED
        archive.writestr("results.csv", batch_csv(batch).encode("utf-8-sig"), text)
        archive.writestr("results.json", batch_json(batch, entries), text)
    return left_out


def safe_names(names: Sequence[str]) -> list[str]:
    """Names for files on any system: no folders, no devices, no two alike.

    Args:
        names: Any texts, without an extension.

    Returns:
        One name each, of letters, digits, spaces and ``-_.()``, of at most ``MAX_STEM`` characters;
        no two are equal, capitals or not.
    """
    taken: set[str] = set()
    safe = []
    for name in names:
        stem = _safe(name)
        candidate, number = stem, 1
        while candidate.casefold() in taken:
            number += 1
            ending = f" ({number})"
            candidate = stem[: MAX_STEM - len(ending)].rstrip(" .") + ending
        taken.add(candidate.casefold())
        safe.append(candidate)
    return safe


def file_names(images: Iterable[ImageSource]) -> tuple[str, ...]:
    """The names of files, each in one line; some may be equal. What is no file has its number."""
    return tuple(
        plain_name(Path(image).name) if isinstance(image, str | os.PathLike) else f"image {number}"
        for number, image in enumerate(images, start=1)
    )


def _safe(name: str) -> str:
    normal = unicodedata.normalize("NFC", plain_name(name))
    stem = re.sub(r"[^\w \-.()]", "_", normal)[:MAX_STEM].strip(" .")
    if _DEVICES.match(stem):
        stem = f"_{stem}"[:MAX_STEM]
    return stem or "image"


def _cells(batch: Batch, row: BatchRow) -> dict[str, str]:
    cells = {
        "file": table_text(plain_name(row.file.name)),
        "index": str(batch.index(row)),
        "truth": _truth(row.file.anomalous),
        "error": table_text(row.error),
    }
    if batch.ranges is not None:
        cells["normals_lowest"] = f"{batch.ranges.lowest:.6f}"
        cells["normals_highest"] = f"{batch.ranges.highest:.6f}"
    if batch.threshold is not None:
        cells["threshold"] = f"{batch.threshold:.6f}"
    if row.score is None:
        return cells
    score = row.score
    strongest = divmod(int(score.patch_map.argmax()), score.patch_map.shape[1])
    return cells | {
        "score": f"{score.fused:.6f}",
        "grade": batch.grade(row) or "",
        "against_the_normals": batch.standing(row),
        "copy_of_normal": ""
        if score.copy_of is None
        else table_text(called(score.copy_of, batch.normal_names)),
        "strongest_patch": f"{score.patch_max:.6f}",
        "strongest_row": str(strongest[0] + 1),
        "strongest_column": str(strongest[1] + 1),
        "image_residual": f"{score.image_residual:.6f}",
        "text_anomaly": f"{score.text_anomaly:.6f}",
        "other_proportions": "yes" if batch.aspect_mismatch(row) else "no",
    }


def _result(batch: Batch, row: BatchRow) -> dict[str, Any]:
    result = {
        "index": batch.index(row),
        "file": plain_name(row.file.name),
        "truth": _truth(row.file.anomalous) or None,
        "grade": batch.grade(row),
        "against_the_normals": batch.standing(row) or None,
        "error": row.error or None,
    }
    if row.score is None:
        return result
    shape = {"size": list(row.size), "other_proportions": batch.aspect_mismatch(row)}
    share = None if batch.good is None else batch.good.share_above(row.score.fused)
    expected = {"expected_share_above": share}
    return result | shape | row.score.to_dict(batch.normal_names) | expected


def _truth(anomalous: bool | None) -> str:
    return {None: "", True: "anomalous", False: "normal"}[anomalous]


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values.astype(np.float32), allow_pickle=False)
    return stream.getvalue()


def _add_overlay(
    archive: zipfile.ZipFile, name: str, batch: Batch, row: BatchRow, opener: Opener
) -> dict[str, str]:
    """Adds one overlay; what to say of it, its name or why there is none."""
    try:
        image = opener(shrink, row.file.path, MOST_DRAWN, levels=batch.levels)
    except ImageError as error:
        return {"overlay_error": str(error)}
    style = batch.scale.style()
    box = scale_box(row.score.crop_box, row.size, image.size)
    drawn = overlay(image, row.score.patch_map, box, style)
    stream = io.BytesIO()
    # A higher level takes several times as long for a tenth less.
    drawn.save(stream, "PNG", compress_level=1)
    archive.writestr(name, stream.getvalue())
    return {"overlay": name}
