"""Measures a model on a dataset: few-shot AUROC, AP and F1-max over draws of normals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..analysis.decision import check_rate
from ..datasets.layouts import SETTINGS, load_classes, load_folders
from ..datasets.masks import check_masks
from ..datasets.subsets import (
    DATASETS,
    DataError,
    Subset,
    check_names,
    check_subset,
    queries_among_normals,
    usable,
    without_files,
)
from ..errors import InctrlError
from ..evaluation.features import FeatureStore, default_cache
from ..evaluation.methods import METHODS
from ..evaluation.plots import save_plots
from ..evaluation.protocol import SubsetScores, score_subset
from ..evaluation.report import (
    MeasuredModel,
    to_csv,
    to_document,
    to_draws,
    to_markdown,
    to_score_csv,
)
from ..evaluation.results import ShotResult, measure
from ..model.detector import Detector
from .options import add_looks_for_option, add_model_options, load_model_option, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    _add_data_options(parser.add_argument_group("data"))
    _add_measure_options(parser)
    _add_output_options(parser.add_argument_group("output"))


def _add_data_options(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DIR[,DIR]",
        help="data sets in a published layout (MVTec AD, MVTec AD 2, 3D-AD, LOCO, VisA, Real-IAD, "
        "BTAD ...), folders of good and bad images, or one folder per class with --setting",
    )
    data.add_argument(
        "--dataset",
        nargs="+",
        default=[],
        choices=sorted(DATASETS),
        help="images that a Python package brings",
    )
    data.add_argument("--setting", choices=SETTINGS, help="semantic anomaly detection on --data")
    data.add_argument("--object", metavar="NAME", help="what the images show, for all subsets")
    data.add_argument(
        "--skip-unreadable",
        action="store_true",
        help="leave out images and masks that cannot be read",
    )


def _add_measure_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shots",
        nargs="+",
        type=int,
        default=[2, 4, 8],
        metavar="K",
        help="numbers of normal images (default: 2 4 8)",
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help="number of draws of normals (default: 5)"
    )
    add_looks_for_option(parser)
    add_model_options(parser)
    parser.add_argument(
        "--training-free", action="store_true", help="do without all that is trained"
    )
    parser.add_argument(
        "--method",
        nargs="+",
        default=[],
        choices=METHODS,
        help="other methods to measure beside the model, on its features and draws: "
        + ", ".join(METHODS),
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where features are kept (default: the user's cache)",
    )
    parser.add_argument("--no-cache", action="store_true", help="keep no features")
    parser.add_argument(
        "--false-alarms",
        type=float,
        metavar="RATE",
        help="also measure the share of good images above the threshold for this rate",
    )


def _add_output_options(output: argparse._ArgumentGroup) -> None:
    output.add_argument("--json", action="store_true", help="one JSON document on standard output")
    output.add_argument("--csv", type=Path, metavar="FILE", help="every figure, a line each")
    output.add_argument("--markdown", type=Path, metavar="FILE", help="the table, also to a file")
    output.add_argument(
        "--scores", type=Path, metavar="FILE", help="CSV of every image's scores, for each draw"
    )
    output.add_argument("--plot", type=Path, metavar="DIR", help="ROC curves and score histograms")
    output.add_argument("--draws", type=Path, metavar="FILE", help="write which normals were drawn")


def run(arguments: argparse.Namespace) -> None:
    """Evaluates and writes what was asked for; the Markdown table is the default output."""
    if arguments.seeds < 1:
        raise InctrlError("--seeds must be at least 1.")
    if arguments.false_alarms is not None:
        check_rate(arguments.false_alarms)
    notes = Notes()
    check = partial(check_subset, shots=max(arguments.shots))
    subsets = usable(find_subsets(arguments, notes.tell), check, notes.tell)
    for subset in subsets:
        _tell_of_repeats(subset, notes.tell)
    if any(query.mask for subset in subsets for query in subset.queries):
        checked = tqdm(subsets, desc="checking masks", unit="subset")
        subsets = [
            _with_usable_masks(subset, arguments.skip_unreadable, notes.tell) for subset in checked
        ]
    detector = load_model_option(arguments)
    if arguments.training_free:
        detector = detector.training_free()
    store = FeatureStore(detector, _cache_folder(arguments))
    if arguments.skip_unreadable:
        subsets = [readable(subset, store, notes.tell) for subset in subsets]
        subsets = usable(subsets, check, notes.tell)
    scored = _score_all(detector, store, subsets, arguments)
    size = detector.config.preprocess.image_size
    # By pixel it takes minutes for many draws of many images.
    measured = tqdm(scored, desc="measuring", unit="subset")
    rate = arguments.false_alarms
    results = [result for scores in measured for result in measure(scores, size, rate)]
    if rate is not None and not any(result.false_alarms for result in results):
        notes.tell("This model gives no thresholds: it carries no figures of good images.")
    _write_outputs(arguments, detector, scored, results, notes.told)


class Notes:
    """Sentences about the data, written to standard error as they come, and kept.

    Attributes:
        told: All so far.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, note: str) -> None:
        """Adds a sentence."""
        self.told.append(note)
        sys.stderr.write(f"note: {note}\n")


def find_subsets(
    arguments: argparse.Namespace, tell: Callable[[str], None] = lambda note: None
) -> list[Subset]:
    """All subsets that the arguments name, in their order.

    Args:
        arguments: The command's arguments.
        tell: Called with a sentence about everything that is left out or may be misread.

    Raises:
        DataError: None is named, or one cannot be used.
    """
    if arguments.setting and not arguments.data:
        raise DataError("--setting tells how to read --data DIR, which is missing; add it.")
    subsets: list[Subset] = []
    for folder in split_paths(arguments.data):
        if arguments.setting:
            subsets += load_classes(folder, arguments.setting, arguments.object)
        else:
            subsets += load_folders(folder, arguments.object, tell)
    for name in arguments.dataset:
        subsets += DATASETS[name](arguments.object)
    if not subsets:
        raise DataError("Name what to evaluate on with --data DIR or --dataset NAME.")
    check_names(subsets)
    return subsets


def _tell_of_repeats(subset: Subset, tell: Callable[[str], None]) -> None:
    repeats = queries_among_normals(subset)
    if repeats:
        tell(
            f"{subset.name}: {len(repeats)} of {len(subset.queries)} test images are the same "
            "files as training normals; where one of those is drawn, it is its own normal"
        )


def _with_usable_masks(subset: Subset, skip: bool, tell: Callable[[str], None]) -> Subset:
    subset, notes = check_masks(subset, skip)
    for note in notes:
        tell(note)
    return subset


def split_paths(values: Sequence[str]) -> list[Path]:
    """Paths separated by commas; a comma within the name of an existing path separates nothing."""
    paths: list[Path] = []
    for value in values:
        parts = [value] if Path(value).exists() else value.split(",")
        paths += [Path(part) for part in parts if part]
    return paths


def _cache_folder(arguments: argparse.Namespace) -> Path | None:
    if arguments.no_cache:
        return None
    return arguments.cache or default_cache()


def readable(subset: Subset, store: FeatureStore, tell: Callable[[str], None]) -> Subset:
    """The subset without the images that cannot be read, of which ``tell`` is told."""
    paths = [*subset.train_normals, *(query.path for query in subset.queries)]
    with tqdm(paths, desc=f"{subset.name}: checking", unit="image") as progress:
        skipped = [path for path in progress if store.unreadable([path])]
    if skipped:
        names = ", ".join(path.name for path in skipped)
        tell(f"{subset.name}: skipped {len(skipped)} unreadable images: {names}")
    return without_files(subset, skipped)


def _score_all(
    detector: Detector,
    store: FeatureStore,
    subsets: Sequence[Subset],
    arguments: argparse.Namespace,
) -> list[SubsetScores]:
    scored = []
    for subset in subsets:
        title = f"{subset.dataset}/{subset.name}"
        with tqdm(total=len(subset.queries), desc=title, unit="image") as progress:
            scored.append(
                score_subset(
                    detector,
                    store,
                    subset,
                    arguments.shots,
                    range(arguments.seeds),
                    on_progress=progress.update,
                    looks_for=arguments.looks_for,
                    methods=list(dict.fromkeys(arguments.method)),
                )
            )
    return scored


def _write_outputs(
    arguments: argparse.Namespace,
    detector: Detector,
    scored: Sequence[SubsetScores],
    results: Sequence[ShotResult],
    notes: Sequence[str],
) -> None:
    measured = MeasuredModel.of(detector, arguments.looks_for)
    table = to_markdown(measured, results, arguments.false_alarms)
    # First of all, so that a file that cannot be written takes nothing along.
    if arguments.json:
        rate = arguments.false_alarms
        document = to_document(measured, arguments.seeds, results, notes, rate)
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.write(table)
    sys.stdout.flush()
    if arguments.csv:
        write_text(arguments.csv, to_csv(measured, results))
    if arguments.markdown:
        write_text(arguments.markdown, table)
    if arguments.draws:
        write_text(arguments.draws, json.dumps(to_draws(scored), indent=1) + "\n")
    if arguments.scores:
        write_text(arguments.scores, to_score_csv(scored))
    if arguments.plot:
        save_plots(scored, detector.name, arguments.plot)
