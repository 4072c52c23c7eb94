"""The gallery of failures: which normals and which query each case shows, and the images it adds.

``cases.json`` is written by hand: it says what each case shows and tells. Nothing that is seen
before the guess (``id``, ``title``, ``before``) may tell how the case ends, and no score is written
there: the page computes them. A case takes its images from the sets wherever it can. What no set
has is made here, from an image of a set or with a set's own program, and the case records how.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from .fools import shaded
from .pixels import to_array, to_image
from .records import generator_for, save_jpeg
from .studio import Shot, photograph
from .washer import Washer

NAME = "cases"
DESCRIPTION = Path(__file__).resolve().parents[1] / NAME / "cases.json"
SMALL_FILE = 10  # JPEG quality of a picture that was squeezed to be sent.


def write_cases(root: Path) -> Path:
    """Write the images that only the cases need, beside the description of all cases.

    Args:
        root: Folder of the example sets, and of the new folder beside them.

    Returns:
        The folder of the cases.

    Raises:
        ValueError: A case names a file that is not there.
    """
    folder = root / NAME
    text = DESCRIPTION.read_text(encoding="utf-8")
    files = {file for case in json.loads(text) for file in _files(case)}
    _check(root, {file for file in files if not file.startswith(f"{NAME}/")})
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    _write_images(root, folder)
    _check(root, files)
    (folder / DESCRIPTION.name).write_text(text, encoding="utf-8")
    return folder


def _files(case: dict) -> list[str]:
    """Return all files that a case names."""
    named = [*case["normals"], case["query"], case["mask"], *(case["remedy_normals"] or ())]
    return [file for file in named if file is not None]


def _check(root: Path, files: set[str]) -> None:
    """Make sure that the files are there."""
    for file in sorted(files):
        if not (root / file).is_file():
            raise ValueError(f"{root / file} is missing; make the example sets first.")


def _write_images(root: Path, folder: Path) -> None:
    """Make the images that no set has."""

    def taken(file: str) -> Image.Image:
        with Image.open(root / file) as image:
            return image.convert("RGB")

    half = taken("circuit-board/queries/good_1.jpg").point(lambda value: round(value / 2))
    save_jpeg(half, folder / "half_light.jpg")
    save_jpeg(taken("lawn/queries/good_1.jpg"), folder / "squeezed.jpg", SMALL_FILE)
    save_jpeg(taken("lawn/normals/normal_2.jpg"), folder / "squeezed_normal.jpg", SMALL_FILE)
    turned = taken("fools-board/normals/normal_1.jpg").transpose(Image.Transpose.ROTATE_180)
    save_jpeg(turned, folder / "turned_normal.jpg")
    shadow = to_image(shaded(to_array(taken("fools-gravel/normals/normal_2.jpg"))))
    # Mirrored, so that it does not fall just as in the query.
    shadow = shadow.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    save_jpeg(shadow, folder / "shaded_normal.jpg")
    rng = generator_for(NAME)
    for stem in ("ground_washer", "ground_normal"):
        item = Washer(rng, ground=True)
        picture, _ = photograph(item.canvas, Shot.jittered(rng, turn=9), rng)
        save_jpeg(picture, folder / f"{stem}.jpg")
    pack = with_more_table(to_array(taken("pill-blister/queries/good_2.jpg")))
    save_jpeg(to_image(pack), folder / "square_frame.jpg")


def with_more_table(picture: np.ndarray) -> np.ndarray:
    """Make a wide picture square: the table above and below the pack goes on, mirrored."""
    height, width = picture.shape[:2]
    above = (width - height) // 2
    # Strips that hold nothing but the table, and not its outermost rows, which are a little darker.
    strips = picture[2:18], picture[-18:-2]
    paddings = ((above, 0), (0, width - height - above))
    top, bottom = (
        np.pad(strip, (padding, (0, 0), (0, 0)), mode="symmetric")
        for strip, padding in zip(strips, paddings, strict=True)
    )
    return np.concatenate([top[:above], picture, bottom[len(strips[1]) :]])
