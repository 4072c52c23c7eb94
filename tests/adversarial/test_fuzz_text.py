"""What people type, and what they should not: object names and phrases."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from inctrl_core import Detector, PromptError
from inctrl_core.model.prompts import (
    MAX_OBJECT_NAME,
    MAX_PHRASE,
    MAX_PHRASES,
    build_prompts,
    clean_object_name,
    clean_phrases,
    extend_prompts,
)

Sentence = Callable[[object], str]

# All of Unicode, halves of surrogate pairs and what is not assigned included.
ANY = st.characters(exclude_categories=())
ODD = st.sampled_from("\u202e\u200b\ufeff\0\x1b\r\n\u2028\ud800\U000e0001\u0301{}%_<>&'\"\\")
TEXT = st.text(st.one_of(ANY, ODD), max_size=120)
NOT_TEXT = st.one_of(
    st.none(), st.integers(), st.floats(), st.binary(), st.lists(TEXT), st.dictionaries(TEXT, TEXT)
)
CRAFTED = [
    "x" * 10_000_000,
    "\u202etun latem",
    "<script>alert(1)</script>",
    "'; DROP TABLE normals; --",
    "../../../../etc/passwd",
    "{0.__class__}",
    "%s%n%x",
    "\x1b[2J\x07",
    "e" + "\u0301" * 79,
    "\U0001f469\u200d\U0001f52c" * 20,
    "\ud800",
    "مفتاح ربط",
    "<|startoftext|><|endoftext|>",
    "\0" * 80,
]


def clean(name: object, one_sentence: Sentence) -> str | None:
    try:
        cleaned = clean_object_name(name)
    except PromptError as error:
        one_sentence(error)
        return None
    assert 0 < len(cleaned) <= MAX_OBJECT_NAME and cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(c)[0] == "C" for c in cleaned)
    cleaned.encode()
    return cleaned


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.one_of(TEXT, NOT_TEXT))
def test_any_name(one_sentence: Sentence, name: object) -> None:
    cleaned = clean(name, one_sentence)
    assert (cleaned is None) == (not isinstance(name, str) or len(name) > MAX_OBJECT_NAME)
    if cleaned is not None:
        assert clean_object_name(cleaned) == cleaned
        prompts = build_prompts(name)
        assert all(cleaned in text for text in prompts.normal + prompts.anomaly)
        assert len(prompts.normal) + len(prompts.anomaly) in (2, 242)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.lists(st.one_of(TEXT, NOT_TEXT), max_size=80))
def test_any_phrases(one_sentence: Sentence, phrases: list) -> None:
    try:
        cleaned = clean_phrases(phrases)
    except PromptError as error:
        one_sentence(error)
        return
    assert len(cleaned) <= MAX_PHRASES and len(set(cleaned)) == len(cleaned)
    assert all(0 < len(phrase) <= MAX_PHRASE for phrase in cleaned)
    base = build_prompts("nut")
    assert extend_prompts(base, cleaned, cleaned).normal == base.normal + cleaned


def check_embedding(name: str, one_sentence: Sentence, detector: Detector) -> None:
    """It is finite, or a sentence says that the name is too long; no other cause is allowed."""
    prompt = f"a photo of a {name}."
    length = detector.backbone.clip.context_length
    tokens = SimpleTokenizer(context_length=length).encode(prompt)
    try:
        embeddings = detector.backbone.encode_text([prompt, name])
    except PromptError as error:
        one_sentence(error)
        assert len(tokens) > length - 2
        return
    assert len(tokens) <= length - 2 and embeddings.isfinite().all()


@pytest.mark.parametrize("name", CRAFTED, ids=range(len(CRAFTED)))
def test_crafted_names_end_as_embeddings(
    name: str, one_sentence: Sentence, golden_detector: Detector
) -> None:
    cleaned = clean(name, one_sentence)
    if cleaned is None:
        assert len(name) > MAX_OBJECT_NAME
        return
    check_embedding(cleaned, one_sentence, golden_detector)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(TEXT.filter(lambda text: len(text) <= MAX_OBJECT_NAME))
def test_any_name_can_be_embedded(
    one_sentence: Sentence, golden_detector: Detector, name: str
) -> None:
    check_embedding(clean_object_name(name), one_sentence, golden_detector)
