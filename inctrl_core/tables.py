"""Somebody's text in tables that spreadsheets open."""

from __future__ import annotations

import re

# Programs read comma-separated values by other separators too, as their language has it, and take
# what begins so for a formula, in full-width letters as well. Blanks and quotes may stand before.
_FORMULA = re.compile(r"(?:^|(?<=[;|,\t\r\n]))(?=[\s\"']*[=+\-@＝＋－＠])")


def table_text(value: str) -> str:
    """A text that no spreadsheet takes for a formula, whichever separator it reads a table by.

    An apostrophe goes before what would begin one: spreadsheets show what follows, and compute
    nothing.

    >>> table_text("=1+1.png")
    "'=1+1.png"
    >>> table_text("a;=1+1|-2.png")
    "a;'=1+1|'-2.png"
    >>> table_text("part-3 (a=b).png")
    'part-3 (a=b).png'
    """
    return _FORMULA.sub("'", value)
