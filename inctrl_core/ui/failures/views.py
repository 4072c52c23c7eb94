"""The gallery of failures as markup; no model, no Gradio."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...analysis.inspection import NORMAL_PIXELS, QUERY_PIXELS, QUERY_SIDE
from ...analysis.session import Session
from ...images.files import open_image
from ...images.overlay import outline, resize_for_screen
from ..common.charts import range_strip
from ..common.heatmap import Display, heatmap, strongest_patch
from ..common.markup import jpeg_uri
from ..common.origins import origin_html
from .cases import ALARM, GUESSES, MISSED, REASONS, RIGHT, Case, Remedy, outcome
from .magnifier import cause_mask, magnify, small_cause


def cards_html(
    cases: Mapping[str, Case],
    thumbnails: Mapping[str, str],
    active: str,
    guessed: Mapping[str, bool],
) -> str:
    """All cases as buttons; the open one pressed, those guessed marked.

    Args:
        cases: The cases.
        thumbnails: Data URI of each.
        active: Id of the open one.
        guessed: Whether the first guess was right, by id.
    """
    cards = []
    for number, case in enumerate(cases.values(), start=1):
        mark = ""
        if case.id in guessed:
            word = "right" if guessed[case.id] else "wrong"
            mark = f'<b class="ic-guess-mark ic-guess-{word}">Your guess: {word}</b>'
        cards.append(
            f'<button type="button" class="ic-card" data-case="{html.escape(case.id)}" '
            f'aria-pressed="{"true" if case.id == active else "false"}">'
            f'<img alt="" src="{thumbnails[case.id]}">{mark}'
            f'<span class="ic-card-title"><span>{number}. {html.escape(case.title)}</span></span>'
            "</button>"
        )
    return f'<div class="ic-cases">{"".join(cards)}</div>{_tally(len(cases), guessed)}'


def asked_html(case: Case, number: int) -> str:
    """Title, the setting, and the normals."""
    return (
        f'<div class="ic-asked"><h2 tabindex="-1">{number}. {html.escape(case.title)}</h2>'
        f"<p>{html.escape(case.before)}</p>"
        f'<p class="ic-label">What the model is given as normal ({len(case.normals)} images, named '
        f"“{html.escape(case.object_name)}”)</p>{_normals(case.normals)}</div>"
    )


def query_html(case: Case) -> str:
    """The query as it is, before the guess."""
    return (
        '<figure class="ic-case-picture"><img alt="The image to judge" '
        f'src="{_shown(case.query, QUERY_PIXELS, QUERY_SIDE)}">'
        '<figcaption class="ic-label">The image to judge</figcaption></figure>'
    )


def question_html() -> str:
    """The question, and a button for each guess."""
    buttons = "".join(
        f'<button type="button" data-guess="{guess}"><strong>{title}</strong>'
        f"<span>{meaning}</span></button>"
        for guess, (title, meaning) in GUESSES.items()
    )
    return (
        '<div class="ic-question"><h3>Is this one anomalous, and will the model see it?</h3>'
        f'<div class="ic-guesses">{buttons}</div>'
        '<p class="ic-small">Your guess starts the model; the result is not stored anywhere.</p>'
        "</div>"
    )


def revealed_html(case: Case, session: Session) -> str:
    """The heatmap over the query, which can be taken off; what matters outlined, and magnified."""
    label = "what is truly wrong" if case.anomalous else "what misleads the model"
    return _heatmap_figure(session, cause_mask(case), label) + _magnified(case, label)


def _magnified(case: Case, label: str) -> str:
    image = open_image(case.query)
    box = small_cause(case, image.size)
    if box is None:
        return ""
    part, side = magnify(image, box)
    words = f"{label[0].upper()}{label[1:]}, enlarged: {side} of {image.width} pixels across"
    return (
        f'<figure class="ic-magnified"><img alt="{words}" src="{jpeg_uri(part)}">'
        f'<figcaption class="ic-label">{words}</figcaption></figure>'
    )


def _heatmap_figure(session: Session, mask: np.ndarray | None = None, label: str = "") -> str:
    row, column = strongest_patch(session)
    grid = session.score.patch_map.shape[0]
    picture, bar = heatmap(session, Display(row=row, column=column))
    plain = session.query.image
    legend = '<span><i class="ic-key-square"></i> the patch that differs most</span>'
    if mask is not None:
        picture, plain = outline(picture, mask), outline(plain, mask)
        legend += f'<span><i class="ic-key-outline"></i> {label}</span>'
    return (
        '<figure class="ic-case-picture"><div class="ic-layers">'
        f'<img class="ic-plain" alt="The image without the map" src="{jpeg_uri(plain)}">'
        f'<img class="ic-map" alt="Heatmap over the image; the patch that differs most is in row '
        f'{row}, column {column} of {grid}" src="{jpeg_uri(picture)}"></div>'
        '<figcaption class="ic-legend"><label><input type="checkbox"> Hide the map</label>'
        f"{legend}</figcaption></figure>"
        f"{bar}"
    )


def answer_html(case: Case, session: Session, guess: str) -> str:
    """Guess, outcome, score, truth, reason and advice."""
    came_out = outcome(case.anomalous, session)
    headline = {
        RIGHT: "The model gets it right",
        MISSED: "The model misses it",
        ALARM: "The model raises a false alarm",
    }[came_out]
    guessed = "Your guess was right" if guess == came_out else "Not what you guessed"
    truth = "anomalous" if case.anomalous else "normal"
    return (
        f'<div class="ic-outcome" role="status"><p class="ic-label">{guessed}</p>'
        f'<h2 tabindex="-1">{headline}</h2><p>Actually this image is <strong>{truth}</strong>. '
        f"{_score_sentence(session)}</p>{_strip(session)}</div>"
        f"{_otherwise(case, session, came_out)}"
        f'<div class="ic-reason"><p class="ic-label">Why</p><h3>{REASONS[case.why]}</h3>'
        f"<p>{html.escape(case.after)}</p>"
        f"<h3>What to do</h3><p>{html.escape(case.advice)}</p></div>{_about(case, session)}"
    )


def remedy_html(case: Case, remedy: Remedy, session: Session, control: Session | None) -> str:
    """The effect of the advice.

    Args:
        case: The case.
        remedy: Its advice.
        session: The query of the remedy against its normals.
        control: Its control against the same; None where there is none.
    """
    words = {
        RIGHT: "Now the model gets it right",
        MISSED: "The model still misses it",
        ALARM: "It is still a false alarm",
    }[outcome(case.anomalous, session)]
    own = remedy.query == case.query
    picture = revealed_html(case, session) if own else _heatmap_figure(session)
    return (
        f'<div class="ic-outcome" role="status"><p class="ic-label">With {session.bank.shots} '
        f"normals, as advised</p><h3>{words}</h3><p>{_score_sentence(session)}"
        f"{_price(case, remedy, session)}</p>{_strip(session)}</div>{_changes(case, remedy)}"
        f'<p class="ic-label">The image{"" if own else ", as advised,"} against these normals</p>'
        f"{picture}{_control_html(case, remedy, control)}"
    )


def _changes(case: Case, remedy: Remedy) -> str:
    added = [path for path in remedy.normals if path not in case.normals]
    removed = [path for path in case.normals if path not in remedy.normals]
    if len(removed) == len(case.normals):
        changes = [("The normals, as advised", "Normal image", added)]
    else:
        changes = [
            ("New among the normals", "New normal image", added),
            ("No longer among them", "Removed image", removed),
        ]
    return "".join(
        f'<p class="ic-label">{label}</p>{_normals(paths, alt)}'
        for label, alt, paths in changes
        if paths
    )


def _control_html(case: Case, remedy: Remedy, control: Session | None) -> str:
    """The image of the opposite truth: advice that makes everything an alarm would be none."""
    if control is None or remedy.control is None:
        return ""
    kind = "a good one" if case.anomalous else "a truly anomalous one"
    return (
        f'<div class="ic-control"><img alt="Image to compare with: {kind}" '
        f'src="{_shown(remedy.control, NORMAL_PIXELS // 2)}">'
        f"<p>To compare: {kind} against the same normals. {_score_sentence(control)}</p></div>"
    )


def _price(case: Case, remedy: Remedy, session: Session) -> str:
    """The cost of an added normal that widens the range of the others."""
    if session.ranges is None:
        return ""
    scored = zip(session.ranges.normals, session.ranges.fused, strict=True)
    kept = [fused for index, fused in scored if remedy.normals[index] in case.normals]
    highest = session.ranges.highest
    if not kept or highest <= max(kept):
        return ""
    return (
        " It has a price: an added normal is now the farthest from the others, at "
        f"{highest:.3f}, and what lies below the new threshold of {session.threshold:.3f} is no "
        "alarm any more."
    )


def nav_html(case: Case, following: Case) -> str:
    """Buttons for the link of the open case and for the next one."""
    return (
        f'<div class="ic-case-nav"><button type="button" data-copy="{html.escape(case.id)}">'
        "Copy link</button>"
        f'<button type="button" data-case="{html.escape(following.id)}">Next case</button></div>'
    )


def _normals(paths: Sequence[Path], alt: str = "Normal image") -> str:
    images = "".join(
        f'<img src="{_shown(path, NORMAL_PIXELS // 2)}" alt="{alt} {index}">'
        for index, path in enumerate(paths, start=1)
    )
    return f'<div class="ic-case-normals">{images}</div>'


def _score_sentence(session: Session) -> str:
    fused, ranges, threshold = session.score.fused, session.ranges, session.threshold
    if ranges is None or threshold is None:
        return f"It scores {fused:.3f}."
    place = "above" if session.above else "below"
    return (
        f"It scores <strong>{fused:.3f}</strong>, {place} the threshold of {threshold:.3f}; the "
        f"normals, each against the others, {ranges.lowest:.3f} to {ranges.highest:.3f}."
    )


def _strip(session: Session) -> str:
    if session.ranges is None:
        return ""
    return range_strip(session.score.fused, session.ranges, session.threshold)


def _otherwise(case: Case, session: Session, came_out: str) -> str:
    if came_out == case.expected:
        return ""
    return (
        f'<p class="ic-fails">With {html.escape(session.config.title)} it comes out otherwise than '
        "with the model that ships with this page, for which the following was written.</p>"
    )


def _about(case: Case, session: Session) -> str:
    made = f" {html.escape(case.made)}" if case.made else ""
    return (
        f'<p class="ic-small ic-origin">{origin_html(case.origin)}{made} '
        f"Model: {html.escape(session.config.title)}.</p>"
    )


def _tally(count: int, guessed: Mapping[str, bool]) -> str:
    if not guessed:
        return ""
    right = sum(guessed.values())
    return (
        f'<p class="ic-guess-tally" role="status">You guessed {right} of {len(guessed)} right; '
        f"{count - len(guessed)} to go. The first guess of each case counts.</p>"
    )


def _shown(path: Path, most_pixels: int, least_side: int = 1) -> str:
    return jpeg_uri(resize_for_screen(open_image(path), most_pixels, least_side))
