"""Errors whose message is meant for the person who caused them.

Every message is one sentence that says what to do. Interfaces show it as it stands; anything that
is not an :class:`InctrlError` is a defect of this program and keeps its stack trace.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_LETTERS = 200  # Of a name or value from a file, within a sentence.


def cut(text: str) -> str:
    """A text of at most ``MOST_LETTERS``: of a longer one its beginning and its end.

    >>> len(cut("a" * 10**6)), cut("short")
    (200, 'short')
    """
    half = (MOST_LETTERS - 1) // 2
    return text if len(text) <= MOST_LETTERS else f"{text[: half + 1]}…{text[-half:]}"


def name_some(names: Sequence[str]) -> str:
    """Names the first three, cut where they are long, and says how many more there are.

    >>> name_some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    return ", ".join(map(cut, names[:3])) + (
        f" and {len(names) - 3} more" if len(names) > 3 else ""
    )


def join_words(items: Sequence[str], last: str = "and") -> str:
    """One list of words as in a sentence: "a", then "a and b", then "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


class InctrlError(ValueError):
    """Base of all errors with a message for the user."""


class ImageError(InctrlError):
    """An image cannot be used: unreadable, too large, of an unsupported kind."""


class PromptError(InctrlError):
    """Normal images, object name or phrases cannot make a prompt bank."""


class ModelError(InctrlError):
    """A model's files are missing, damaged, or do not fit this program."""
