"""Links to a tab."""

from __future__ import annotations

import pytest

from inctrl_core.ui.tabs import linked_tab

KNOWN = ["inspect", "batch", "failures"]


@pytest.mark.parametrize(
    ("query", "tab"),
    [
        ({}, None),
        ({"tab": "batch"}, "batch"),
        ({"tab": "<script>"}, None),
        ({"case": "rotation"}, "failures"),
        ({"case": "rotation", "tab": "inspect"}, "inspect"),
    ],
)
def test_a_link_names_a_known_tab_or_none(query: dict[str, str], tab: str | None) -> None:
    assert linked_tab(query, KNOWN) == tab
