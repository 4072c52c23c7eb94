"""The guided tour: its places exist, and its links lead only where they may."""

from __future__ import annotations

import re

import pytest

from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.tour.tour import EXAMPLE, STEPS, links_html, tour_html


def test_every_step_is_on_the_page_and_none_is_shown() -> None:
    markup = tour_html()
    assert re.findall(r'data-step="(\d)"', markup) == ["1", "2", "3", "4", "5"]
    assert markup.count("hidden>") == 1 + len(STEPS)
    assert [f"Step {n} of 5" in markup for n in range(1, 6)] == [True] * 5
    assert all(step.title in markup and step.text in markup for step in STEPS)


def test_the_steps_are_short_and_the_example_is_a_photograph_that_ships() -> None:
    assert all(len(re.findall(r"[.?]( |$)", step.text)) <= 3 for step in STEPS)
    example = load_examples()[EXAMPLE]
    assert example.queries[example.cover].anomalous and not example.fails


def test_a_space_links_to_its_own_code_and_no_other_place() -> None:
    addresses = re.findall(r'href="([^"]+)"', links_html("someone/in-ctrl.1"))
    assert addresses == [
        "https://arxiv.org/abs/2403.06495",
        "https://huggingface.co/spaces/someone/in-ctrl.1/tree/main",
    ]


@pytest.mark.parametrize("space", [None, "", "a/b/c", 'a/b"><script>', "a b/c", "a/b\n"])
def test_what_is_no_name_of_a_space_is_not_linked(space: str | None) -> None:
    assert links_html(space).count("href=") == 1 and "<script" not in links_html(space)
