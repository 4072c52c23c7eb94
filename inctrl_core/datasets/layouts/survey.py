"""Which file is the mask of which image: by their names and by the folders they lie in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import ImageError
from ...images.files import images_in, open_values, upright_size
from ..masks import MOST_LABELS
from ..subsets import DataError
from .names import (
    image_names,
    image_of_mask,
    is_mask_folder,
    is_wrapper,
    label_of,
    mask_scope,
    part_of,
)

MOST_LEVELS = 6  # Of folders within a subset; links may lead in circles.
_LOSSY = frozenset({".jpg", ".jpeg", ".jfif"})


@dataclass(frozen=True)
class Mask:
    """A mask, or a folder of several masks of one image.

    Attributes:
        path: The file, or the folder.
        image: Name of its image without suffix, in small letters.
        scope: The folders of its image within the subset, as far as they are known from where it
            lies: ("test", "scratch") for a file in ``test/ground_truth/scratch``.
    """

    path: Path
    image: str
    scope: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """The image files below one folder.

    Attributes:
        top: The folder.
        images: All that are no masks, by path.
        masks: The masks.
    """

    top: Path
    images: tuple[Path, ...]
    masks: tuple[Mask, ...]

    def below(self, folder: Path) -> tuple[Path, ...]:
        """Images of one kind: directly in a folder; else in its "rgb" or "images"; else below it.

        What else lies deeper, as depth maps beside "rgb", is no image of the kind.
        """
        inside = [path for path in self.images if path.is_relative_to(folder)]
        direct = tuple(path for path in inside if path.parent == folder)
        if direct:
            return direct
        wrapped = {p.relative_to(folder).parts[0] for p in inside}
        wrapped = {name for name in wrapped if is_wrapper(name)}
        kept = (p for p in inside if not wrapped or p.relative_to(folder).parts[0] in wrapped)
        return tuple(kept)

    def match(self, images: Sequence[tuple[Path, bool]]) -> dict[Path, Path]:
        """The masks of images.

        A mask is the image's where it has its name and lies in a folder of the same kind, or in one
        for all kinds. Of images that could have the same mask the anomalous one has it; where there
        are two of those, neither.

        Args:
            images: Paths, and whether they are anomalous.

        Returns:
            Image -> mask.
        """
        by_name: dict[str, list[Mask]] = {}
        for mask in self.masks:
            by_name.setdefault(mask.image, []).append(mask)
        claims: dict[Path, list[tuple[int, bool, Path]]] = {}
        for image, anomalous in images:
            scope = _scope(image.parent.relative_to(self.top).parts)
            found = [
                (-_closeness(mask.scope, scope), mask.path)
                for name in image_names(image.stem)
                for mask in by_name.get(name, ())
                if _closeness(mask.scope, scope)
            ]
            if found:
                closeness, path = min(found)
                claims.setdefault(path, []).append((-closeness, anomalous, image))
        matched: dict[Path, Path] = {}
        for path, claimants in claims.items():
            best = max(claimant[:2] for claimant in claimants)
            holders = [image for *rank, image in claimants if tuple(rank) == best]
            if len(holders) == 1:
                matched[holders[0]] = path
        return matched

    def unmatched(self, used: Iterable[Path]) -> list[Path]:
        """Masks that are not among ``used``, nor lie in a folder that is."""
        taken = set(used)
        files = dict.fromkeys(mask.path for mask in self.masks if not mask.path.is_dir())
        return sorted(path for path in files if path not in taken and path.parent not in taken)


def survey(top: Path) -> Survey:
    """Finds all images below a folder, and which of them are masks.

    Masks lie in folders named so (see :func:`names.is_mask_folder`), or beside their image
    as ``NAME_mask``, ``NAME_GT`` and the like, or under the own name of a JPEG file as a PNG, BMP
    or TIFF of its size and of few values.

    Raises:
        DataError: A folder cannot be read.
    """
    images: list[Path] = []
    masks: list[Mask] = []
    _walk(top, (), None, images, masks)
    return Survey(top, tuple(sorted(images)), tuple(masks))


def masks_in(folder: Path) -> dict[str, Path]:
    """The masks in a folder by their image's name.

    They are files ``NAME_mask``, ``NAME_gt``, ``NAME_label`` or ``NAME``, or folders ``NAME`` of
    several.
    """
    if not folder.is_dir():
        return {}
    several = {path.name: path for path in folders_in(folder) if images_in(path)}
    return several | {image_of_mask(path.stem): path for path in images_in(folder)}


def folders_in(root: Path) -> list[Path]:
    """The folders directly inside a folder, by name; not what is hidden.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror}); check it.") from None


def existing(folder: Path) -> Path:
    """The absolute path of a folder.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; check the path of the dataset.")
    return Path(os.path.abspath(folder))  # Not resolved: a link keeps its own name.


def _walk(
    folder: Path,
    scope: tuple[str, ...],
    mask_of: tuple[str, ...] | None,
    images: list[Path],
    masks: list[Mask],
) -> None:
    """Adds what lies in and below ``folder`` to ``images`` and ``masks``.

    Args:
        folder: To be looked through.
        scope: Its place within the subset, without words for masks.
        mask_of: The same where all that lies here are masks, else None.
        images: Grows.
        masks: Grows.
    """
    files = images_in(folder)
    if mask_of is None:
        beside = _beside(files)
        masks += [Mask(path, name, _scope(scope)) for path, name in beside.items()]
        images += [path for path in files if path not in beside]
    else:
        names = {
            path: {path.stem.casefold(), image_of_mask(path.stem).casefold()} for path in files
        }
        masks += [Mask(path, name, _scope(scope)) for path in files for name in sorted(names[path])]
        if files and scope:
            masks.append(Mask(folder, folder.name.casefold(), _scope(scope[:-1])))
    if len(scope) >= MOST_LEVELS:
        return
    for inside in folders_in(folder):
        if mask_of is None and is_mask_folder(inside.name):
            rest = mask_scope(inside.name)
            deeper = (*scope, rest) if rest else scope
            _walk(inside, deeper, deeper, images, masks)
        else:
            deeper = (*scope, inside.name)
            _walk(inside, deeper, None if mask_of is None else deeper, images, masks)


def _beside(files: Sequence[Path]) -> dict[Path, str]:
    """Those of the files of one folder that are masks of others of them, and of which."""
    stems: dict[str, list[Path]] = {}
    for path in files:
        stems.setdefault(path.stem.casefold(), []).append(path)
    found: dict[Path, str] = {}
    for path in files:
        stem, image = path.stem.casefold(), image_of_mask(path.stem).casefold()
        if image != stem and image in stems:
            found[path] = image
        elif len(stems[stem]) == 2 and path.suffix.lower() not in _LOSSY:
            (other,) = (one for one in stems[stem] if one != path)
            if other.suffix.lower() in _LOSSY and _marks(path, other):
                found[path] = stem
    return found


def _marks(path: Path, image: Path) -> bool:
    """Whether a file is a mask by what it holds: as large as the image, and of a few values."""
    try:
        if upright_size(path) != upright_size(image):
            return False
        return len(np.unique(open_values(path))) <= MOST_LABELS
    except ImageError:
        return False


def _scope(folders: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in folders if not is_wrapper(name))


def _closeness(mask: tuple[str, ...], image: tuple[str, ...]) -> int:
    """How well the folders of a mask fit to those of an image: 0 not at all, 3 exactly."""
    if mask == image:
        return 3
    (mask_parts, mask_kind), (image_parts, image_kind) = _divided(mask), _divided(image)
    if mask_parts and mask_parts != image_parts:
        return 0
    if not mask_kind:
        return 1
    same = mask_kind in (image_kind, image_kind[: len(mask_kind)], image_kind[-len(mask_kind) :])
    labels = [label_of(kind[0]) for kind in (mask_kind, image_kind) if kind]
    alike = len(mask_kind) == 1 and len(labels) == 2 and None not in labels
    return 2 if same or (alike and labels[0] == labels[1]) else 0


def _divided(scope: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of parts among folders, and the others."""
    parts = tuple(part_of(name) or "" for name in scope if _is_part(name))
    return parts, tuple(name for name in scope if not _is_part(name))


def _is_part(name: str) -> bool:
    return part_of(name) is not None and label_of(name) is None
