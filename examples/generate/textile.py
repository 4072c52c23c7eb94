"""Textile images of the package conformal-clip-data, with local and global defects."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import conformal_clip_data
from PIL import Image

from .records import ExampleSet, Query, generator_for

SOURCE = (
    "conformal-clip-data (F. M. Megahed, Y.-J. Chen): simulated textile images of "
    "'Adapting OpenAI's CLIP Model for Few-Shot Image Inspection in Manufacturing Quality "
    "Control', arXiv 2501.12596."
)
# Chosen by eye for variety, so that a visitor can see what is wrong in at least two of them.
# The clearest first: it is the one that a click on the example shows.
LOCAL = {"local_defect_2": 237, "local_defect_1": 11, "local_defect_3": 148}
GLOBAL = {"global_defect_1": 154, "global_defect_2": 416}


def pick(folder: Path, number: int) -> Image.Image:
    """Open one image of the package as RGB."""
    return Image.open(folder / f"textile_{number:04d}.jpg").convert("RGB")


def licence_text() -> str:
    """Return the package's own licence file."""
    text = distribution("conformal-clip-data").read_text("licenses/LICENSE")
    if text is None:
        raise ValueError("conformal-clip-data carries no licence file: install version 0.1.4.")
    return text


def attribution(changes: str) -> str:
    """Return the text of the attribution file that lies beside the images."""
    version = distribution("conformal-clip-data").version
    return (
        f"{SOURCE}\nPackage version {version}, MIT licence: see LICENSE.txt.\nChanges: {changes}\n"
    )


def textile() -> ExampleSet:
    """Make the set: nominal textiles, local defects and a wrong weave all over."""
    rng = generator_for("textile")
    nominal = conformal_clip_data.nominal_dir()
    chosen = rng.choice(range(1, 1001), 11, replace=False)
    images = [pick(nominal, int(i)) for i in chosen]
    queries = [
        Query(f"good_{i}", image, "normal", "Faultless fabric.")
        for i, image in enumerate(images[8:], start=1)
    ]
    for stem, number in LOCAL.items():
        note = "A small local defect: the weave is disturbed in one place."
        image = pick(conformal_clip_data.local_dir(), number)
        queries.append(Query(stem, image, "anomalous", note))
    for stem, number in GLOBAL.items():
        note = "A global defect: the fibres of the whole piece run differently."
        image = pick(conformal_clip_data.global_dir(), number)
        queries.append(Query(stem, image, "anomalous", note))
    return ExampleSet(
        name="textile",
        title="Textile",
        object_name="textile",
        family="industrial",
        caption="Simulated fabric from a quality-control study, with local and global defects.",
        source=SOURCE,
        licence="MIT, copyright 2025 Megahed (LICENSE.txt in this folder).",
        normals=images[:8],
        queries=queries,
        texts={
            "LICENSE.txt": licence_text(),
            "ATTRIBUTION.txt": attribution("renamed, and encoded again as JPEG."),
        },
    )
