"""Write the images of the example sets again, from the photographs they were chosen from.

    python examples/make_examples.py --photographs DIR [--only NAME ...] [--out FOLDER]

A set's ``set.json`` says in ``made_from`` where each of its images comes from: a file below DIR,
copied, or encoded again at a ``quality``; or a place in a photograph of scikit-image, as ``[name,
x, y, radius]`` in pixels. Nothing else decides, so one version of the libraries gives the same
bytes at every run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

HERE = Path(__file__).resolve().parent
# Cut-outs all go through as few pixels as a coin has: else the others would differ from the coins
# by their sharpness alone.
SMALL_WIDTH = 72
CUT_SIZE = (300, 270)
MARGIN = 40


def write_set(folder: Path, photographs: Path | None, out: Path) -> Path:
    """Writes the images of one set, and its other files beside them.

    Args:
        folder: The set, of which only the files that are no images are read.
        photographs: The folder DIR; None where no set asks for it.
        out: Folder below which the set's own is made, or its images replaced.

    Returns:
        The set's folder below ``out``.

    Raises:
        ValueError: A photograph is missing.
    """
    made_from = json.loads((folder / "set.json").read_text(encoding="utf-8"))["made_from"]
    made = out / folder.name
    sources = {name: _find(source, photographs) for name, source in made_from["files"].items()}
    for part in ("normals", "queries", "masks"):
        shutil.rmtree(made / part, ignore_errors=True)
    for name, source in sources.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        quality = made_from["quality"] if name.endswith(".jpg") else None
        if isinstance(source, Path) and quality is None:
            shutil.copyfile(source, made / name)
            continue
        image = Image.open(source) if isinstance(source, Path) else cut_out(*source)
        image.save(made / name, quality=quality, optimize=True)
    for path in folder.iterdir():
        if path.is_file() and made != folder:
            shutil.copyfile(path, made / path.name)
    return made


def cut_out(name: str, x: float, y: float, radius: float) -> Image.Image:
    """A round object in a photograph of scikit-image, with a margin, in grey.

    Args:
        name: A function of ``skimage.data``.
        x: Middle of the object, in pixels.
        y: The same.
        radius: Half of its height, in pixels.
    """
    half = radius * 1.22
    wide = half * CUT_SIZE[0] / CUT_SIZE[1]
    grey = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("L"))
    # An object near the photograph's edge gets its background continued by reflection.
    photo = Image.fromarray(np.pad(grey, MARGIN, mode="reflect"))
    box = (x - wide + MARGIN, y - half + MARGIN, x + wide + MARGIN, y + half + MARGIN)
    size = (SMALL_WIDTH, round(SMALL_WIDTH * CUT_SIZE[1] / CUT_SIZE[0]))
    small = photo.resize(size, Image.Resampling.LANCZOS, box=box)
    return small.resize(CUT_SIZE, Image.Resampling.BICUBIC)


def main(arguments: list[str] | None = None) -> int:
    """Makes the chosen sets and names each folder on standard output."""
    folders = {path.parent.name: path.parent for path in sorted(HERE.glob("*/set.json"))}
    parser = argparse.ArgumentParser(description="Write the images of the example sets again.")
    parser.add_argument("--photographs", type=Path, help="folder of the photographs")
    parser.add_argument("--only", nargs="+", choices=sorted(folders), help="sets to make")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args(arguments)
    try:
        for name in options.only or folders:
            print(write_set(folders[name], options.photographs, options.out))
    except ValueError as error:
        parser.error(str(error))
    return 0


def _find(source: str | list[Any], photographs: Path | None) -> Path | list[Any]:
    if not isinstance(source, str):
        return source
    if photographs is None:
        raise ValueError("give the folder of the photographs with --photographs.")
    path = photographs / source
    if not path.is_file():
        raise ValueError(f"{path} is missing; is --photographs the right folder?")
    return path


if __name__ == "__main__":
    sys.exit(main())
