"""Scoring the frames of a camera or a video: one bank for many frames. No Gradio here."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...analysis.copies import copies_told
from ...analysis.measured_bank import MeasuredBank
from ...errors import ImageError
from ...images.preprocessing import aspect_mismatch
from ...images.seen import MOST_DRAWN, Opener, SeenImage, open_here, shrink
from ...model.detector import Detector

# A frame whose shorter side has 480 pixels has some 100 KB as JPEG.
MAX_FRAME_CHARACTERS = 2_000_000
_PREFIX = "data:image/jpeg;base64,"


@dataclass(frozen=True, eq=False)
class LiveBank:
    """The normals that frames are compared with.

    Attributes:
        source: Model, files, object name and ignored part that it was built from, to know when they
            change.
        measured: The normals, on the CPU.
    """

    source: tuple[str, tuple[str, ...], str, str]
    measured: MeasuredBank


def score_frame(
    detector: Detector, measured: MeasuredBank, frame: Image.Image | SeenImage
) -> dict[str, Any]:
    """Scores one frame, in the terms that the page draws.

    Args:
        detector: The model that made the bank.
        measured: The normals.
        frame: RGB image, or what was left of one.

    Returns:
        ``fused``; ``low`` and ``high`` of the normals' range, None where there is one normal;
        ``threshold``, above which a frame counts as anomalous, or None;
        ``clear``, the share of the heatmap's scale up to which it is not drawn, or None; ``map``,
        G x G rows of shares of the heatmap's scale in [0, 1]; ``box``, where in the frame
        it lies, in shares of its width and height; ``alike``, whether a normal has its proportions;
        ``shots``; ``copies``, a sentence where normals are copies of others, else "".
    """
    bank, ranges, scale = measured.bank, measured.ranges, measured.scale
    score = detector.score([frame], bank)[0]
    span = scale.high - scale.low
    shares = (score.patch_map - scale.low) / span
    return {
        "fused": round(score.fused, 4),
        "low": None if ranges is None else round(ranges.lowest, 4),
        "high": None if ranges is None else round(ranges.highest, 4),
        "threshold": None if measured.threshold is None else round(measured.threshold, 4),
        "clear": None if scale.line is None else round(min(scale.line - scale.low, span) / span, 3),
        "map": shares.clip(0, 1).round(3).tolist(),
        "box": [edge / side for edge, side in zip(score.crop_box, frame.size * 2, strict=True)],
        "alike": aspect_mismatch(score.crop_box, bank.crop_boxes) is None,
        "shots": bank.shots,
        "copies": copies_told(bank.copy_of),
    }


def open_frame(
    data: object, opener: Opener = open_here, reduce: Callable[..., Any] = shrink, *arguments: Any
) -> Any:
    """Opens the image of a JPEG data URI, as the page sends frames.

    Args:
        data: The URI.
        opener: Opens an image.
        reduce: What to make of it; a copy of at most ``MOST_DRAWN`` pixels unless told otherwise.
        *arguments: More for ``reduce``.

    Raises:
        ImageError: It is anything else, or too large.
    """
    if not isinstance(data, str) or not data.startswith(_PREFIX):
        raise ImageError("The frame is not a JPEG image; start the camera again.")
    if len(data) > MAX_FRAME_CHARACTERS:
        raise ImageError("The frame is too large; start the camera again.")
    try:
        file = base64.b64decode(data[len(_PREFIX) :], validate=True)
    except binascii.Error:
        raise ImageError("The frame is damaged; start the camera again.") from None
    return opener(reduce, file, *(arguments or (MOST_DRAWN,)))
