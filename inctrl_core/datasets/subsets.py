"""Datasets as frozen data: which images are normal examples, which are queries, and their labels.

Only files are handled here; no image is opened. Files are taken in the order of their names, so a
dataset means the same on every machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from ..errors import InctrlError, PromptError
from ..images.files import images_in, same_content
from ..model.prompts import clean_object_name

TEST_SHARE = 0.25
SPLIT_SEED = 42


class DataError(InctrlError):
    """A dataset cannot be used: missing, empty, or too small for what was asked."""


@dataclass(frozen=True)
class Query:
    """One test image.

    Attributes:
        path: The image.
        anomalous: Its label.
        kind: Name of the folder or class it comes from.
        mask: Image that is bright where the defect is, the size of the image, or a folder of
            several; None where unknown.
    """

    path: Path
    anomalous: bool
    kind: str
    mask: Path | None = None


@dataclass(frozen=True)
class Subset:
    """One object or texture: where normals may be drawn from, and what is to be scored.

    Attributes:
        dataset: Name of the dataset.
        name: Name within the dataset.
        object_name: What the images show, for the text prompts.
        root: Folder that all paths lie in.
        train_normals: Normal images that prompts may be drawn from.
        queries: Test images.
    """

    dataset: str
    name: str
    object_name: str
    root: Path
    train_normals: tuple[Path, ...]
    queries: tuple[Query, ...]

    @property
    def has_masks(self) -> bool:
        """Whether any defect's place is known."""
        return any(query.mask is not None for query in self.queries if query.anomalous)


def load_elpv(object_name: str | None = None) -> tuple[Subset, ...]:
    """Solar cells under electroluminescence, from the package ``elpv-dataset``.

    Normal is defect probability 0, anomalous is 1; what lies between is left out. The normals are
    split in the order of ``labels.csv``: 1131 to draw from, 377 to score beside 715 anomalous.

    Raises:
        DataError: The package is not installed.
    """
    root = _package_folder("elpv_dataset", "elpv-dataset") / "data"
    rows = [line.split() for line in (root / "labels.csv").read_text("utf-8").splitlines()]
    paths = {
        label: [root / row[0] for row in rows if row and float(row[1]) == label]
        for label in (0.0, 1.0)
    }
    train, test = split_normals(paths[0.0])
    queries = _label(test, "good", False) + _label(paths[1.0], "defective", True)
    return (Subset("elpv", "elpv", object_name or "solar cell", root, train, queries),)


def load_textile(object_name: str | None = None) -> tuple[Subset, ...]:
    """Simulated woven textile, from the package ``conformal-clip-data``.

    Two subsets, "local" and "global" defects, with the same 750 normals to draw from and the same
    250 to score.

    Raises:
        DataError: The package is not installed.
    """
    package = _package_folder("conformal_clip_data", "conformal-clip-data")
    root = package / "data" / "textile_images" / "simulated"
    train, test = split_normals(list_images(root / "nominal"))
    good = _label(test, "good", False)
    return tuple(
        Subset(
            "textile",
            kind,
            object_name or "textile",
            root,
            train,
            good + _label(list_images(root / kind), kind, True),
        )
        for kind in ("local", "global")
    )


DATASETS: dict[str, Callable[[str | None], tuple[Subset, ...]]] = {
    "elpv": load_elpv,
    "textile": load_textile,
}


def split_normals(paths: Sequence[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Three quarters to draw prompts from, one quarter to score; always the same.

    The split of the paper's datasets that come without one: scikit-learn's ``train_test_split``
    with ``random_state=42``, whose order numpy's generator gives.

    Raises:
        DataError: There are fewer than two images.
    """
    if len(paths) < 2:
        raise DataError(f"{len(paths)} images cannot be split; give at least two per class.")
    order = np.random.RandomState(SPLIT_SEED).permutation(len(paths))
    tested = math.ceil(TEST_SHARE * len(paths))
    return tuple(paths[i] for i in order[tested:]), tuple(paths[i] for i in order[:tested])


def check_names(subsets: Sequence[Subset]) -> None:
    """Refuses two subsets of one name, which no table or picture could tell apart.

    Raises:
        DataError: Names them.
    """
    for (dataset, name), count in Counter((s.dataset, s.name) for s in subsets).items():
        if count > 1:
            raise DataError(
                f"{count} of the folders are called '{name}' in '{dataset}'; rename one, or give "
                "each only once."
            )


def check_subset(subset: Subset, shots: int) -> None:
    """Makes sure that ``subset`` can be evaluated with ``shots`` normals.

    Raises:
        DataError: Too few normals to draw from, the test images are all of one label, or the name
            does not fit into prompts.
    """
    try:
        clean_object_name(subset.object_name)
    except PromptError as error:
        reason = str(error).rstrip(".")
        raise DataError(
            f"'{subset.name[:80]}' cannot go into prompts ({reason}); give another name with "
            "--object."
        ) from None
    available = len(subset.train_normals)
    if available < shots:
        raise DataError(
            f"'{subset.name}' has {available} normal training images and {shots} shots were asked "
            "for; lower --shots or add images."
        )
    labels = {query.anomalous for query in subset.queries}
    if len(labels) < 2:
        missing = "anomalous" if labels == {False} else "normal"
        raise DataError(
            f"'{subset.name}' has no {missing} test images; both kinds are needed to measure."
        )


def usable(
    subsets: Sequence[Subset], check: Callable[[Subset], None], tell: Callable[[str], None]
) -> list[Subset]:
    """The subsets that a check has nothing against.

    Args:
        subsets: Subsets of all data sets.
        check: Raises DataError about one that cannot be used, as :func:`check_subset` does.
        tell: Called with a sentence about each of those.

    Raises:
        DataError: There would be none left; says it of the first.
    """
    kept: list[Subset] = []
    problems: list[DataError] = []
    for subset in subsets:
        try:
            check(subset)
            kept.append(subset)
        except DataError as error:
            problems.append(error)
    if problems and not kept:
        raise problems[0]
    for problem in problems:
        tell(f"left out: {problem}")
    return kept


def queries_among_normals(subset: Subset) -> list[Path]:
    """Queries whose files are, byte for byte, those of training normals.

    A data set may be published so; where such a normal is drawn, the query meets itself. Files that
    cannot be read are told where they are opened.
    """
    sizes: dict[int, list[Path]] = {}
    for path in subset.train_normals:
        sizes.setdefault(_size(path), []).append(path)
    return [
        query.path
        for query in subset.queries
        if any(same_content(query.path, path) for path in sizes.get(_size(query.path), ()))
    ]


def without_files(subset: Subset, unusable: Iterable[Path]) -> Subset:
    """The subset without the given images."""
    drop = frozenset(unusable)
    return dataclasses.replace(
        subset,
        train_normals=tuple(path for path in subset.train_normals if path not in drop),
        queries=tuple(query for query in subset.queries if query.path not in drop),
    )


def list_images(folder: Path) -> tuple[Path, ...]:
    """The images directly inside ``folder``, by name.

    Raises:
        DataError: The folder is missing or holds no images.
        ImageError: It cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist; a dataset needs this folder of images.")
    found = images_in(folder)
    if not found:
        raise DataError(f"{folder} holds no images; add some or remove the folder.")
    return tuple(found)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _label(paths: Iterable[Path], kind: str, anomalous: bool) -> tuple[Query, ...]:
    return tuple(Query(path, anomalous, kind) for path in paths)


def _package_folder(module: str, package: str) -> Path:
    try:
        found = import_module(module).__file__
    except ImportError:
        raise DataError(f"The package {package} is missing; pip install {package}.") from None
    return Path(str(found)).parent
