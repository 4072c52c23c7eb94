"""A ZIP of labelled images, as somebody sends it -> its images on disk, and their labels.

An archive may be made to harm: what it says of itself is checked before anything is unpacked, and
only images are. This runs in a process with limits on time and memory, see
:class:`inctrl_core.images.workers.DecodingPool`, as its directory alone may be large.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import name_some
from ..images.files import IMAGE_SUFFIXES, display_name
from .layouts import load_labelled
from .subsets import DataError

MAX_ENTRIES = 4000
MAX_UNPACKED = 400 * 2**20
MOST_LETTERS = 120  # Of one name: file systems end it at 255 bytes.
MOST_LEVELS = 12
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ARCHIVES = frozenset(".zip .7z .rar .gz .tar .tgz .bz2 .xz".split())
_BLOCK = 2**20

# (path, name, anomalous, path of the mask or "").
LabelledFile = tuple[str, str, bool, str]


def read_zip(
    path: str, folder: str
) -> tuple[tuple[str, ...], tuple[LabelledFile, ...], tuple[str, ...]]:
    """Unpacks the images of a ZIP and reads their labels from its folders.

    Args:
        path: The ZIP.
        folder: An empty folder, which the images are written to.

    Returns:
        Paths of the normals that are for training; the labelled images; and sentences about what
        was left out. Nothing but text, truth values and tuples.

    Raises:
        DataError: The ZIP cannot be used; in one sentence.
    """
    root, name = Path(folder), display_name(path)
    left_out = unpack(path, root)
    try:
        splits = load_labelled(root)
    except DataError as error:
        raise DataError(f"{name}: {_inside(str(error), root)}") from None
    queries = tuple(
        (str(query.path), f"{query.kind}: {query.path.name}", query.anomalous, _mask(query.mask))
        for query in splits.queries
    )
    if not queries:
        raise DataError(f"{name} holds no images that are known to be good or bad; add some.")
    notes = [_inside(note, root) for note in splits.notes]
    return tuple(map(str, splits.train_normals)), queries, (*left_out, *notes)


def unpack(path: str | os.PathLike, folder: Path) -> list[str]:
    """Unpacks the images of a ZIP, and nothing else.

    Args:
        path: The ZIP.
        folder: Where its images go, in its own folders.

    Returns:
        Sentences about what was left out.

    Raises:
        DataError: It is no ZIP, damaged, encrypted, too large once unpacked, of too many entries,
            or names places outside of itself; nothing of it can be relied on then.
    """
    name = display_name(path)
    try:
        with zipfile.ZipFile(path) as archive:
            images, others = _sorted(archive.infolist(), name)
            for entry, inside in images:
                _write(archive, entry, folder, inside, name)
    except zipfile.BadZipFile:
        raise DataError(f"{name} is not a ZIP, or a damaged one; pack it again.") from None
    except OSError:
        raise DataError(f"{name} cannot be unpacked here at the moment; try again later.") from None
    except (NotImplementedError, RuntimeError, zlib.error, EOFError):
        raise DataError(f"{name} cannot be unpacked; pack it again as a plain ZIP.") from None
    packed = [inside.name for inside in others if inside.suffix.lower() in _ARCHIVES]
    notes = []
    if packed:
        notes.append(f"Left out archives inside the ZIP: {name_some(packed)}; unpack them first.")
    rest = [inside.name for inside in others if inside.suffix.lower() not in _ARCHIVES]
    if rest:
        notes.append(f"Left out what is no image: {name_some(rest)}.")
    return notes


Entry = tuple[zipfile.ZipInfo, PurePosixPath]


def _sorted(entries: list[zipfile.ZipInfo], name: str) -> tuple[list[Entry], list[PurePosixPath]]:
    """The images among the entries, each in a place of its own, and the others.

    Raises:
        DataError: The archive is one that nothing of should be unpacked.
    """
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{name} has {len(entries)} entries; pack at most {MAX_ENTRIES}.")
    images: list[Entry] = []
    others: list[PurePosixPath] = []
    taken: set[str] = set()
    size = 0
    for entry in entries:
        inside = _inner_path(entry, name)
        if entry.is_dir() or any(part.startswith((".", "__MACOSX")) for part in inside.parts):
            continue
        if inside.suffix.lower() not in IMAGE_SUFFIXES:
            others.append(inside)
            continue
        size += entry.file_size
        _check_entry(entry, name, size)
        if str(inside).casefold() in taken:
            raise DataError(f"{name} holds '{inside.name}' twice in one folder; pack it again.")
        taken.add(str(inside).casefold())
        images.append((entry, inside))
    if not images:
        raise DataError(f"{name} holds no images; pack folders of images, such as good and bad.")
    return images, others


def _inner_path(entry: zipfile.ZipInfo, name: str) -> PurePosixPath:
    """Where an entry lies in the archive, in characters that every disk takes.

    Raises:
        DataError: It names a place outside, is a link, or lies too deep.
    """
    # A name of Windows may have either stroke; zipfile has turned those of this system alone.
    given = entry.filename.replace("\\", "/")
    parts = [part for part in given.split("/") if part not in ("", ".")]
    outside = given.startswith("/") or ".." in parts or (parts and parts[0].endswith(":"))
    if outside or stat.S_ISLNK(entry.external_attr >> 16):
        what = "names places outside of itself" if outside else "holds links"
        raise DataError(f"{name} {what}; pack the images themselves, in folders.")
    if len(parts) > MOST_LEVELS:
        raise DataError(f"{name} has folders more than {MOST_LEVELS} deep; pack fewer.")
    return PurePosixPath(*map(_plain, parts))


def _plain(part: str) -> str:
    """A name of a file or a folder without control characters, cut in its middle."""
    kept = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in part)
    stem, suffix = os.path.splitext(kept)
    while len(os.fsencode(stem + suffix)) > MOST_LETTERS:
        stem, suffix = stem[:-1], suffix[-8:]
    return stem + suffix


def _check_entry(entry: zipfile.ZipInfo, name: str, size: int) -> None:
    """Raises DataError where an image must not be unpacked; ``size`` is that of all so far."""
    if entry.flag_bits & 0x1:
        raise DataError(f"{name} is encrypted; pack it without a password.")
    if entry.compress_type not in _METHODS:
        raise DataError(f"{name} is packed in a way that is not read; pack it as a plain ZIP.")
    if size > MAX_UNPACKED:
        raise DataError(
            f"{name} unpacks to more than {MAX_UNPACKED >> 20} MB; pack fewer or smaller images."
        )


def _write(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, inside: PurePosixPath, name: str
) -> None:
    place = folder / inside
    place.parent.mkdir(parents=True, exist_ok=True)
    # It gives no more bytes than the entry declares, which were counted.
    with archive.open(entry) as packed, place.open("xb") as file:
        for block in _blocks(packed):
            file.write(block)


def _blocks(packed: zipfile.ZipExtFile) -> Iterator[bytes]:
    while block := packed.read(_BLOCK):
        yield block


def _mask(path: Path | None) -> str:
    return "" if path is None else str(path)


def _inside(text: str, root: Path) -> str:
    """A sentence about a folder on this disk as one about the ZIP."""
    text = text.replace(f"{root}{os.sep}", "").replace(str(root), "the ZIP")
    return text.replace(os.path.abspath(root), "the ZIP")
