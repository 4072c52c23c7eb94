"""The pictures that tests use: example sets by what a test needs of them, and grain on drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from inctrl_core.ui.common.examples import EXAMPLES, ExampleSet, load_examples
from inctrl_core.ui.common.examples import FIRST as FIRST_NAME


class Pictures:
    """One example set as files.

    Attributes:
        example: The set.
        folder: Its folder.
        normals: Its normals, by name.
        queries: Its queries, by name.
        bad: The query that its card shows.
        good: Its first good query.
    """

    def __init__(self, name: str) -> None:
        self.example: ExampleSet = load_examples()[name]
        self.folder = EXAMPLES / name
        self.normals = sorted(self.example.normals)
        self.queries = sorted(query.path for query in self.example.queries)
        self.bad = self.example.queries[self.example.cover].path
        self.good = next(query.path for query in self.example.queries if not query.anomalous)

    @property
    def name(self) -> str:
        """Name of the folder, by which links and buttons ask for it."""
        return self.example.name

    @property
    def object_name(self) -> str:
        """What the prompts call it."""
        return self.example.object_name

    def query(self, stem: str) -> Path:
        """One query by its name without an ending."""
        return self.folder / "queries" / f"{stem}.jpg"


def grainy(drawing: Image.Image, random: np.random.RandomState, grain: int) -> Image.Image:
    """A drawing as a camera shows it: a little soft, and each value off by up to ``grain``."""
    soft = np.asarray(drawing.filter(ImageFilter.GaussianBlur(1)), np.int16)
    noisy = soft + random.randint(-grain, grain + 1, soft.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


FIRST = Pictures(FIRST_NAME)  # What a newcomer finds.
OTHER = Pictures("cookies")  # Another thing, upright, with masks.
UPLOADED = Pictures("asphalt")  # What a visitor brings along: images of no set on the page's form.
ALIKE = Pictures("toy-figure")  # One thing photographed again and again.
LABELLED = Pictures("light-guide")  # With a miss and a false alarm of the embedded model.
SMALL_MARKS = Pictures("paper")  # With masks of a few pixels.
BUSY = Pictures("bananas")  # Detail everywhere.
CLEAR = Pictures("light-guide")  # With defects far above the threshold.
FAILING = Pictures("other-light")  # Meant to fail, and saying why.
