"""From labelled folders of one subset to its splits: what is drawn from, tested, and left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import ImageError, name_some
from ..masks import open_mask
from ..subsets import SPLIT_SEED, TEST_SHARE, DataError, Query, split_normals
from .names import TEST, TRAIN
from .survey import Survey


@dataclass(frozen=True)
class Splits:
    """One subset's images.

    Attributes:
        train_normals: Normal images that prompts may be drawn from.
        queries: Test images.
        notes: Sentences about what was left out, or read in a way that could be wrong.
    """

    train_normals: tuple[Path, ...]
    queries: tuple[Query, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """Images of one folder, all of one label.

    Attributes:
        part: The part of the data set that they are for; None where nothing says it.
        anomalous: Their label.
        name: Name of the folder.
        images: Paths.
        by_mask: Whether their masks gave the label.
    """

    part: str | None
    anomalous: bool
    name: str
    images: tuple[Path, ...]
    by_mask: bool = False


def assemble(found: Survey, kinds: Sequence[Kind], divide: bool = True) -> Splits:
    """Splits from labelled folders: good ones to draw from, and the others for the test.

    Good images of no part go where the others lack them. Anomalous training images are tested only
    where there are no others.

    Args:
        found: The images and masks of the subset.
        kinds: Labelled folders.
        divide: Whether some of the good images go to training where nothing says which do; False:
            all of those are tested.
    """
    train = [k for k in kinds if not k.anomalous and k.part == TRAIN]
    good = [k for k in kinds if not k.anomalous and k.part == TEST]
    loose = [k for k in kinds if not k.anomalous and k.part is None]
    bad = [k for k in kinds if k.anomalous and k.part != TRAIN]
    spare = [k for k in kinds if k.anomalous and k.part == TRAIN]
    notes = _readings(kinds)
    if (train or not divide) and not good:
        good = loose
    elif good and not train:
        train = loose
    if spare and not bad:
        bad, spare = spare, []
        notes.append("only training folders hold anomalous images; those are tested")
    normals = _joined(train)
    unclear = not normals or (not good and all(kind.part == TRAIN for kind in bad) and bad)
    if divide and unclear:
        normals, good = _split(found.top, train or good or loose, notes)
    if spare:
        notes.append(f"left out as training images: {len(_joined(spare))} anomalous ones")
    tested = sorted((*good, *bad), key=lambda kind: kinds.index(kind) if kind in kinds else -1)
    masks = found.match([(path, k.anomalous) for k in tested for path in k.images])
    queries = tuple(Query(p, k.anomalous, k.name, masks.get(p)) for k in tested for p in k.images)
    return Splits(normals, queries, (*notes, *_left_over(found, kinds)))


def _readings(kinds: Sequence[Kind]) -> list[str]:
    """The readings of names and masks that could be wrong, in sentences."""
    notes = []
    told = [kind for kind in kinds if kind.by_mask]
    if told:
        bad = len(_joined(kind for kind in told if kind.anomalous))
        notes.append(
            f"masks tell which images are anomalous: {bad} of {len(_joined(told))}; those without "
            "a mask, or with one that marks nothing, are taken for good"
        )
    signs = [k.name for k in kinds if k.name.lower() in ("positive", "negative")]
    if signs:
        notes.append("'negative' is read as good and 'positive' as anomalous, as tests for defects")
    return notes


def _split(
    top: Path, kinds: Sequence[Kind], notes: list[str]
) -> tuple[tuple[Path, ...], list[Kind]]:
    """Good images to draw from, and those to test; says so in ``notes``."""
    images = _joined(kinds)
    if len(images) < 2:
        raise DataError(
            f"{top} holds fewer than two good images, which are to be split into those to draw "
            "from and those to test; add some."
        )
    train, test = split_normals(images)
    names = name_some([f"'{name}'" for name in sorted({kind.name for kind in kinds})])
    notes.append(
        f"nothing says which good images are for training: of {len(images)} in {names} "
        f"{len(train)} are drawn from and {len(test)} tested (a test share of {TEST_SHARE}, seed "
        f"{SPLIT_SEED})"
    )
    return train, [Kind(TEST, False, kinds[0].name, test)]


def _left_over(found: Survey, kinds: Sequence[Kind]) -> list[str]:
    """The unused parts of a subset, in sentences."""
    used = {path for kind in kinds for path in kind.images}
    busy = {folder for path in used for folder in path.parents}
    notes = []
    alone = {
        next((f for f in [*path.parents][::-1] if f not in busy and f != found.top), path)
        for path in found.images
        if path not in used
    }
    if alone:
        names = sorted(path.relative_to(found.top).as_posix() for path in alone)
        notes.append(f"left alone: {name_some(names)}")
    # Masks of training images are no mistake.
    matched = found.match([(path, kind.anomalous) for kind in kinds for path in kind.images])
    stray = found.unmatched(matched.values())
    if stray:
        names = name_some([path.relative_to(found.top).as_posix() for path in stray])
        notes.append(
            f"{len(stray)} {'mask belongs' if len(stray) == 1 else 'masks belong'} to no image, or "
            f"not to one alone: {names}; name a mask as its image or NAME_mask, in a folder of the "
            "same kind"
        )
    return notes


def kinds_by_masks(found: Survey, part: str | None, images: Sequence[Path]) -> list[Kind]:
    """Images as good or anomalous by what their masks mark; without a mask they are good.

    Raises:
        DataError: A mask cannot be read, so that the label of its image is unknown.
    """
    matched = found.match([(path, True) for path in images])
    if part == TRAIN and not matched:  # All are good where nothing says otherwise.
        return [Kind(part, False, "good", tuple(images))]
    wrong: list[str] = []
    bad: set[Path] = set()
    for image, mask in matched.items():
        try:
            bad |= {image} if open_mask(mask).any() else set()
        except ImageError:
            wrong.append(str(mask))
    if wrong:
        raise DataError(
            f"{name_some(wrong)} cannot be read, and only masks tell here which images are "
            "anomalous; mend them, or remove them together with their images."
        )
    kinds = [
        Kind(part, False, "good", tuple(path for path in images if path not in bad), True),
        Kind(part, True, "defect", tuple(path for path in images if path in bad), True),
    ]
    return [kind for kind in kinds if kind.images]


def _joined(kinds: Iterable[Kind]) -> tuple[Path, ...]:
    return tuple(path for kind in kinds for path in kind.images)
