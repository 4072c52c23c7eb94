"""What is said of copies among the normals, and of a query that is one of them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import join_words, name_some


def copies_told(copy_of: Sequence[int | None], names: Sequence[str] = ()) -> str:
    """Says which normals are copies of others, and what that means; "" where none is.

    >>> copies_told((None, 0, None), ("a.png", "a (1).png", "b.png"))
    'Normal 2 (a (1).png) is a copy of normal 1 (a.png): it serves as a normal, but is left out of \
the range of the normals.'

    Args:
        copy_of: See :attr:`PromptBank.copy_of`.
        names: Names of the normals; their numbers alone where there are none.
    """
    groups: dict[int, list[int]] = {}
    for index, original in enumerate(copy_of):
        if original is not None:
            groups.setdefault(original, []).append(index)
    if not groups:
        return ""
    if len(copy_of) - sum(map(len, groups.values())) == 1:
        listed = f" ({name_some(names)})" if names else ""
        return (
            f"All {len(copy_of)} normals{listed} are copies of one image, so they give no range; "
            "add a different one."
        )
    told = []
    for original, copies in groups.items():
        noun, verb = ("Normal", "is a copy") if len(copies) == 1 else ("Normals", "are copies")
        listed = join_words([called(index, names) for index in copies])
        told.append(f"{noun} {listed} {verb} of normal {called(original, names)}")
    one = sum(map(len, groups.values())) == 1
    effect = (
        "it serves as a normal, but is left out of the range of the normals"
        if one
        else "they serve as normals, but are left out of the range of the normals"
    )
    return f"{'; '.join([told[0], *(t[0].lower() + t[1:] for t in told[1:])])}: {effect}."


def query_told(copy_of: int | None, names: Sequence[str] = ()) -> str:
    """Says that a query is one of the normals; "" where it is none.

    >>> query_told(1, ("a.png", "b.png"))
    'This image is normal 2 (b.png) or a copy of it. It finds itself among the normals, so its \
score says nothing.'

    Args:
        copy_of: See :attr:`Score.copy_of`.
        names: As in :func:`copies_told`.
    """
    if copy_of is None:
        return ""
    return (
        f"This image is normal {called(copy_of, names)} or a copy of it. It finds itself among the "
        "normals, so its score says nothing."
    )


def count_normals(shots: int, copy_of: Sequence[int | None]) -> str:
    """How many normals a range is of: "4 normals", or "3 different normals" where some are copies.

    Args:
        shots: K, the number of all normals, copies too.
        copy_of: See :attr:`PromptBank.copy_of`.
    """
    copies = sum(original is not None for original in copy_of)
    return f"{shots - copies} different normals" if copies else f"{shots} normals"


def called(normal: int, names: Sequence[str] = ()) -> str:
    """A normal's number, counted from 1, and its name where there is one."""
    return f"{normal + 1} ({names[normal]})" if normal < len(names) else str(normal + 1)
