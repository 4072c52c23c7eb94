"""From the files of a form to a visitor's :class:`.Session`: opened, encoded, scored, explained.

No Gradio here: the same steps serve the page, the API and the tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..config import PreprocessConfig
from ..errors import InctrlError
from ..images.files import ImageSource, check_listed, same_content
from ..images.overlay import resize_for_screen, scale_box
from ..images.preprocessing import CropBox
from ..images.seen import Opener, SeenImage, SeenSet, open_here, see_image, see_set
from ..model.bank import check_shots
from ..model.detector import Detector, EncodedImages
from ..model.evidence import DECIDE
from ..model.prompts import (
    DEFAULT_OBJECT_NAME,
    build_prompts,
    clean_object_name,
)
from .explanations import fusion_ledger, text_evidence
from .measured_bank import MeasuredBank, build_measured_bank, measure_bank
from .session import Picture, Session
from .stress import odd_normal

# What a screen can show; larger images are shown smaller, small ones larger, and all are scored as
# they are.
QUERY_PIXELS = 1_500_000
QUERY_SIDE = 800
NORMAL_PIXELS = 120_000


@dataclass(frozen=True, eq=False)
class OpenedFiles:
    """The images of a form, decoded once and reduced.

    Attributes:
        normals: The normals; None where the visitor's last bank serves again.
        query: The query.
    """

    normals: SeenSet | None
    query: SeenImage


def open_files(
    config: PreprocessConfig,
    model: str,
    files: tuple[Sequence[str], str],
    previous: Session | None = None,
    opener: Opener = open_here,
) -> OpenedFiles:
    """Opens what :func:`start_session` needs, one image after the other.

    Args:
        config: How the model sees images.
        model: Its name in the list.
        files: Paths of the normals, and of the query.
        previous: The visitor's last session.
        opener: Opens an image.

    Raises:
        InctrlError: Images are missing, too many, or cannot be used.
    """
    if not files[0]:
        raise InctrlError("Add at least one normal image.")
    check_shots(len(files[0]))
    if isinstance(files[1], str) and not files[1]:
        raise InctrlError("Add the image to check.")
    normals = open_normals(config, model, files[0], previous, opener)
    levels = previous.bank.levels if normals is None else normals.levels
    query = opener(see_image, files[1], config, QUERY_PIXELS, QUERY_SIDE, levels=levels)
    return OpenedFiles(normals, query)


def open_normals(
    config: PreprocessConfig,
    model: str,
    files: Sequence[str],
    previous: Session | None = None,
    opener: Opener = open_here,
) -> SeenSet | None:
    """Opens normals; None where the bank of the visitor's last session is of the same ones.

    Raises:
        InctrlError: There are none or too many, or one cannot be used.
    """
    check_shots(len(files))
    if has_bank_of(previous, model, files):
        return None
    return see_set(files, config, NORMAL_PIXELS, opener)


def has_bank_of(session: Session | None, model: str, files: Sequence[str]) -> bool:
    """Whether a session's bank was made from these normals by this model."""
    return (
        session is not None and session.model == model and same_files(files, session.normal_files)
    )


def same_files(paths: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists name files of the same content, in the same order.

    The page copies what it is given, so a file that a result was made with may have another name in
    the form.
    """
    return len(paths) == len(others) and all(
        one == other or same_content(one, other) for one, other in zip(paths, others, strict=True)
    )


def inspect(
    detector: Detector,
    normals: Sequence[ImageSource],
    query: ImageSource,
    object_name: str = DEFAULT_OBJECT_NAME,
    looks_for: str | None = None,
    previous: Session | None = None,
) -> Session:
    """All that the tab Inspect shows: the score of a query, the normals' range, and the reasons.

    Args:
        detector: The model.
        normals: 1 to 16 images, as :func:`inctrl_core.images.files.open_image` takes them.
        query: The image to check.
        object_name: What they show.
        looks_for: See :meth:`.Detector.build_bank`; None: as in ``previous``.
        previous: A result of the same normals: what was changed about them stays.

    Raises:
        InctrlError: Anything in the input cannot be used; the message says what.
    """
    check_listed(normals)
    files = tuple(normals), query
    about = object_name, previous
    return start_session(detector, detector.name, files, *about, looks_for=looks_for)


def start_session(
    detector: Detector,
    model: str,
    files: tuple[Sequence[str], str],
    object_name: str,
    previous: Session | None = None,
    opened: OpenedFiles | None = None,
    looks_for: str | None = None,
) -> Session:
    """Scores a query against normals.

    Args:
        detector: The model.
        model: Its name in the list.
        files: Paths of the normals, and of the query.
        object_name: What the images show.
        previous: The visitor's last session; its bank serves again where nothing that went into
            it has changed.
        opened: What :func:`open_files` has opened of them; None: it is called here.
        looks_for: See :meth:`.Detector.build_bank`; None: as in the last session, if its bank
            serves again.

    Raises:
        InctrlError: Anything in the input cannot be used; the message says what.
    """
    opened = opened or open_files(detector.config.preprocess, model, files, previous)
    if opened.normals is not None:
        sought = looks_for or DECIDE
        measured = build_measured_bank(detector, opened.normals, object_name, sought)
        return inspect_query(detector, measured, model, files, opened)
    measured = adjust_bank(detector, previous.measured, object_name, looks_for)
    session = inspect_query(detector, measured, model, files, opened)
    same = measured.bank.text is previous.bank.text
    phrases = previous.phrases if same else ((), ())
    kept = {"normals": previous.normals, "phrases": phrases, "defects": previous.defects}
    return dataclasses.replace(session, **kept)


def inspect_query(
    detector: Detector,
    measured: MeasuredBank,
    model: str,
    files: tuple[Sequence[str], str],
    opened: OpenedFiles,
) -> Session:
    """Scores an opened query against normals that have been encoded already.

    Args:
        detector: The model.
        measured: The normals.
        model: The model's name in the list.
        files: Paths of the normals, and of the query.
        opened: What :func:`open_files` has opened of them.
    """
    encoded = detector.encode_for(measured.bank, [opened.query])
    return Session(
        model=model,
        config=detector.config,
        normal_files=tuple(files[0]),
        normals=tuple(map(_picture, opened.normals or ())),
        query_file=files[1],
        encoded=encoded,
        query=_picture(opened.query),
        **results(detector, measured, encoded),
    )


def adjust_bank(
    detector: Detector, measured: MeasuredBank, object_name: str, looks_for: str | None = None
) -> MeasuredBank:
    """The same normals under another name, or looking for another kind of anomaly.

    Args:
        detector: The model.
        measured: Comes back as it is where nothing changes.
        object_name: What the images show.
        looks_for: See :meth:`.Detector.build_bank`; None: as before.
    """
    bank = measured.bank
    name = clean_object_name(object_name)
    if name != bank.object_name:
        bank = bank.with_text(name, detector.encode_prompts(build_prompts(object_name)))
    if looks_for not in (None, bank.looks_for):
        bank = bank.with_looks_for(looks_for)
    return measured if bank is measured.bank else measure_bank(detector, bank)


def _picture(image: SeenImage) -> Picture:
    return Picture(image.shown, scale_box(image.crop_box, image.size, image.shown.size))


def picture(
    image: Image.Image, crop_box: CropBox, most_pixels: int, least_side: int = 1
) -> Picture:
    """An image and its crop box, both at a size for the screen."""
    shown = resize_for_screen(image, most_pixels, least_side)
    return Picture(shown, scale_box(crop_box, image.size, shown.size))


def results(detector: Detector, measured: MeasuredBank, encoded: EncodedImages) -> dict[str, Any]:
    """The fields of a session that follow from its bank and its query."""
    score = detector.score_encoded(encoded, measured.bank)[0]
    return {
        "measured": measured,
        "score": score,
        "ledger": fusion_ledger(detector, measured.bank, encoded, score),
        "text": text_evidence(measured.bank, encoded),
        "odd": odd_normal(detector, measured, encoded),
    }
