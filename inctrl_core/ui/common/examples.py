"""The example sets that ship with the project, and the gallery from which one click runs one."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from ...checkpoints.loading import shipped_folder
from ...errors import InctrlError
from ...images.files import open_image, same_content
from .markup import jpeg_uri
from .origins import Origin, origin_html, read_origin
from .scripts import TELL

EXAMPLES = shipped_folder("examples")
SET_FILE = "set.json"
FIRST = "screws"
FAMILIES = {
    "industrial": "Industrial",
    "surface": "Surfaces",
    "food": "Food",
    "medical": "Medical and biology",
    "semantic": "Another kind of thing (semantic)",
    "failure": "Where it fails",
}
THUMBNAIL = (176, 132)
SMALL_THUMBNAIL = (96, 72)

# One listener for all buttons of a gallery: which one was pressed travels as event data. A link may
# name another image of the set, and a threshold.
ON_LOAD = f"""{TELL}
element.addEventListener('click', event => {{
  const button = event.target.closest('button[data-set]');
  if (!button) return;
  const {{query = button.dataset.query, threshold = null}} = event.detail?.link ?? {{}};
  if (element.closest('#examples, #queries')) tell(named => {{
    if (named.get('example') !== button.dataset.set) named.delete('threshold');
    named.set('example', button.dataset.set);
    named.set('query', Number(query) + 1);
  }});
  trigger('click', {{set: button.dataset.set, query, threshold}});
}});
"""


@dataclass(frozen=True)
class ExampleQuery:
    """One query of a set.

    Attributes:
        path: The image.
        anomalous: What it truly is.
        note: What there is to see.
        mask: Where it is anomalous, where that is known.
    """

    path: Path
    anomalous: bool
    note: str
    mask: Path | None


@dataclass(frozen=True)
class ExampleSet:
    """Normals and queries of one kind of object, with where they come from.

    ``opens_with`` is the name of the query that stands for the set; None leaves the choice.
    """

    name: str
    title: str
    object_name: str
    family: str
    caption: str
    origin: Origin
    normals: tuple[Path, ...]
    queries: tuple[ExampleQuery, ...]
    fails: str | None
    opens_with: str | None = None

    @property
    def cover(self) -> int:
        """Index of the query that stands for the set: the one named, or its first anomalous one."""
        names = [query.path.name for query in self.queries]
        if self.opens_with in names:
            return names.index(self.opens_with)
        return next((i for i, query in enumerate(self.queries) if query.anomalous), 0)

    @cached_property
    def thumbnails(self) -> tuple[str, ...]:
        """A small picture of each query; drawn once, since every click on one of them shows all."""
        return tuple(thumbnail(query.path, SMALL_THUMBNAIL) for query in self.queries)


def load_examples(directory: Path = EXAMPLES) -> dict[str, ExampleSet]:
    """Reads every ``*/set.json``; grouped by family in the order of ``FAMILIES``, then by name.

    Of its family, the one that a newcomer finds comes first: it works as people expect.

    Raises:
        ValueError: A set names a file that is not there, or lacks a field.
    """
    sets = [_read_set(path) for path in sorted(directory.glob(f"*/{SET_FILE}"))]
    order = list(FAMILIES)
    sets.sort(key=lambda s: (order.index(_group(s)), s.name != FIRST))
    return {example.name: example for example in sets}


def first_example(examples: Mapping[str, ExampleSet]) -> ExampleSet | None:
    """The example that a newcomer finds; None where there is none at all."""
    return examples.get(FIRST) or next(iter(examples.values()), None)


def pick_query(
    examples: Mapping[str, ExampleSet], data: Mapping[str, Any]
) -> tuple[ExampleSet, int]:
    """The set and the index of the query that a visitor's click names.

    Raises:
        InctrlError: The click names nothing that exists.
    """
    try:
        example = examples[str(data["set"])]
        index = int(data["query"])
    except (KeyError, OverflowError, TypeError, ValueError):
        raise InctrlError("This example does not exist; choose one from the gallery.") from None
    if not 0 <= index < len(example.queries):
        raise InctrlError("This example does not exist; choose one from the gallery.")
    return example, index


def gallery_html(examples: Mapping[str, ExampleSet]) -> str:
    """All sets as buttons with a thumbnail and a caption, under the heading of their family."""
    groups = []
    for family, heading in FAMILIES.items():
        cards = [_card(example) for example in examples.values() if _group(example) == family]
        if cards:
            groups.append(
                f'<section class="ic-family"><h3>{html.escape(heading)}</h3>'
                f'<div class="ic-cards">{"".join(cards)}</div></section>'
            )
    return f'<h2 class="ic-hidden">Examples</h2><div class="ic-gallery">{"".join(groups)}</div>'


def queries_html(example: ExampleSet, active: int) -> str:
    """The queries of one set as small buttons, the active one pressed, and its description."""
    buttons = []
    for index, query in enumerate(example.queries):
        truth = "anomalous" if query.anomalous else "normal"
        buttons.append(
            f'<button type="button" class="ic-query" data-set="{html.escape(example.name)}" '
            f'data-query="{index}" aria-pressed="{"true" if index == active else "false"}" '
            f'title="{html.escape(query.note)}">'
            f'<img alt="{html.escape(query.note)}" '
            f'src="{example.thumbnails[index]}">'
            f'<span class="ic-truth ic-{truth}">{truth}</span></button>'
        )
    query = example.queries[active]
    truth = "anomalous" if query.anomalous else "normal"
    fails = f'<p class="ic-fails">{html.escape(example.fails)}</p>' if example.fails else ""
    return (
        f'<div class="ic-set"><h3>{html.escape(example.title)}: try its other images</h3>'
        f'<div class="ic-queries">{"".join(buttons)}</div>'
        f"<p>Shown: {html.escape(query.note)} Actually: {truth}.</p>{fails}"
        f'<details class="ic-small"><summary>About this example</summary>'
        f"{html.escape(example.caption)} {origin_html(example.origin)}</details></div>"
    )


def thumbnail(path: Path, size: tuple[int, int]) -> str:
    """A small JPEG of the image as a data URI, so that no path is ever served."""
    image = ImageOps.fit(open_image(path), size, Image.Resampling.LANCZOS)
    return jpeg_uri(image, quality=82)


def _card(example: ExampleSet) -> str:
    cover = example.queries[example.cover]
    return (
        f'<button type="button" class="ic-card" data-set="{html.escape(example.name)}" '
        f'data-query="{example.cover}" title="{html.escape(example.caption)}">'
        f'<img alt="" src="{thumbnail(cover.path, THUMBNAIL)}">'
        f'<span class="ic-card-title"><span>{html.escape(example.title)}</span></span></button>'
    )


def _group(example: ExampleSet) -> str:
    return "failure" if example.fails or example.family not in FAMILIES else example.family


def _read_set(path: Path) -> ExampleSet:
    folder = path.parent
    data = json.loads(path.read_text(encoding="utf-8"))
    try:
        queries = tuple(
            ExampleQuery(
                path=_existing(folder / "queries" / query["file"]),
                anomalous=query["label"] == "anomalous",
                note=query["note"],
                mask=_existing(folder / "masks" / query["mask"]) if query["mask"] else None,
            )
            for query in data["queries"]
        )
        if (opens_with := data.get("opens_with")) is not None:
            _existing(folder / "queries" / opens_with)
        return ExampleSet(
            name=folder.name,
            title=data["title"],
            object_name=data["object_name"],
            family=data["family"],
            caption=data["caption"],
            origin=read_origin(data),
            normals=_all_existing(folder / "normals", data["normals"]),
            queries=queries,
            fails=data["fails"],
            opens_with=opens_with,
        )
    except KeyError as error:
        raise ValueError(f"{path} lacks the field {error}; add it.") from None


def _all_existing(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    return tuple(_existing(folder / name) for name in names)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is missing; make the examples again.")
    return path


def match_example(
    paths: Sequence[str], examples: Mapping[str, ExampleSet]
) -> tuple[str, tuple[int, ...]]:
    """The example set of which every file is a query, byte for byte.

    So the truth is known for these files however they came here, and for no others.

    Args:
        paths: The files.
        examples: The sets by name.

    Returns:
        The set's name, and the index of each file among its queries; ("", ()) where there is none.
    """
    for name, example in examples.items():
        places: list[int] = []
        for path in paths:
            place = _find(path, example)
            if place is None:
                break
            places.append(place)
        if places and len(places) == len(paths):
            return name, tuple(places)
    return "", ()


def _find(path: str, example: ExampleSet) -> int | None:
    return next(
        (index for index, query in enumerate(example.queries) if same_content(path, query.path)),
        None,
    )
