"""Steps 5 and 6 of the lesson, the image as a whole and the words; and what nothing sees."""

from __future__ import annotations

import html

from ...analysis.walkthrough import GatedAccount, ReferenceAccount, TrainingFreeAccount
from ...config import SQUASH
from ...model.prompts import NATURAL_OBJECTS
from ...model.residuals import TEXT_SCALE
from ..common.charts import text_bars
from .parts import (
    DEVIATION,
    TILE,
    Lesson,
    Step,
    bars_html,
    columns,
    crop_html,
    fact_line,
    figure,
    folded,
    formula,
    logistic_line,
    number,
    operand,
    step_html,
    sum_line,
    tile_row,
)


def image_step(lesson: Lesson) -> str:
    """Step 5: the query as a whole against the normals as wholes."""
    account = lesson.account
    if isinstance(account, ReferenceAccount):
        body, code = _adapted_image(lesson, account), "model.heads.ReferenceHeads"
    else:
        body, code = _image_distances(lesson, account), "model.residuals.global_distance"
    step = Step(
        5,
        "The image as a whole",
        "The network also describes each square in one list of numbers for the whole picture, the "
        "<dfn>embedding</dfn>; these are compared too.",
        "This signal sees what no single patch shows, such as a wrong kind of object. It cannot "
        "say where.",
        (code,),
        _badge(lesson, "image"),
    )
    return step_html(step, body)


def text_step(lesson: Lesson) -> str:
    """Step 6: the query against the prompts."""
    session, account = lesson.session, lesson.account
    text = session.text
    gap = f"({operand(text.anomaly_cosine, 6)} − {operand(text.normal_cosine, 6)})"
    words = (
        f"<p>The model’s other half turns phrases into embeddings as well: {_groups(lesson)}. Each "
        "group is averaged into one direction.</p>"
        + formula(
            "text signal = e<sup>s·a</sup> ÷ (e<sup>s·a</sup> + e<sup>s·n</sup>) "
            "= 1 ÷ (1 + e<sup>−s·(a − n)</sup>)",
            "a, n: similarity of the image’s embedding with the damaged and with the sound "
            f"direction. s = {TEXT_SCALE:g} makes small gaps count.",
        )
        + logistic_line("Text signal", f"{TEXT_SCALE:g} · {gap}", number(text.share))
    )
    if isinstance(account, GatedAccount):
        words += folded(
            "How it is set against what the normals lead to expect",
            formula("text signal = 1 ÷ (1 + e<sup>−d</sup>)", f"d: deviation. {DEVIATION}")
            + logistic_line(
                "Relative text",
                operand(account.text_deviation),
                number(session.score.text_anomaly),
            ),
        )
    step = Step(
        6,
        "What the words say",
        "The image is compared with phrases for a damaged object and with phrases for a sound one.",
        "Compare with the bracket, which is what the normals get: a large share means little where "
        "the normals have it too.",
        ("model.prompts.build_prompts", "model.residuals.text_anomaly"),
        _badge(lesson, "text"),
    )
    return step_html(step, columns(text_bars(text), words))


def limits_html(lesson: Lesson) -> str:
    """The limits of all the steps together."""
    query, grid = lesson.session.query, lesson.grid
    given = lesson.session.encoded.crop_boxes[0]
    across, down = (given[2] - given[0]) / grid, (given[3] - given[1]) / grid
    if lesson.session.config.preprocess.resize_mode == SQUASH:
        left_out = (
            "<li><strong>Proportions.</strong> Every image is made square. One that is wider for "
            "its height than the normals is squeezed by another amount, and what it shows looks "
            "narrower.</li>"
        )
    else:
        left_out = (
            "<li><strong>Outside the square.</strong> Here "
            f"{100 * (1 - query.seen_share):.0f}% of the image takes no part.</li>"
        )
    return (
        '<section class="ic-step ic-limits" aria-labelledby="ic-limits">'
        '<h3 id="ic-limits">What is not seen</h3><ul>'
        f"{left_out}"
        f"<li><strong>Small things.</strong> A patch covers {across:.0f} × {down:.0f} pixels of "
        "this image. A flaw much smaller than that is averaged away, and first of all by the "
        "resizing.</li>"
        "<li><strong>Arrangement.</strong> A patch is compared with every place in a normal. Sound "
        "parts in the wrong place, number or order can pass.</li>"
        "<li><strong>Harmless change.</strong> Light, angle or a new sound variant that no normal "
        "shows counts as difference.</li>"
        "<li><strong>What the normals have too.</strong> A flaw that one of the normals shares "
        "has its match there, and is not found.</li></ul></section>"
    )


def _groups(lesson: Lesson) -> str:
    bank = lesson.session.bank
    name = html.escape(bank.object_name)
    sound, damaged = len(bank.text.prompts.normal), len(bank.text.prompts.anomaly)
    if bank.object_name.lower() in NATURAL_OBJECTS:
        # Damage makes no sense there: the prompts speak of the object's absence.
        return f"{sound} for a picture of <q>{name}</q> and {damaged} for one without"
    return f"{sound} for a sound <q>{name}</q> and {damaged} for a damaged one"


def _badge(lesson: Lesson, signal: str) -> str:
    """Whether a signal counts in the score of this model."""
    account = lesson.account
    if isinstance(account, GatedAccount):
        shares = account.breakdown.shares
        counts = any(share.group == signal and share.weight >= 0.005 for share in shares)
    elif isinstance(account, TrainingFreeAccount):
        counts = any(term.signal == signal for term in account.terms)
    else:
        counts = True
    return "counts in the score" if counts else "does not count in this model’s score"


def _image_distances(lesson: Lesson, account: TrainingFreeAccount | GatedAccount) -> str:
    session = lesson.session
    distances = account.distances
    closest = min(range(len(distances)), key=distances.__getitem__)
    tiles = [
        figure(
            crop_html(
                lesson.crop(normal).resize((TILE, TILE)),
                f"Normal {i + 1}, at distance {number(distance)}",
            ),
            f"Normal {i + 1}",
            number(distance),
            strong=i == closest,
        )
        for i, (normal, distance) in enumerate(zip(session.normals, distances, strict=True))
    ]
    words = formula(
        "distance<sub>k</sub> = ½ · (1 − cos(g, g<sub>k</sub>))",
        "g: embedding of the image to check. g<sub>k</sub>: of normal k. cos: their cosine "
        "similarity, as for patches.",
    ) + sum_line(
        f"Smallest, to normal {closest + 1}",
        f"½ · (1 − {operand(1 - 2 * distances[closest])})",
        number(distances[closest]),
    )
    if isinstance(account, GatedAccount):
        closest_share, mean_share = (s for s in account.breakdown.shares if s.group == "image")
        words += folded(
            "How both distances become one number between 0 and 1",
            formula(
                "image residual = 1 ÷ (1 + e<sup>−d</sup>)",
                "d: mean of the deviations of the smallest distance and of the mean distance. "
                f"Deviation: {DEVIATION[0].lower()}{DEVIATION[1:]}",
            )
            + fact_line("Deviation of the smallest", "", number(closest_share.deviation, 2))
            + fact_line("Deviation of the mean", "", number(mean_share.deviation, 2))
            + logistic_line(
                "Image residual",
                operand(account.image_deviation),
                number(session.score.image_residual),
            ),
        )
    else:
        words += formula("image residual = smallest distance")
    return columns(tile_row(tiles), words)


def _adapted_image(lesson: Lesson, account: ReferenceAccount) -> str:
    session = lesson.session
    layers = " → ".join(str(width) for width in account.image_layers)
    strip = bars_html(account.residual, "The difference of the adapted embeddings as colours")
    square = crop_html(lesson.crop(session.query), "The square")
    pictures = (
        f'<div class="ic-two">{figure(square, "The square, as a whole")}<div><p class="ic-label">'
        f"r: {len(account.residual)} numbers</p>{strip}</div></div>"
    )
    words = (
        "<p>The image’s embedding is taken from the mean of the normals’; a small network, the "
        "<dfn>head</dfn>, reads the difference and gives one number.</p>"
    )
    words += fact_line("Image residual", "head(r) =", number(session.score.image_residual))
    words += folded(
        "The adapter and the head",
        formula(
            "r = mean<sub>k</sub> A(g<sub>k</sub>) − A(g)",
            "g: embedding of the image to check. g<sub>k</sub>: of normal k. A: a small trained "
            "layer, the <dfn>adapter</dfn>, that stresses what matters for anomalies.",
        )
        + formula(
            "image residual = head(r)",
            f"head: a trained network with layers of {layers} numbers; its last number is squeezed "
            "between 0 and 1.",
        ),
    )
    return columns(pictures, words)
