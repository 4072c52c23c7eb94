"""Scores images against a few normal ones.

Exit status: 0 where at least one image was scored (standard error and "left_out" of the JSON name
what could not be), 1 after an error, which is told in one sentence, 2 after wrong options, 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ..analysis.background import propose_background
from ..analysis.batch import Batch, BatchRow, QueryFile
from ..analysis.batch_job import score_batch
from ..analysis.closer import PARTS, CloserLook, closer_normals, look_closer, parts_opener
from ..analysis.decision import RATE, RATES, check_rate
from ..analysis.defects import check_defects, show_defects
from ..analysis.export import batch_csv
from ..analysis.heatmap_files import (
    heatmap_files,
    is_heatmap,
    prepare_folder,
    write_heatmaps,
)
from ..analysis.measured_bank import measure_bank
from ..analysis.steps import steps_of
from ..analysis.unsorted import find_normals
from ..checkpoints.bank_file import SavedBank, load_bank, save_bank
from ..errors import ImageError, InctrlError, name_some
from ..images.folders import FoundImages, LeftOut, find_images
from ..images.ignored import part_of_image
from ..model.bank import PromptBank
from ..model.detector import Detector
from ..model.evidence import DECIDE
from ..model.prompts import DEFAULT_OBJECT_NAME
from .options import (
    add_looks_for_option,
    add_model_options,
    load_model_option,
    print_result,
    write_text,
)
from .score_notes import tell, tell_about, tell_left_out
from .score_output import score_document, score_table

_HEATMAPS = "heatmaps of an earlier run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    _add_images(parser)
    _add_choices(parser)
    add_model_options(parser)
    _add_output(parser.add_argument_group("output"))


def _add_images(parser: argparse.ArgumentParser) -> None:
    many = {"nargs": "+", "type": Path, "metavar": "DIR_OR_FILE"}
    normals = parser.add_mutually_exclusive_group(required=True)
    normals.add_argument("--normal", help="1 to 16 images without defects, or their folder", **many)
    normals.add_argument(
        "--normals-file", type=Path, metavar="FILE", help="normals that --save-normals has kept"
    )
    normals.add_argument(
        "--find-normals",
        type=int,
        metavar="N",
        help="no normals: choose N ordinary ones among the images to score",
    )
    parser.add_argument("--query", default=[], help="images to score, or their folder", **many)
    for label in ("good", "bad"):
        about = f"images that are known to be {label}: gives AUROC, AP and counts as well"
        parser.add_argument(f"--{label}", default=[], help=about, **many)
    parser.add_argument(
        "--defect",
        default=[],
        help="images of a defect, each its own: what is more like them than like the normals "
        "scores higher",
        **many,
    )
    parser.add_argument(
        "--recursive", action="store_true", help="look into the folders inside the folders too"
    )


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ignore",
        type=Path,
        metavar="MASK",
        help="an image of a normal's proportions that marks, by what is not black, the part of "
        "the picture that does not count",
    )
    parser.add_argument(
        "--ignore-background",
        action="store_true",
        help="leave out the background that the normals agree on, in all images",
    )
    parser.add_argument(
        "--object",
        metavar="NAME",
        help="what they show, such as 'metal nut'",
    )
    add_looks_for_option(parser, default=None)
    parser.add_argument(
        "--false-alarms",
        type=float,
        metavar="RATE",
        help=f"share of good images above the threshold, {RATES[0]:g} to {RATES[1]:g} (default: "
        f"the threshold that was saved with the normals, or {RATE:g})",
    )
    parser.add_argument(
        "--parts",
        type=int,
        choices=PARTS,
        default=1,
        help="look closer: read the images in N x N parts too, so that small things show "
        '(in --heatmaps, and as "closer" in --json)',
    )


def _add_output(output: argparse._ArgumentGroup) -> None:
    output.add_argument("--json", action="store_true", help="one JSON document on standard output")
    output.add_argument("--csv", type=Path, metavar="FILE", help="a table for a spreadsheet")
    output.add_argument(
        "--heatmaps",
        type=Path,
        metavar="DIR",
        help="for each image NAME_overlay.png, NAME_map8.png (the map alone, on the overlay's "
        "scale) and NAME_map16.png (its values: 65535 is a residual of 1), in the image's size",
    )
    output.add_argument(
        "--save-normals",
        type=Path,
        metavar="FILE",
        help="keep the features of the normals for another time; no image is in the file",
    )


def run(arguments: argparse.Namespace) -> None:
    """Scores every query, and writes what was asked for."""
    _check(arguments)
    found = _find(arguments.normal, arguments.recursive) if arguments.normal else None
    queries, labels = _find_queries(arguments)
    files = None
    if arguments.heatmaps:
        files = heatmap_files(arguments.heatmaps, queries.names)
        prepare_folder(arguments.heatmaps, files)  # Before minutes of scoring.
    detector = load_model_option(arguments)
    if arguments.find_normals is not None:
        found = _find_normals(detector, queries, arguments.find_normals)
    normals = _normals(detector, arguments, found)
    if arguments.save_normals:
        about = normals.bank, detector, normals.names, normals.threshold
        save_bank(arguments.save_normals, *about)
    batch = _score(detector, arguments, normals, queries, labels)
    unreadable = _unreadable(batch.rows)
    if not batch.scored:
        tell_left_out(unreadable[1:])
        raise ImageError(unreadable[0].why)
    not_normal = () if found is None else found.left_out
    left_out = {"normals": not_normal, "queries": (*queries.left_out, *unreadable)}
    tell_left_out(entry for part in left_out.values() for entry in part)
    tell_about(batch)
    looks = _look_closer(detector, batch, found, arguments.parts)
    heatmaps, problem = _draw(batch, files, looks)
    if arguments.json:
        drawn = None if files is None else heatmaps
        print_result(json.dumps(score_document(batch, left_out, drawn, looks)) + "\n")
    else:
        print_result(score_table(detector, batch, looks))
    if arguments.csv:
        names = {row: row.file.path for row in batch.rows}
        write_text(arguments.csv, "\N{ZERO WIDTH NO-BREAK SPACE}" + batch_csv(batch, names))
    if problem is not None:
        raise problem


def _check(arguments: argparse.Namespace) -> None:
    """Refuses options that do not go together."""
    if arguments.false_alarms is not None:
        check_rate(arguments.false_alarms)
    if arguments.normals_file and arguments.object is not None:
        raise InctrlError("The normals of the file have a name already; leave out --object.")
    if arguments.normals_file and arguments.parts > 1:
        raise InctrlError("--parts needs the images of the normals; name them with --normal.")
    ignores = arguments.ignore or arguments.ignore_background
    if arguments.ignore and arguments.ignore_background:
        raise InctrlError("Use one of --ignore and --ignore-background.")
    if arguments.normals_file and ignores:
        raise InctrlError("--ignore needs the images of the normals; name them with --normal.")
    if arguments.parts > 1 and ignores:
        raise InctrlError("--parts counts the whole picture; leave out --ignore or --parts.")


def _score(
    detector: Detector,
    arguments: argparse.Namespace,
    normals: SavedBank,
    queries: FoundImages,
    labels: Sequence[bool | None],
) -> Batch:
    waiting = list(map(QueryFile, map(str, queries.files), queries.names, labels))
    # A bar for what takes its time, which a few images do not.
    with tqdm(total=len(waiting), desc="scoring", unit="image", disable=len(waiting) < 8) as bar:
        about = detector, normals.bank, waiting
        batch = score_batch(*about, normal_names=normals.names, on_rows=bar.update)
    rate = RATE if arguments.false_alarms is None else arguments.false_alarms
    return dataclasses.replace(batch, rate=rate, chosen=normals.threshold)


def _find_normals(detector: Detector, queries: FoundImages, shots: int) -> FoundImages:
    """The images to score that are chosen as normals; standard error names them."""
    with tqdm(desc="comparing", unit="step") as bar:

        def show(done: int, steps: int) -> None:
            bar.total, bar.n = steps, done
            bar.refresh()

        places = find_normals(detector, queries.files, shots, show).normals
    chosen = FoundImages(
        tuple(queries.files[i] for i in places), tuple(queries.names[i] for i in places), ()
    )
    tell("note", f"taken as normals: {name_some(list(map(str, chosen.files)))}")
    return chosen


def _normals(
    detector: Detector, arguments: argparse.Namespace, found: FoundImages | None
) -> SavedBank:
    """The normals, beside the defects and with the threshold that were asked for."""
    normals = _saved(detector, arguments) if found is None else _built(detector, arguments, found)
    if arguments.defect:
        shown = _find(arguments.defect, arguments.recursive).files
        normals = dataclasses.replace(normals, bank=_beside(detector, normals.bank, shown))
    if arguments.false_alarms is not None:
        normals = dataclasses.replace(normals, threshold=None)
    return normals


def _saved(detector: Detector, arguments: argparse.Namespace) -> SavedBank:
    saved = load_bank(arguments.normals_file, detector)
    sought = arguments.looks_for or saved.bank.looks_for
    return dataclasses.replace(saved, bank=saved.bank.with_looks_for(sought))


def _built(detector: Detector, arguments: argparse.Namespace, found: FoundImages) -> SavedBank:
    name, sought = arguments.object or DEFAULT_OBJECT_NAME, arguments.looks_for or DECIDE
    part = None
    if arguments.ignore:
        part = part_of_image(arguments.ignore, detector.config.preprocess)
    bank = detector.build_bank(found.files, name, looks_for=sought, ignored=part)
    if arguments.ignore_background:
        if (part := propose_background(bank)) is None:
            raise InctrlError("The normals agree on no background; leave out --ignore-background.")
        bank = detector.build_bank(found.files, name, looks_for=sought, ignored=part)
    return SavedBank(bank, tuple(map(str, found.files)))


def _beside(detector: Detector, bank: PromptBank, shown: Sequence[Path]) -> PromptBank:
    """A bank beside the defects that it has and those that images show."""
    found = show_defects(detector, measure_bank(detector, bank), shown).bank
    images = [image for b in (bank, found) if b.defects for image in b.defects.images]
    check_defects(len(images))
    return bank.with_defects(images)


def _find_queries(arguments: argparse.Namespace) -> tuple[FoundImages, list[bool | None]]:
    """The images to score, and for each whether it is known to be bad."""
    parts = ((arguments.query, None), (arguments.good, False), (arguments.bad, True))
    found = [(_find(paths, arguments.recursive), label) for paths, label in parts if paths]
    if not found:
        raise InctrlError("Name the images to score: with --query, or with --good and --bad.")
    joined = FoundImages(
        *(sum((getattr(one, name) for one, _ in found), ()) for name in ("files", "names")),
        sum((one.left_out for one, _ in found), ()),
    )
    return joined, [label for one, label in found for _ in one.files]


def _find(paths: Sequence[Path], recursive: bool) -> FoundImages:
    """The images that were named, without the heatmaps that lie among them in folders."""
    found = find_images(paths, recursive=recursive)
    named = set(paths)
    drawn = [file for file in found.files if file not in named and is_heatmap(file)]
    if not drawn:
        return found
    kept = [
        pair for pair in zip(found.files, found.names, strict=True) if pair[0] not in set(drawn)
    ]
    if not kept:
        raise ImageError(f"'{paths[0]}' holds only {_HEATMAPS}; name a folder of images.")
    left_out = [LeftOut(file, "a heatmap of an earlier run", _HEATMAPS) for file in drawn]
    return FoundImages(*map(tuple, zip(*kept, strict=True)), (*found.left_out, *left_out))


def _unreadable(rows: Iterable[BatchRow]) -> list[LeftOut]:
    return [LeftOut(Path(row.file.path), row.error) for row in rows if row.error]


def _look_closer(
    detector: Detector, batch: Batch, found: FoundImages | None, parts: int
) -> dict[BatchRow, CloserLook]:
    """A closer look at every scored row; none for a single part."""
    if parts == 1 or found is None:
        return {}
    step = steps_of(detector)
    open_parts = parts_opener(detector.config.preprocess, batch.levels, parts)
    kept = [file for file, copy in zip(found.files, batch.copy_of, strict=True) if copy is None]
    closer = closer_normals(step, open_parts, kept, parts)
    rows = tqdm(batch.scored, desc="looking closer", unit="image", disable=len(batch.scored) < 4)
    return {
        row: look_closer(step, open_parts, closer, row.file.path, row.score.crop_box)
        for row in rows
    }


def _draw(
    batch: Batch,
    files: Sequence[dict[str, Path]] | None,
    looks: Mapping[BatchRow, CloserLook],
) -> tuple[dict[BatchRow, dict[str, Path]], InctrlError | None]:
    """Writes the heatmaps of every scored row, until one cannot be written.

    Returns:
        The files of each row that has them, and what went wrong: the scores are there all the same.
    """
    written: dict[BatchRow, dict[str, Path]] = {}
    if files is None:
        return written, None
    pairs = [(row, each) for row, each in zip(batch.rows, files, strict=True) if row.score]
    for row, each in tqdm(pairs, desc="drawing", unit="image", disable=len(pairs) < 8):
        try:
            look = looks.get(row)
            scale = batch.scale if look is None else look.scale
            patch_map = row.score.patch_map if look is None else look.patch_map
            place = patch_map, row.score.crop_box
            write_heatmaps(each, row.file.path, place, scale, batch.levels)
        except InctrlError as error:
            return written, error
        written[row] = each
    return written, None
