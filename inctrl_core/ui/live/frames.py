"""Scoring the frames of a camera or a video: one bank for many frames. No Gradio here."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...analysis.normal_range import NormalRange, PatchScale, copies_told, normal_range, patch_scale
from ...errors import ImageError
from ...images.preprocessing import other_proportions
from ...images.seen import MOST_DRAWN, Opener, SeenImage, SeenSet, open_here, shrink
from ...model.bank import PromptBank, check_shots
from ...model.detector import Detector

# A frame whose shorter side has 480 pixels has some 100 KB as JPEG.
MAX_FRAME_CHARACTERS = 2_000_000
_PREFIX = "data:image/jpeg;base64,"


@dataclass(frozen=True, eq=False)
class LiveBank:
    """The normals that frames are compared with.

    Attributes:
        source: Model, files and object name that it was built from, to know when they change.
        bank: On the CPU.
        ranges: The normals against each other; None where there is one.
        scale: The heatmap's scale.
    """

    source: tuple[str, tuple[str, ...], str]
    bank: PromptBank
    ranges: NormalRange | None
    scale: PatchScale


def build_live_bank(
    detector: Detector,
    model: str,
    files: Sequence[str],
    object_name: str,
    normals: SeenSet | None = None,
) -> LiveBank:
    """Encodes the normals, once until they change.

    Args:
        detector: The model.
        model: Its name in the list.
        files: Paths of 1 to 16 normals.
        object_name: What they show.
        normals: What was opened of them; None: they are opened here.

    Raises:
        InctrlError: A file or the name cannot be used.
    """
    check_shots(len(files))
    bank = detector.build_bank(normals or files, object_name)
    ranges, scale = normal_range(detector, bank), patch_scale(bank)
    return LiveBank((model, tuple(files), object_name), bank.to("cpu"), ranges, scale)


def score_frame(
    detector: Detector, live: LiveBank, frame: Image.Image | SeenImage
) -> dict[str, Any]:
    """Scores one frame, in the terms that the page draws.

    Args:
        detector: The model that made the bank.
        live: The normals.
        frame: RGB image, or what was left of one.

    Returns:
        ``fused``; ``low`` and ``high`` of the normals' range, None where there is one normal;
        ``map``, G x G rows of shares of the heatmap's scale in [0, 1]; ``box``, where in the frame
        it lies, in shares of its width and height; ``alike``, whether a normal has its proportions;
        ``shots``; ``copies``, a sentence where normals are copies of others, else "".
    """
    score = detector.score([frame], live.bank)[0]
    shares = (score.patch_map - live.scale.low) / (live.scale.high - live.scale.low)
    ranges = live.ranges
    return {
        "fused": round(score.fused, 4),
        "low": None if ranges is None else round(ranges.lowest, 4),
        "high": None if ranges is None else round(ranges.highest, 4),
        "map": shares.clip(0, 1).round(3).tolist(),
        "box": [edge / side for edge, side in zip(score.crop_box, frame.size * 2, strict=True)],
        "alike": other_proportions(score.crop_box, live.bank.crop_boxes) is None,
        "shots": live.bank.shots,
        "copies": copies_told(live.bank.copy_of),
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
