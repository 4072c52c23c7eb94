"""One visitor's batch while it runs, and its steps that need a model; no Gradio."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import InctrlError
from ..images.files import ImageSource, check_listed
from ..images.seen import SeenSet
from ..model.bank import PromptBank, check_shots, numbered_names
from ..model.detector import Detector
from ..model.evidence import DECIDE
from ..model.prompts import DEFAULT_OBJECT_NAME
from .batch import Batch, BatchRow, QueryFile, score_chunk, start_batch
from .export import file_names
from .inspection import adjust_bank, has_bank_of
from .measured_bank import MeasuredBank, build_measured_bank, measure_bank
from .session import Session

MAX_FILES = 200
MAX_TOTAL_BYTES = 400 * 2**20
NO_QUERIES = "Add the images to check."


@dataclass(frozen=True, eq=False)
class BatchJob:
    """A batch on its way: what it needs to go on, and the rows so far.

    Attributes:
        key: A name of its own, so that a request to stop reaches no other batch.
        model: Name of the model in the list.
        normal_files: Where the normals lie.
        bank: The features of the normals.
        batch: The results so far.
        waiting: Files still to be scored.
        example: The example set whose queries these are, "" where it is none.
        fails: Why the model fails on that set, where it is known to.
        phrases: Number of the visitor's own phrases in the bank.
        stopped: The visitor did not want the rest.
        started: When scoring began, by ``time.monotonic``.
        seconds: From then to the last row, waiting for turns included.
        labelled: The visitor has said which images are good and which bad.
        notes: Sentences about what of the visitor's was left out.
        unpacked: Folder of the images that came in a ZIP; empty where none did.
    """

    key: str
    model: str
    normal_files: tuple[str, ...]
    bank: PromptBank
    batch: Batch
    waiting: tuple[QueryFile, ...]
    example: str = ""
    fails: str = ""
    phrases: int = 0
    stopped: bool = False
    started: float = 0.0
    seconds: float = 0.0
    labelled: bool = False
    notes: tuple[str, ...] = ()
    unpacked: str = ""

    @property
    def total(self) -> int:
        """Number of files, scored or not."""
        return len(self.batch.rows) + len(self.waiting)

    @property
    def finished(self) -> bool:
        """Whether nothing more will be scored."""
        return self.stopped or not self.waiting

    def with_rows(self, rows: Sequence[BatchRow], now: float) -> BatchJob:
        """The job after the first waiting files were scored; ``now`` is as ``started``."""
        batch = dataclasses.replace(self.batch, rows=(*self.batch.rows, *rows))
        return dataclasses.replace(
            self,
            batch=batch,
            waiting=self.waiting[len(rows) :],
            seconds=now - self.started,
        )

    def stop(self) -> BatchJob:
        """The job without what is still waiting."""
        return dataclasses.replace(self, stopped=True) if self.waiting else self


def start_job(
    detector: Detector,
    key: str,
    model: str,
    normal_files: tuple[str, ...],
    files: tuple[QueryFile, ...],
    object_name: str,
    previous: Session | None = None,
    normal_names: tuple[str, ...] = (),
    normals: SeenSet | None = None,
) -> BatchJob:
    """Makes the bank, or takes that of the visitor's session where the normals are the same.

    Args:
        detector: The model.
        key: The job's own name.
        model: The model's name in the list.
        normal_files: Paths of the normals.
        files: The queries.
        object_name: What the images show.
        previous: The visitor's session. Under the same name its bank serves as it is, with the
            visitor's own phrases, so that a batch says what Inspect says.
        normal_names: Names of the normals; by default those of their files.
        normals: The opened normals; None: they are opened here.

    Raises:
        InctrlError: The normals, the name or the number of files cannot be used.
    """
    check_shots(len(normal_files))
    check_files(files)
    if has_bank_of(previous, model, normal_files):
        measured = adjust_bank(detector, previous.measured, object_name)
    else:
        measured = build_measured_bank(detector, normals or normal_files, object_name)
    return new_job(measured.to("cpu"), key, model, normal_files, files, previous, normal_names)


def new_job(
    measured: MeasuredBank,
    key: str,
    model: str,
    normal_files: tuple[str, ...],
    files: tuple[QueryFile, ...],
    previous: Session | None = None,
    normal_names: tuple[str, ...] = (),
) -> BatchJob:
    """A job with nothing done yet, against normals that have been encoded already.

    Args:
        measured: The normals, on the CPU.
        key: As for :func:`start_job`, as is the rest.
        model: See there.
        normal_files: See there.
        files: See there.
        previous: See there.
        normal_names: See there.
    """
    own = previous is not None and measured.bank.text is previous.bank.text
    phrases = sum(map(len, previous.phrases)) if own else 0
    batch = start_batch(measured, model, normal_names or file_names(normal_files))
    return BatchJob(key, model, normal_files, measured.bank, batch, files, phrases=phrases)


def score_batch(
    detector: Detector,
    normals: Sequence[ImageSource] | PromptBank,
    queries: Sequence[QueryFile | ImageSource],
    object_name: str = DEFAULT_OBJECT_NAME,
    *,
    normal_names: Sequence[str] = (),
    on_rows: Callable[[int], None] | None = None,
    looks_for: str = DECIDE,
) -> Batch:
    """All that the tab Batch shows: many queries against the same normals, however many.

    Args:
        detector: The model.
        normals: 1 to 16 images, as :func:`inctrl_core.images.files.open_image` takes them; or
            their bank.
        queries: The images to check; one that cannot be read has its reason in its row.
        object_name: What they show; a bank has its own name.
        normal_names: Names of the normals; by default those of their files, or their numbers.
        on_rows: Told how many more queries are done.
        looks_for: See :meth:`.Detector.build_bank`; a bank has its own.

    Raises:
        InctrlError: The normals or the name cannot be used, or there is no query.
    """
    check_listed(queries)
    if not queries:
        raise InctrlError(NO_QUERIES)
    named = zip(queries, file_names(queries), strict=True)
    waiting = [q if isinstance(q, QueryFile) else QueryFile(q, name) for q, name in named]
    if isinstance(normals, PromptBank):
        measured = measure_bank(detector, normals)
        names = numbered_names(normals.shots)
    else:
        measured = build_measured_bank(detector, normals, object_name, looks_for)
        names = file_names(normals)
    batch, rows = start_batch(measured, detector.name, normal_names or names), []
    while len(rows) < len(waiting):
        scored = score_chunk(detector, measured.bank, waiting[len(rows) :])
        rows += scored
        if on_rows is not None:
            on_rows(len(scored))
    return dataclasses.replace(batch, rows=tuple(rows))


def check_files(files: Sequence[QueryFile]) -> None:
    """Raises InctrlError where the number or the size of the files is wrong."""
    problem = files_problem(files)
    if problem:
        raise InctrlError(problem)


def files_problem(files: Sequence[QueryFile]) -> str:
    """A sentence about a wrong number or size of the files; "" where both are right."""
    if not files:
        return NO_QUERIES
    if len(files) > MAX_FILES:
        return f"There are {len(files)} images to check; use at most {MAX_FILES} at a time."
    size = sum(os.path.getsize(file.path) for file in files if os.path.exists(file.path))
    if size > MAX_TOTAL_BYTES:
        return (
            f"The images to check have {size >> 20} MB together; "
            f"use at most {MAX_TOTAL_BYTES >> 20} MB at a time."
        )
    return ""
