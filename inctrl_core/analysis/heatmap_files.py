"""The heatmaps of a batch as files of a folder, which never take the place of anybody else's.

``NAME_overlay.png`` is the map in colours over the image; ``NAME_map8.png`` the map alone on the
same scale, in 8 bits; ``NAME_map16.png`` its values, in 16 bits. All have the image's own size.
Each file says what it is and what its values mean in the PNG's own text, by which it is known
again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import InctrlError, name_some
from ..images.files import open_image
from ..images.levels import Levels
from ..images.overlay import level_map, overlay, value_map
from ..images.preprocessing import CropBox
from ..output import write_whole
from .export import MAX_STEM, safe_names
from .patch_scale import PatchScale

KINDS = ("overlay", "map8", "map16")
_SOFTWARE = "InCTRL heatmap"


def heatmap_files(folder: Path, names: Sequence[str]) -> list[dict[str, Path]]:
    """Where the heatmaps of each image go: a path for each of ``KINDS``, no two alike.

    Args:
        folder: Folder of all files.
        names: Names of the images, perhaps with folders, which become part of the file's name.
    """
    # Of a long name the end is kept, where it differs from its neighbours'.
    stems = ["_".join(Path(name).with_suffix("").parts)[-MAX_STEM:] for name in names]
    return [{kind: folder / f"{stem}_{kind}.png" for kind in KINDS} for stem in safe_names(stems)]


def prepare_folder(folder: Path, files: Sequence[dict[str, Path]]) -> None:
    """Makes the folder, and finds out before any work whether the heatmaps may be written there.

    Args:
        folder: Folder of the heatmaps.
        files: The result of :func:`heatmap_files`.

    Raises:
        InctrlError: It cannot be written, or holds files of these names that are no heatmaps of
            this program's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise InctrlError(f"{folder} cannot be written ({reason}); name another folder.") from None
    paths = [path for each in files for path in each.values()]
    foreign = [p.name for p in paths if os.path.lexists(p) and not is_heatmap(p)]
    if foreign:
        raise InctrlError(
            f"{folder} holds {name_some(foreign)} from elsewhere, which would be overwritten; "
            "name another folder."
        )


def is_heatmap(path: Path) -> bool:
    """Whether a file is one that :func:`write_heatmaps` wrote."""
    if path.suffix.lower() != ".png" or not path.is_file():
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get("Software") == _SOFTWARE
    except Exception:  # As of any image file: Pillow raises many kinds.
        return False


def write_heatmaps(
    files: dict[str, Path],
    source: str,
    place: tuple[np.ndarray, CropBox],
    scale: PatchScale,
    levels: Levels | None = None,
) -> None:
    """Writes the heatmaps of one image.

    Args:
        files: One of :func:`heatmap_files`.
        source: Path of the image.
        place: Its map [G, G], and the part of the image that this covers, in its pixels.
        scale: Scale of the overlay and the 8-bit map.
        levels: The levels by which the image was read, as the bank has them.

    Raises:
        ImageError: The image can no longer be read.
        InctrlError: A file cannot be written.
    """
    image = open_image(source, levels)
    for kind, path in files.items():
        if kind == "overlay":
            picture = overlay(image, *place, scale.style())
        elif kind == "map8":
            picture = level_map(*place, image.size, scale.low, scale.high)
        else:
            picture = value_map(*place, image.size)
        _save(picture, path, _meaning(kind, scale))


def describe_heatmaps(scale: PatchScale) -> dict[str, Any]:
    """The meaning of the values in the files, ready for ``json.dumps``."""
    return {
        "values": "patch residual: half the cosine distance to the closest patch of any normal",
        "map8": {"0": scale.low, "255": scale.high},
        "map16": {"0": 0.0, "65535": 1.0},
        "outside_crop_box": 0,
    }


def _overlay_meaning(scale: PatchScale) -> str:
    if scale.line is None:
        return f"lowest colour {scale.low:g}, highest colour {scale.high:g}"
    return f"clear up to {scale.line:g}, highest colour {scale.high:g}"


def _meaning(kind: str, scale: PatchScale) -> str:
    ends = {
        "overlay": _overlay_meaning(scale),
        "map8": f"0 is {scale.low:g}, 255 is {scale.high:g} and more",
        "map16": "0 is 0, 65535 is 1",
    }
    return f"Patch residual (half the cosine distance to the closest normal patch): {ends[kind]}"


def _save(picture: Image.Image, path: Path, meaning: str) -> None:
    text = PngInfo()
    text.add_text("Software", _SOFTWARE)
    text.add_text("Description", meaning)
    # A higher level takes several times as long for a tenth less.
    options = {"format": "PNG", "compress_level": 1, "pnginfo": text}
    write_whole(path, lambda partial: picture.save(partial, **options))
