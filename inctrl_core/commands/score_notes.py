"""What ``score`` says on standard error beside its results: what was left out, what to know."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ..analysis.batch import Batch
from ..analysis.copies import called, copies_told
from ..errors import name_some
from ..images.files import one_line
from ..images.folders import FOLDERS, LeftOut
from ..images.levels import describe_levels, describe_set


def tell_about(batch: Batch) -> None:
    """Says how pixels were read, and which images are squeezed, or copies of normals."""
    data = [row.score.data for row in batch.scored]
    if read := describe_set(describe_levels(batch.levels), data):
        tell("note", read)
    _tell_proportions(batch)
    _tell_copies(batch)


def tell_left_out(left_out: Iterable[LeftOut]) -> None:
    """Names on standard error what was left out: pictures each, all else in a line for a kind."""
    groups: dict[str, list[str]] = {}
    for entry in left_out:
        if entry.group:
            groups.setdefault(entry.group, []).append(str(entry.path))
        else:
            tell("left out", _sentence(entry))
    for group, names in groups.items():
        hint = "; --recursive looks into them" if group == FOLDERS else ""
        tell("left out", f"{group}: {name_some(names)}{hint}")


def _sentence(entry: LeftOut) -> str:
    """The reason against a picture, and its place."""
    path = entry.path
    if f"'{path.name}'" not in entry.why:
        return f"{path}: {entry.why}"
    # A sentence that names the file, of which there may be others in other folders.
    return entry.why if str(path) == path.name else f"{entry.why.rstrip('.')} ({path})"


def _tell_proportions(batch: Batch) -> None:
    apart = [row.file.path for row in batch.scored if batch.aspect_mismatch(row)]
    if apart:
        tell(
            "note",
            "not in the proportions of any normal, so squeezed by another amount: "
            f"{name_some(apart)}; crop all images to the same proportions",
        )


def _tell_copies(batch: Batch) -> None:
    """Says which normals are copies of others, and which queries are normals."""
    told = copies_told(batch.copy_of, batch.normal_names)
    if told:
        tell("note", told)
    for row in batch.scored:
        if row.score.copy_of is not None:
            normal = called(row.score.copy_of, batch.normal_names)
            tell(
                "note",
                f"{row.file.path} is normal {normal} or a copy of it: it finds itself among the "
                "normals, so its score says nothing",
            )


def tell(kind: str, told: str) -> None:
    """Writes one line to standard error; names of files need not be."""
    sys.stderr.write(f"{kind}: {one_line(told)}\n")
