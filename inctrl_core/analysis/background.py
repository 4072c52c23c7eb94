"""The background that normals agree on, as a proposal of a part to ignore."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from ..errors import PromptError
from ..images.ignored import CELLS
from ..model.bank import PromptBank
from ..model.residuals import nearest_patches

# Things and background lie this far apart at least, in mean distance to patches of the border: of
# five sets of things .096 to .203, of eight textures .021 to .055 (docs/lab-notebook.md).
LEAST_APART = 0.075
_THING, _GROUND = 255, 0


def propose_background(bank: PromptBank) -> np.ndarray | None:
    """The part that all normals show around a thing, with a patch's width left around it.

    A patch is background where patches at the border of the other normals are like it, and where
    such patches join it to the border. The two groups are told apart by Otsu's threshold.

    Args:
        bank: The normals.

    Returns:
        Bool [CELLS, CELLS], see :mod:`inctrl_core.images.ignored`; None where the normals agree on
        no background.

    Raises:
        PromptError: A part of the picture is ignored already.
    """
    if bank.ignored is not None:
        raise PromptError("A part is ignored already; count everything again first.")
    distances = border_distances(bank)
    low, high, threshold = _split(distances.ravel())
    if high - low < LEAST_APART:
        return None
    things = Image.fromarray(np.where(distances > threshold, _THING, _GROUND).astype(np.uint8))
    # What the border does not reach is within a thing; what lies beside one may be its edge.
    framed = Image.new("L", (things.width + 2, things.height + 2), _GROUND)
    framed.paste(things, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    ground = framed.point(lambda value: 255 * (value == 128)).filter(ImageFilter.MinFilter(3))
    kept = ground.crop((1, 1, 1 + things.width, 1 + things.height))
    part = np.asarray(kept.resize((CELLS, CELLS), Image.Resampling.NEAREST)) > 0
    return part if part.any() else None


def border_distances(bank: PromptBank) -> np.ndarray:
    """Distance of each place to the closest patch at the border of another normal.

    Args:
        bank: The normals; a single one is compared with its own border.

    Returns:
        float [G, G] in [0, 1], the mean over normals and depths.
    """
    layers, distinct = bank.features.patches, list(bank.distinct)
    grid = round(layers[0].shape[1] ** 0.5)
    place = torch.arange(grid * grid)
    row, column = place // grid, place % grid
    at_border = (row % (grid - 1) == 0) | (column % (grid - 1) == 0)
    found = []
    with torch.inference_mode():
        for index in distinct:
            others = [other for other in distinct if other != index] or [index]
            for patches in layers:
                border = patches[others][:, at_border]
                found.append(nearest_patches(patches[index : index + 1], border)[0][0])
    return torch.stack(found).mean(dim=0).cpu().numpy().reshape(grid, grid)


def _split(values: np.ndarray) -> tuple[float, float, float]:
    """Means of the two groups that differ most, and the threshold between them (Otsu)."""
    ordered = np.sort(values.astype(np.float64))
    count = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)
    low, high = sums[:-1] / count, (sums[-1] - sums[:-1]) / (len(ordered) - count)
    best = int((count * (len(ordered) - count) * (high - low) ** 2).argmax())
    return float(low[best]), float(high[best]), float(ordered[best : best + 2].mean())
