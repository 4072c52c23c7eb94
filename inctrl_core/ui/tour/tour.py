"""The head of the page, and the tour that starts there: markup alone, the browser does the rest."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..common.scripts import TELL

PAPER = "https://arxiv.org/abs/2403.06495"
# A visitor's own result is left as it is; without one the tour opens this example.
EXAMPLE = "screws"
_SCRIPT = Path(__file__).with_name("tour.js").read_text(encoding="utf-8")
ON_LOAD = TELL + _SCRIPT.replace("EXAMPLE", EXAMPLE)


@dataclass(frozen=True)
class Step:
    """One step of the tour.

    Attributes:
        title: Its heading.
        text: Two sentences.
        tab: The tab that it speaks about.
        place: Selector of the part of the page that it speaks about.
    """

    title: str
    text: str
    tab: str
    place: str


STEPS = (
    Step(
        "The residual: what the normals do not have",
        "Each of 15 × 15 patches of the image is compared with every patch of the normal images. "
        "Its distance to the most similar one is its residual, and the map is bright where that "
        "is large.",
        "inspect",
        "#map-row",
    ),
    Step(
        "The range: how far normals differ",
        "Normal images differ among themselves too: the grey band shows by how much. A score "
        "within it is nothing unusual.",
        "inspect",
        "#verdict",
    ),
    Step(
        "The threshold: where an alarm begins",
        "An image above the threshold counts as anomalous; about 5 of 100 good images are expected "
        "there too. Move it, and verdict and outline follow at once.",
        "inspect",
        "#threshold",
    ),
    Step(
        "The words: sound or damaged?",
        "The image is also compared with phrases for sound and for damaged things. Add your own; "
        "the breakdown below says how much the words count in the score.",
        "inspect",
        "#text",
    ),
    Step(
        "A failure: guess first",
        "No method sees everything, and these cases were found in photographs. Guess whether the "
        "model gets this one right; then it runs, and says why.",
        "failures",
        "#case",
    ),
)


def tour_html() -> str:
    """The steps, none of which is shown before the tour begins."""
    steps = "".join(_step(step, number) for number, step in enumerate(STEPS, start=1))
    return (
        f'<section class="ic-tour" id="tour" aria-label="Guided tour" hidden>{steps}'
        '<p class="ic-tour-buttons"><button type="button" data-tour="end">End the tour</button>'
        '<button type="button" data-tour="back">Back</button>'
        '<button type="button" data-tour="next" class="ic-tour-next">Next</button></p></section>'
    )


def links_html(space: str | None) -> str:
    """The line under the title: the tour, the paper, and the code where the page is a Space.

    Args:
        space: Owner and name of the Space; None elsewhere.
    """
    links = [
        '<button type="button" data-tour="begin">Take the tour</button>',
        _link(PAPER, "Paper (CVPR 2024)"),
    ]
    if space is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", space):
        links.append(_link(f"https://huggingface.co/spaces/{space}/tree/main", "Code and model"))
    return f'<p class="ic-links">{"".join(links)}</p>'


def space_name() -> str | None:
    """Owner and name of the Space that this program runs as; None elsewhere."""
    return os.environ.get("SPACE_ID") or None


def _step(step: Step, number: int) -> str:
    return (
        f'<div data-step="{number}" data-tab="{step.tab}" data-place="{html.escape(step.place)}" '
        f'hidden><p class="ic-label">Step {number} of {len(STEPS)}</p>'
        f'<h2 tabindex="-1">{html.escape(step.title)}</h2><p>{html.escape(step.text)}</p></div>'
    )


def _link(address: str, words: str) -> str:
    return f'<a href="{address}" target="_blank" rel="noopener">{words}</a>'
