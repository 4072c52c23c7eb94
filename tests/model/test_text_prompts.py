"""The strings that go into the text encoder."""

from __future__ import annotations

import pytest

from inctrl_core import PromptError
from inctrl_core.model.prompts import (
    MAX_OBJECT_NAME,
    NATURAL_OBJECTS,
    TEMPLATES,
    build_prompts,
    clean_object_name,
    clean_phrases,
    extend_prompts,
)


def test_counts_and_examples() -> None:
    prompts = build_prompts("metal_nut")
    assert len(TEMPLATES) == len(set(TEMPLATES)) == 22
    assert (len(prompts.normal), len(prompts.anomaly)) == (154, 88)
    assert len(set(prompts.normal + prompts.anomaly)) == 242
    assert "a cropped photo of the metal nut." in prompts.normal
    assert "a jpeg corrupted photo of a flawless metal nut." in prompts.normal
    assert "a photo of the small metal nut without damage." in prompts.normal
    assert "a photo of a damaged metal nut for visual inspection." in prompts.anomaly
    assert "a close-up photo of the metal nut with defect." in prompts.anomaly


@pytest.mark.parametrize("name", sorted(NATURAL_OBJECTS) + ["Cat"])
def test_natural_objects_have_one_pair(name: str) -> None:
    prompts = build_prompts(name)
    assert prompts.normal == (f"a photo of {name} for anomaly detection.",)
    assert prompts.anomaly == (f"a photo without {name} for anomaly detection.",)


@pytest.mark.parametrize(
    ("typed", "cleaned"),
    [
        ("metal_nut", "metal nut"),
        ("  solar \t cell\n", "solar cell"),
        ("", "object"),
        (" _ ", "object"),
        ("a\x00b\u202ec", "a b c"),
        ("<b>{}</b>", "<b>{}</b>"),
    ],
)
def test_cleaning(typed: str, cleaned: str) -> None:
    assert clean_object_name(typed) == cleaned


def test_braces_in_a_name_are_kept_as_they_are() -> None:
    assert "a photo of a {0} {x}." in build_prompts("{0} {x}").normal


@pytest.mark.parametrize("typed", ["x" * (MAX_OBJECT_NAME + 1), None, 3])
def test_unusable_names(typed: object) -> None:
    with pytest.raises(PromptError, match="object name"):
        clean_object_name(typed)


def test_own_phrases_are_added_once_and_bounded() -> None:
    base = build_prompts("cat")
    extended = extend_prompts(base, normal=["a tidy cat", " a tidy  cat ", ""], anomaly=["torn"])
    assert extended.normal == (*base.normal, "a tidy cat")
    assert extended.anomaly == (*base.anomaly, "torn")
    with pytest.raises(PromptError, match="use at most"):
        clean_phrases(str(i) for i in range(100))
    with pytest.raises(PromptError, match="phrase"):
        clean_phrases(["x" * 1000])
