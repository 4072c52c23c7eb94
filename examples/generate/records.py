"""What an example set is, and how it is written to disk.

Every image is written with fixed encoder settings, so that one version of the libraries gives the
same bytes at every run.
"""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 2403
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Query:
    """One image that the visitor may ask about.

    Attributes:
        stem: File name without its ending.
        image: The image, RGB or greyscale.
        label: "normal" or "anomalous".
        note: A few words: what is wrong, or why the image is worth asking about.
        mask: bool [H, W] at the image's own size, true where it is anomalous, or None.
    """

    stem: str
    image: Image.Image
    label: str
    note: str
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class ExampleSet:
    """A complete example set, before it is written.

    Attributes:
        name: Folder name.
        title: Heading shown to the visitor.
        object_name: What the text prompts call the object.
        family: "industrial", "medical" or "semantic", the three families of the paper.
        caption: One plain sentence for a newcomer.
        source: Where the pixels come from.
        licence: Terms under which the images may be used.
        normals: The normal images that the form is filled with, 4 to 8.
        queries: The images to ask about.
        fails: Why the method goes wrong here, or None where it should work.
        texts: Further text files of the folder, such as a licence, by file name.
    """

    name: str
    title: str
    object_name: str
    family: str
    caption: str
    source: str
    licence: str
    normals: list[Image.Image]
    queries: list[Query]
    fails: str | None = None
    texts: dict[str, str] = field(default_factory=dict)


def generator_for(name: str) -> np.random.Generator:
    """Return the random generator of one set, independent of every other set.

    Args:
        name: The set's folder name.

    Returns:
        A generator seeded by the project's seed and the name, so that adding or changing one set
        leaves the others as they were.
    """
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def write_set(example: ExampleSet, root: Path) -> Path:
    """Write a set's images, masks and description, replacing what its folder held.

    Args:
        example: The set.
        root: Folder under which the set's own folder is made.

    Returns:
        The set's folder.
    """
    folder = root / example.name
    if folder.exists():
        shutil.rmtree(folder)
    for part in ("normals", "queries", "masks"):
        (folder / part).mkdir(parents=True)
    normals = [f"normal_{i}.jpg" for i in range(1, len(example.normals) + 1)]
    for file, image in zip(normals, example.normals, strict=True):
        save_jpeg(image, folder / "normals" / file)
    description = {
        "title": example.title,
        "object_name": example.object_name,
        "family": example.family,
        "caption": example.caption,
        "source": example.source,
        "licence": example.licence,
        "normals": normals,
        "queries": [_write_query(query, folder) for query in example.queries],
        "fails": example.fails,
    }
    if not any((folder / "masks").iterdir()):
        (folder / "masks").rmdir()
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (folder / "set.json").write_text(text, encoding="utf-8")
    for file, content in example.texts.items():
        (folder / file).write_text(content, encoding="utf-8")
    return folder


def _write_query(query: Query, folder: Path) -> dict[str, str | None]:
    """Write one query and its mask; return its entry of the description."""
    file = f"{query.stem}.jpg"
    save_jpeg(query.image, folder / "queries" / file)
    mask_file = None
    if query.mask is not None:
        if query.mask.shape != (query.image.height, query.image.width):
            raise ValueError(f"{folder.name}/{query.stem}: the mask's size is not the image's.")
        mask_file = f"{query.stem}_mask.png"
        white = Image.fromarray(query.mask.astype(np.uint8) * 255)
        white.save(folder / "masks" / mask_file, optimize=True)
    return {"file": file, "label": query.label, "note": query.note, "mask": mask_file}


def save_jpeg(image: Image.Image, path: Path, quality: int = JPEG_QUALITY) -> None:
    """Write an image with fixed encoder settings and no metadata."""
    image.save(path, quality=quality, subsampling=0, optimize=True)
