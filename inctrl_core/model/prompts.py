"""The two groups of text prompts: states x templates.

The paper takes over WinCLIP's compositional ensemble, and a pair of sentences for natural images.
Pure string functions; nothing here knows a model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import PromptError

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALY_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of a {}.",
    "a dark photo of the {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of the {}.",
    "a photo of a {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for anomaly detection.",
    "a photo of the {} for anomaly detection.",
)

# Object-centred natural images: a defect makes no sense there, the absence of the object does.
NATURAL_OBJECTS = frozenset(
    "airplane automobile bird cat deer dog frog horse ship truck animal".split()
)
NATURAL_NORMAL = "a photo of {} for anomaly detection."
NATURAL_ANOMALY = "a photo without {} for anomaly detection."

DEFAULT_OBJECT_NAME = "object"
MAX_OBJECT_NAME = 80
MAX_PHRASES = 64
MAX_PHRASE = 200


@dataclass(frozen=True)
class PromptSet:
    """The strings of both groups.

    Attributes:
        normal: Prompts that describe the object as it should be.
        anomaly: Prompts that describe it as it should not be.
    """

    normal: tuple[str, ...]
    anomaly: tuple[str, ...]


def clean_object_name(object_name: str) -> str:
    """Brings a typed object name into the form that goes into the prompts.

    Underscores become spaces, control characters vanish, runs of blanks collapse; nothing left
    gives "object".

    Raises:
        PromptError: ``object_name`` is not text or longer than ``MAX_OBJECT_NAME`` characters.
    """
    name = _clean_text(object_name, "The object name", MAX_OBJECT_NAME).replace("_", " ")
    return " ".join(name.split()) or DEFAULT_OBJECT_NAME


def build_prompts(object_name: str) -> PromptSet:
    """All prompts for an object: 154 normal and 88 anomaly strings, or one natural-image pair.

    Args:
        object_name: What the images show, for example "metal nut".

    Raises:
        PromptError: See :func:`clean_object_name`.
    """
    name = clean_object_name(object_name)
    if name.lower() in NATURAL_OBJECTS:
        pair = (text.replace("{}", name) for text in (NATURAL_NORMAL, NATURAL_ANOMALY))
        return PromptSet(*((text,) for text in pair))
    return PromptSet(_expand(NORMAL_STATES, name), _expand(ANOMALY_STATES, name))


def extend_prompts(
    prompts: PromptSet, normal: Iterable[str] = (), anomaly: Iterable[str] = ()
) -> PromptSet:
    """Adds a person's own phrases to both groups; each is used as it stands.

    Raises:
        PromptError: A phrase is not text or too long, or there are more than ``MAX_PHRASES``.
    """
    return PromptSet(
        prompts.normal + clean_phrases(normal), prompts.anomaly + clean_phrases(anomaly)
    )


def clean_phrases(phrases: Iterable[str]) -> tuple[str, ...]:
    """Strips control characters and blanks, and drops empty and repeated phrases.

    Raises:
        PromptError: See :func:`extend_prompts`.
    """
    cleaned = (_clean_text(phrase, "A phrase", MAX_PHRASE) for phrase in phrases)
    unique = tuple(dict.fromkeys(phrase for phrase in cleaned if phrase))
    if len(unique) > MAX_PHRASES:
        raise PromptError(f"There are {len(unique)} phrases; use at most {MAX_PHRASES}.")
    return unique


def _expand(states: Sequence[str], name: str) -> tuple[str, ...]:
    # Plain replacement, because a name may itself contain braces.
    return tuple(
        template.replace("{}", state.replace("{}", name))
        for state in states
        for template in TEMPLATES
    )


def _clean_text(text: str, what: str, limit: int) -> str:
    if not isinstance(text, str):
        raise PromptError(f"{what} must be text.")
    if len(text) > limit:
        raise PromptError(f"{what} has {len(text)} characters; use at most {limit}.")
    visible = (c if unicodedata.category(c)[0] != "C" else " " for c in text)
    return " ".join("".join(visible).split())
