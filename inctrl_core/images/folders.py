"""Paths of files and folders -> the images that they mean, and what is left out and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError, name_some
from .files import IMAGE_SUFFIXES, upright_size

HIDDEN, NO_IMAGES, FOLDERS = "hidden", "not images", "folders inside a folder"

# Pictures that are not read, by the ends of their names: whoever has them expects them scored.
_UNREAD = {
    "HEIC sequence": "heics heifs",
    "JPEG 2000": "jp2 j2k jpf jpx jpm j2c",
    "JPEG XL": "jxl",
    "DICOM": "dcm dicom",
    "a medical volume": "nii nrrd mha mhd",
    "a camera's raw data": "cr2 cr3 nef arw dng raf orf rw2 pef srw raw",
    "a picture of high dynamic range": "exr hdr",
    "a drawing or a document": "svg eps ai pdf",
    "a picture in layers": "psd xcf kra",
    "an array": "npy npz mat h5 hdf5 fits",
    "a rare picture format": "ico icns tga pcx dds sgi ras xbm xpm wmf emf",
}
_HIDDEN_WHY = "hidden: its name begins with a dot"
_KINDS = {f".{end}": kind for kind, ends in _UNREAD.items() for end in ends.split()}


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder, that is not used.

    Attributes:
        path: Where it lies.
        why: The reason, with what to do where something can be done.
        group: The kind's name, where so many may lie about that one line for all of a kind will
            do; empty for a picture that somebody may miss.
    """

    path: Path
    why: str
    group: str = ""


@dataclass(frozen=True)
class FoundImages:
    """The result of :func:`find_images`.

    Attributes:
        files: The images, in the order of the paths, those of a folder by name.
        names: What to call each: its path inside the folder, or its name where it was named itself.
        left_out: All else that lies in the folders.
    """

    files: tuple[Path, ...]
    names: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()


def find_images(paths: Sequence[Path], *, recursive: bool = False) -> FoundImages:
    """Files as they stand, and the images in each folder; hidden files are left alone.

    Args:
        paths: Files and folders.
        recursive: Whether to look into the folders inside the folders too. Each is looked into
            once, however many links lead to it.

    Raises:
        ImageError: A folder cannot be read, or holds no images.
    """
    files: list[Path] = []
    names: list[str] = []
    left_out: list[LeftOut] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            names.append(path.name)
            continue
        inside, against = _look_into(path, recursive)
        if not inside:
            raise ImageError(_no_images(path, against, recursive))
        files += inside
        names += [str(file.relative_to(path)) for file in inside]
        left_out += against
    return FoundImages(tuple(files), tuple(names), tuple(left_out))


def _look_into(root: Path, recursive: bool) -> tuple[list[Path], list[LeftOut]]:
    files: list[Path] = []
    left_out: list[LeftOut] = []
    for entry in _walk(root, recursive):
        reason = entry if isinstance(entry, LeftOut) else _reason_against(entry)
        if reason is None:
            files.append(entry)
        else:
            left_out.append(reason)
    return files, left_out


def _walk(root: Path, recursive: bool) -> Iterator[Path | LeftOut]:
    """The files of a folder, then those of its folders; and the folders that are not entered."""
    pending, linked = [root], []
    entered: set[tuple[int, int]] = set()
    while pending or linked:
        # Links last, so that a folder is found under its own name rather than a link's.
        folder = pending.pop() if pending else linked.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in entered:
                continue  # A link to a folder that it lies in would go round for ever.
            entered.add((status.st_dev, status.st_ino))
            entries = sorted(folder.iterdir())
        except OSError as error:
            why = f"cannot be read ({error.strerror}); check its permissions"
            if folder == root:
                raise ImageError(f"{folder} {why}.") from None
            yield LeftOut(folder, why)
            continue
        folders = []
        for entry in entries:
            if not os.path.isdir(entry):
                yield entry
            elif _hidden(entry):
                yield LeftOut(entry, _HIDDEN_WHY, HIDDEN)
            elif recursive:
                folders.append(entry)
            else:
                why = "a folder inside a folder; add --recursive to look inside"
                yield LeftOut(entry, why, FOLDERS)
        linked += [entry for entry in folders if entry.is_symlink()]
        pending += [entry for entry in reversed(folders) if not entry.is_symlink()]


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _reason_against(path: Path) -> LeftOut | None:
    """Why a file in a folder is not taken for an image; None where it is."""
    end = path.suffix.lower()
    if _hidden(path):
        return LeftOut(path, _HIDDEN_WHY, HIDDEN)
    if end in IMAGE_SUFFIXES:
        return None
    if end in _KINDS:
        return LeftOut(path, f"{_KINDS[end]} is not read; save it as PNG, JPEG or TIFF")
    try:
        upright_size(path)
    except ImageError:
        return LeftOut(path, "not an image", NO_IMAGES)
    return LeftOut(path, "an image whose name does not end like one's; rename it, to .png or .jpg")


def _no_images(root: Path, left_out: Sequence[LeftOut], recursive: bool) -> str:
    """The sentence on a folder without images."""
    folders = [entry.path.name for entry in left_out if entry.group == FOLDERS]
    missed = [entry for entry in left_out if not entry.group]
    name = f"'{root.name or root}'"
    if folders and not missed:
        return (
            f"{name} holds no images of its own, only folders ({name_some(folders)}); "
            "add --recursive to look into them."
        )
    if missed:
        return f"{name} holds no images that are read: {missed[0].path.name}: {missed[0].why}."
    inside = ", nor do the folders inside it" if recursive else ""
    return f"{name} holds no images{inside}; name a folder that does."
