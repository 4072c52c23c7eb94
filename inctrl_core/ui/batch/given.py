"""The images that a visitor has given to a batch: plain ones, labelled ones, and a ZIP of those."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradio.utils import get_upload_folder

from ...analysis.batch import QueryFile
from ...analysis.batch_job import check_files
from ...config import MAX_SHOTS
from ...datasets.archives import read_zip
from ...errors import InctrlError
from ...images.seen import Opener
from ..common.examples import ExampleSet, match_example
from ..common.form import UploadedFile, UploadedFiles, file_path, query_files
from ..common.markup import count_words

# Taken from a ZIP whose folders say what is for training, where the form holds none.
NORMALS_TAKEN = 8


@dataclass(frozen=True)
class Given:
    """What a batch is made of.

    Attributes:
        queries: The images to check.
        normals: Paths of normals that came with them; empty where the form's are to be used.
        example: Name of the example set whose queries these are, "" where it is none.
        labelled: The visitor has said which are good and which bad.
        notes: Sentences about what was left out.
        unpacked: Folder of the ZIP's images; empty where there was none.
    """

    queries: tuple[QueryFile, ...]
    normals: tuple[str, ...] = ()
    example: str = ""
    labelled: bool = False
    notes: tuple[str, ...] = ()
    unpacked: str = ""


def collect(
    files: UploadedFiles,
    good: UploadedFiles,
    bad: UploadedFiles,
    archive: UploadedFile,
    examples: Mapping[str, ExampleSet],
    images: Opener,
    needs_normals: bool = False,
) -> Given:
    """All that was given, in the order of the fields.

    Args:
        files: Images of which nothing is said.
        good: Images that are known to be good.
        bad: Images that are known to be bad.
        archive: A ZIP of labelled folders.
        examples: The example sets, whose truth is known.
        images: Opens images, and ZIPs, in another process.
        needs_normals: Whether the form holds none, so that the ZIP must bring them.

    Raises:
        InctrlError: Something of it cannot be used; then nothing of the ZIP is left on the disk.
    """
    plain = query_files(files)
    known = [
        dataclasses.replace(file, anomalous=anomalous)
        for uploads, anomalous in ((good, False), (bad, True))
        for file in query_files(uploads)
    ]
    if not known and not file_path(archive):
        queries, example = _of_example(plain, examples)
        check_files(queries)
        return Given(queries, example=example)
    known = list(_of_example(tuple(known), examples)[0])
    if not file_path(archive):
        check_files((*plain, *known))
        return Given((*plain, *known), labelled=True)
    folder = Path(get_upload_folder()) / secrets.token_hex(20)
    folder.mkdir(parents=True)
    try:
        given = _with_zip(file_path(archive), folder, images, needs_normals)
        queries = (*plain, *known, *given.queries)
        check_files(queries)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return dataclasses.replace(given, queries=queries)


def let_go(unpacked: str) -> None:
    """Removes the images of a ZIP, where there was one."""
    if unpacked:
        shutil.rmtree(unpacked, ignore_errors=True)


def _with_zip(path: str, folder: Path, images: Opener, needs_normals: bool) -> Given:
    normals, listed, notes = images.run(read_zip, path, str(folder))
    queries = tuple(QueryFile(*entry) for entry in listed)
    taken: tuple[str, ...] = ()
    if needs_normals:
        taken = _spread(normals, NORMALS_TAKEN)
        if not taken:
            raise InctrlError("Add at least one normal image; the ZIP has none for training.")
        words = count_words(len(taken), "normal")
        notes = (*notes, f"{words} of {len(normals)} taken from the ZIP's training images")
    elif normals:
        words = count_words(len(normals), "training image")
        notes = (*notes, f"{words} of the ZIP left aside: the form has normals")
    return Given(queries, taken, labelled=True, notes=notes, unpacked=str(folder))


def _spread(paths: tuple[str, ...], count: int) -> tuple[str, ...]:
    """So many of the paths, evenly from first to last: neighbours are often alike."""
    count = min(count, len(paths), MAX_SHOTS)
    return tuple(paths[i * len(paths) // count] for i in range(count))


def _of_example(
    files: tuple[QueryFile, ...], examples: Mapping[str, ExampleSet]
) -> tuple[tuple[QueryFile, ...], str]:
    """The files with truth and masks, where all are queries of one example set; and its name."""
    name, places = match_example([file.path for file in files], examples)
    if not name:
        return files, ""
    queries = [examples[name].queries[place] for place in places]
    told = (
        dataclasses.replace(
            file,
            anomalous=query.anomalous if file.anomalous is None else file.anomalous,
            mask="" if query.mask is None else str(query.mask),
        )
        for file, query in zip(files, queries, strict=True)
    )
    return tuple(told), name
