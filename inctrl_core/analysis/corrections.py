"""The corrections of one failing image: its pictures changed towards the normals, and their scores.

Each is a counterfactual of the kind that the stress test has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..config import PreprocessConfig
from ..datasets.masks import mask_picture
from ..errors import ImageError
from ..images.files import ImageSource
from ..images.levels import Levels
from ..images.overlay import scale_box
from ..images.perturbations import blur, rotate, shift, tint
from ..images.preprocessing import patch_box, seen_image
from ..images.seen import Opener, SeenImage, enlarge, open_here, see_image
from ..model.bank import PromptBank, count_patches
from ..model.detector import Detector, EncodedImages
from ..model.residuals import layer_residuals
from .measured_bank import MeasuredBank, measure_bank
from .stress import drop_one

CAUSES = LIGHT, POSITION, TEXTURE, SMALL, NORMALS = (
    "light",
    "position",
    "texture",
    "size",
    "normals",
)
# Beyond the normals' own span by this factor, an image has another light or another texture.
UNLIKE = 1.1
TURNS = (-10, -5, 5, 10)  # Degrees.
# A quarter turn swaps the sides too, which no turn within the frame does.
_QUARTERS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
BLURS = (0.5, 1.0, 1.5, 2.5, 4.0)  # Pixels of what the model sees.
ENLARGED = 2.0
MOST_ENLARGED = 4  # Normals that an enlarged part is compared with.
_MASK_SIDE = 720
_PICTURE = 1_000  # Pixels of the picture that opening gives besides; it is not used.
_STRONGEST_GAIN = 8.0  # Of a colour; beyond, there is nothing left to bring back.


@dataclass(frozen=True)
class Correction:
    """An image's score with one thing corrected.

    Attributes:
        cause: One of ``CAUSES``.
        fused: The score.
        amount: The correction. Of ``LIGHT`` the factor of brightness, of ``POSITION`` the degrees
            it was turned by (0: moved by half a patch), of ``TEXTURE`` the radius of the blur,
            negative where the normals were blurred, of ``SMALL`` the enlargement (0: one patch was
            taken out), of ``NORMALS`` the index of the normal left out.
        threshold: Its own threshold, where the normals changed as well; None: the result's.
    """

    cause: str
    fused: float
    amount: float
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class OpenedFailure:
    """The pictures that corrections are made of.

    Attributes:
        anomalous: The image's label.
        query: The image as the model sees it.
        picture: The same in its own proportions, see :func:`.seen_image`.
        normals: Likewise the normals.
        patch: (row, column) of its strongest patch, of those that its mask marks where it has one.
        marked: How many patches its mask marks; None where it has none.
        enlarged: Its part around that patch, enlarged, and that of some normals; None where that
            would show nothing new.
    """

    anomalous: bool
    query: SeenImage
    picture: Image.Image
    normals: tuple[Image.Image, ...]
    patch: tuple[int, int]
    marked: float | None = None
    enlarged: tuple[Image.Image, tuple[Image.Image, ...]] | None = None


def open_normals_seen(
    config: PreprocessConfig,
    levels: Levels | None,
    normals: Sequence[ImageSource],
    opener: Opener = open_here,
) -> tuple[Image.Image, ...]:
    """The normals as the model sees them, in their own proportions."""
    return tuple(opener(seen_image, normal, config, levels=levels) for normal in normals)


def open_failure(
    config: PreprocessConfig,
    levels: Levels | None,
    normals: Sequence[ImageSource],
    query: ImageSource,
    anomalous: bool,
    patch_map: np.ndarray,
    mask: str = "",
    seen: tuple[Image.Image, ...] | None = None,
    opener: Opener = open_here,
) -> OpenedFailure:
    """Opens what :func:`find_reasons` needs.

    Args:
        config: How the model sees images.
        levels: The levels of the bank.
        normals: The images of the bank.
        query: The image.
        anomalous: Its label.
        patch_map: Its map, float [G, G].
        mask: Path of the image that marks its defect; empty where there is none.
        seen: The result of :func:`open_normals_seen`; None: it is called here.
        opener: Opens an image.

    Raises:
        ImageError: An image cannot be used.
    """
    image = opener(see_image, query, config, _PICTURE, levels=levels)
    shares = marked_shares(image, mask, patch_map.shape[0], opener) if mask else None
    among = patch_map
    if shares is not None and shares.any():
        among = np.where(shares > 0, patch_map, -1.0)
    row, column = divmod(int(among.argmax()), patch_map.shape[1])
    enlarged = None
    # Of a smaller image the model has seen all that there is.
    if anomalous and min(image.size) >= 1.5 * config.image_size:
        x, y = _middle(image, patch_map.shape[0], row, column)
        about = config, (x / image.size[0], y / image.size[1]), ENLARGED
        parts = [
            opener(enlarge, source, *about, levels=levels)
            for source in (query, *normals[:MOST_ENLARGED])
        ]
        enlarged = parts[0], tuple(parts[1:])
    return OpenedFailure(
        anomalous,
        image,
        opener(seen_image, query, config, levels=levels),
        open_normals_seen(config, levels, normals, opener) if seen is None else seen,
        (row, column),
        None if shares is None else float(shares.sum()),
        enlarged,
    )


def marked_shares(
    image: SeenImage, mask: str, grid: int, opener: Opener = open_here
) -> np.ndarray | None:
    """The share of each patch that a mask marks, float [G, G]; None where it cannot be read.

    Args:
        image: The image.
        mask: Path of its mask.
        grid: G.
        opener: Opens the mask.
    """
    try:
        drawn = opener.run(mask_picture, mask, _MASK_SIDE)
    except ImageError:
        return None
    # A whole number of pixels a patch, so that their means are the shares.
    box = scale_box(image.crop_box, image.size, drawn.size)
    side = grid * (_MASK_SIDE // grid)
    seen = drawn.convert("L").resize((side, side), Image.Resampling.BOX, box=box)
    marked = np.asarray(seen, dtype=np.float64) / 255.0
    step = side // grid
    return marked.reshape(grid, step, grid, step).mean(axis=(1, 3))


def _middle(image: SeenImage, grid: int, row: int, column: int) -> tuple[float, float]:
    left, top, right, bottom = patch_box(image.crop_box, grid, row, column)
    return (left + right) / 2, (top + bottom) / 2


def correct_miss(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, opened: OpenedFailure
) -> list[Correction]:
    """What might bring a bad image that was missed above the threshold.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        encoded: The image.
        opened: Its pictures.
    """
    found = []
    lit = _in_their_light(opened)
    if lit is not None:
        picture, factor = lit
        found.append(Correction(LIGHT, _scores(detector, bank, [picture])[0], factor))
    # An enlarged part has the ignored part of the whole picture elsewhere.
    if opened.enlarged is not None and bank.ignored is None:
        part, normal_parts = opened.enlarged
        measured = _bank_of(detector, bank, normal_parts)
        fused = _scores(detector, measured.bank, [part])[0]
        if measured.threshold is not None:
            found.append(Correction(SMALL, fused, ENLARGED, measured.threshold))
    if len(bank.distinct) > 2:  # Two at least must be left to tell what good images are.
        dropped = max(drop_one(detector, bank, encoded), key=lambda drop: drop.fused)
        if dropped.threshold is None or dropped.fused > dropped.threshold:
            found.append(Correction(NORMALS, dropped.fused, dropped.index))
    return found


def correct_alarm(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, opened: OpenedFailure
) -> list[Correction]:
    """What might bring a good image below the threshold; the best try for each cause.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        encoded: The image.
        opened: Its pictures.
    """
    picture, tries = opened.picture, []
    if (lit := _in_their_light(opened)) is not None:
        tries.append((LIGHT, lit[1], lit[0]))
    half = max(1, round(min(picture.size) / detector.config.backbone.grid / 2))
    moves = [shift(picture, *by) for by in ((half, 0), (-half, 0), (0, half), (0, -half))]
    tries += [(POSITION, 0.0, moved) for moved in moves]
    tries += [(POSITION, float(turn), rotate(picture, turn)) for turn in TURNS]
    tries += [(POSITION, float(turn), picture.transpose(how)) for turn, how in _QUARTERS.items()]
    own, theirs = _texture(picture), [_texture(normal) for normal in opened.normals]
    if own > UNLIKE * max(theirs):
        radius = _blur_to(picture, float(np.mean(theirs)))
        tries.append((TEXTURE, radius, blur(picture, radius)))
    scores = _scores(detector, bank, [changed for *_, changed in tries])
    found = [
        Correction(cause, fused, amount)
        for (cause, amount, _), fused in zip(tries, scores, strict=True)
    ]
    if own < min(theirs) / UNLIKE:
        radius = _blur_to(opened.normals[int(np.argmin(theirs))], own)
        blurred = [blur(normal, radius) for normal in opened.normals]
        measured = _bank_of(detector, bank, blurred)
        fused = _scores(detector, measured.bank, [picture])[0]
        found.append(Correction(TEXTURE, fused, -radius))
    found.append(Correction(SMALL, _without_a_patch(detector, bank, encoded), 0.0))
    return [
        min((one for one in found if one.cause == cause), key=lambda one: one.fused)
        for cause in dict.fromkeys(one.cause for one in found)
    ]


def _scores(detector: Detector, bank: PromptBank, pictures: Sequence[Image.Image]) -> list[float]:
    encoded = detector.encode_opened(pictures, bank.ignored)
    return [score.fused for score in detector.score_encoded(encoded, bank)]


def _bank_of(detector: Detector, bank: PromptBank, pictures: Sequence[Image.Image]) -> MeasuredBank:
    """Other pictures under the words of a bank."""
    about = bank.object_name, bank.text.prompts, bank.looks_for, bank.ignored
    made = detector.build_bank(list(pictures), *about)
    known = () if bank.defects is None else bank.defects.images
    return measure_bank(detector, made.with_defects(known))


def _without_a_patch(detector: Detector, bank: PromptBank, encoded: EncodedImages) -> float:
    """The score had the patch that differs most been like those around it."""
    bank = bank.to(detector.backbone.device)
    own, grid = encoded.features, detector.config.backbone.grid
    with torch.inference_mode():
        maps, _ = layer_residuals(own.patches, bank.features.patches)
        maps = count_patches(maps, bank.ignored)
        place = int(maps[0].mean(dim=0).argmax())
        row, column = divmod(place, grid)
        square = maps[0].unflatten(-1, (grid, grid))
        rows = slice(max(row - 1, 0), row + 2)
        columns = slice(max(column - 1, 0), column + 2)
        around = square[:, rows, columns].flatten(1)
        others = (around.sum(dim=1) - maps[0, :, place]) / (around.shape[1] - 1)
        changed = maps.clone()
        changed[0, :, place] = torch.minimum(others, maps[0, :, place])
        near = None if bank.defects is None else bank.defects.distances(own.patches)
        evidence = detector.evidence(changed, own.embeddings, bank, near)
        return float(detector.fusion_of(evidence).fused)


def _in_their_light(opened: OpenedFailure) -> tuple[Image.Image, float] | None:
    """The picture in the normals' mean colour, and how much brighter that is; None where alike."""
    own = _colour(opened.picture)
    theirs = np.array([_colour(normal) for normal in opened.normals])
    lowest, highest = theirs.min(axis=0) / UNLIKE, theirs.max(axis=0) * UNLIKE
    if ((own >= lowest) & (own <= highest)).all():
        return None
    mean = theirs.mean(axis=0)
    factors = np.clip(mean / np.maximum(own, 1.0), 1 / _STRONGEST_GAIN, _STRONGEST_GAIN)
    brighter = float(mean.mean() / max(own.mean(), 1.0))
    return tint(opened.picture, tuple(factors.tolist())), brighter


def _colour(image: Image.Image) -> np.ndarray:
    """Mean of red, green and blue, float [3]."""
    return np.asarray(image, dtype=np.float64).mean(axis=(0, 1))


def _texture(image: Image.Image) -> float:
    """How fine and strong the texture is: the mean difference of neighbours over the brightness."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    down, across = np.abs(np.diff(grey, axis=0)).mean(), np.abs(np.diff(grey, axis=1)).mean()
    return float((down + across) / max(grey.mean(), 1.0))


def _blur_to(image: Image.Image, texture: float) -> float:
    """The radius of the blur that brings a picture closest to a texture."""
    return min(BLURS, key=lambda radius: abs(_texture(blur(image, radius)) - texture))
