"""The program lines that give the result on the screen again, in Python and through the API."""

from __future__ import annotations

import html

import numpy as np

from ...analysis.export import file_names
from ...analysis.session import Session
from ...images.ignored import CELLS, part_to_text
from ...model.evidence import DECIDE

ADDRESS = "http://127.0.0.1:7860"  # The page puts its own in place of it.


# Not all that the page knows can be said in a few lines.
_KEPT = ["# Defects from your file are left out here; load_bank(file, detector) has them."]
# The API takes the ignored part as an image; a square one is all that the model sees.
_DRAWN = [
    f"marks = bytes(255 * int(bit) for bit in f'{{int(digits, 16):0{CELLS * CELLS}b}}')",
    f"Image.frombytes('L', ({CELLS}, {CELLS}), marks).save('ignored.png')",
]
_PICKED = ["# Defects shown at a patch, or from a file, are left out here: the API takes images."]


def code_html(session: Session) -> str:
    """Both programs, folded away."""
    client = html.escape(client_lines(session)).replace(
        ADDRESS, f'<span data-address="">{ADDRESS}</span>'
    )
    return (
        '<details class="ic-code"><summary>Code for this result</summary>'
        "<p>Run it where the images lie.</p>"
        '<p class="ic-label">Python</p>'
        f'<pre tabindex="0">{html.escape(python_lines(session))}</pre>'
        '<p class="ic-label">Through the API of this page</p>'
        f'<pre tabindex="0">{client}</pre></details>'
    )


def python_lines(session: Session) -> str:
    """The lines that give ``result``, a session like this one, with the library."""
    looks_for = _looks_for(session)
    lines = ["from inctrl_core import analysis, load_detector"]
    changes = [] if session.closer is None else ["with_closer_look"]
    changes += ["with_ignored"] if session.bank.ignored is not None else []
    changes += ["with_phrases"] if any(session.phrases) else []
    if changes:
        lines.append(f"from inctrl_core.analysis.changes import {', '.join(changes)}")
    if session.bank.ignored is not None:
        lines.append("from inctrl_core.images.ignored import part_from_text")
    defects = [defect for defect in session.defects if defect.file]
    if defects:
        lines.append("from inctrl_core.analysis.defects import with_defect")
    lines += [
        "",
        f"detector = load_detector({session.model!r})",
        f"normals = {_listed(session.normal_names)}",
        *(_KEPT if len(defects) < len(session.defects) else []),
    ]
    about = f"{session.bank.object_name!r}{looks_for}"
    queries = [file_names([defect.file])[0] for defect in defects] + [_query(session)]
    lines += _inspected(queries[0], about, again=False)
    if session.bank.ignored is not None:
        lines += ["part = part_from_text(", *_digits(session.bank.ignored), ")"]
        lines.append("result = with_ignored(detector, result, part)")
    for query, defect in zip(queries[1:], defects, strict=True):
        picked = "" if defect.picked is None else f", {defect.picked}"
        lines.append(f"result = with_defect(detector, result{picked})")
        lines += _inspected(query, about, again=True)
    if any(session.phrases):
        normal, anomaly = map(list, session.phrases)
        lines.append(f"result = with_phrases(detector, result, {normal!r}, {anomaly!r})")
    if session.closer is not None:
        look = session.closer
        lines.append(f"result = with_closer_look(detector, result, {look.parts})")
        lines.append(f"print(result.closer.peak)  # {look.peak:.3f}")
    lines.append(
        f"print(result.score.fused, {_threshold(session, 'result.threshold')})"
        f"  # {session.score.fused:.3f}, {_number(session.threshold)}"
    )
    return "\n".join(lines)


def _inspected(query: str, about: str, again: bool) -> list[str]:
    previous = ", previous=result" if again else ""
    return [
        "result = analysis.inspect(",
        f"    detector, normals, {query!r}, {about}{previous}",
        ")",
    ]


def client_lines(session: Session) -> str:
    """The lines that give ``result``, what the API says of these images, with gradio_client."""
    endpoint, score = "/score", "result['fused']"
    arguments = [
        "    [handle_file(name) for name in normals],",
        f"    handle_file({_query(session)!r}),",
        f"    object_name={session.bank.object_name!r},",
        f"    model={session.model!r},",
    ]
    if session.bank.looks_for != DECIDE:
        arguments.append(f"    looks_for={session.bank.looks_for!r},")
    given = [defect for defect in session.defects if defect.file and defect.picked is None]
    if given:
        files = ", ".join(f"handle_file({file_names([d.file])[0]!r})" for d in given)
        arguments.append(f"    defects=[{files}],")
    imports, drawn = [], []
    if session.bank.ignored is not None:
        imports.append("from PIL import Image")
        drawn += ["digits = (", *_digits(session.bank.ignored), ")", *_DRAWN]
        arguments.append("    ignored=handle_file('ignored.png'),")
    if any(session.phrases):
        endpoint, score = "/explain", "result['score']['fused']"
        for name, phrases in zip(("normal", "anomaly"), session.phrases, strict=True):
            arguments.append(f"    {name}_phrases={chr(10).join(phrases)!r},")
    threshold = _threshold(session, "result['threshold']")
    result = "result, heatmap" if endpoint == "/score" else "result"
    return "\n".join(
        [
            "from gradio_client import Client, handle_file",
            *imports,
            "",
            f'client = Client("{ADDRESS}")',
            f"normals = {_listed(session.normal_names)}",
            *(_PICKED if len(given) < len(session.defects) else []),
            *drawn,
            f"{result} = client.predict(",
            *arguments,
            f'    api_name="{endpoint}",',
            ")",
            f"print({score}, {threshold})"
            f"  # {session.score.fused:.3f}, {_number(session.threshold)}",
        ]
    )


def _digits(part: np.ndarray) -> list[str]:
    text = part_to_text(part)
    return [f"    {text[i : i + CELLS]!r}" for i in range(0, len(text), CELLS)]


def _listed(names: tuple[str, ...]) -> str:
    return f"[{', '.join(map(repr, names))}]"


def _query(session: Session) -> str:
    return file_names([session.query_file])[0]


def _looks_for(session: Session) -> str:
    sought = session.bank.looks_for
    return "" if sought == DECIDE else f", looks_for={sought!r}"


def _threshold(session: Session, own: str) -> str:
    """The expression of the threshold: the visitor's own is a number."""
    return own if session.chosen is None else f"{session.chosen:.3f}"


def _number(value: float | None) -> str:
    return "None" if value is None else f"{value:.3f}"
