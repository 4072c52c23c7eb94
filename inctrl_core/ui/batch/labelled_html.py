"""Labelled results as markup: figures, one failure at a time, its reason.

Pure functions; names go through :func:`html.escape`.
"""

from __future__ import annotations

import html

from PIL import Image

from ...analysis.batch import Batch
from ...analysis.decision import decide
from ...analysis.labelled import (
    FALSE_ALARM,
    FOUND,
    MISS,
    PASSED,
    Labelled,
    LabelledResult,
)
from ...analysis.reasons import Reasons
from ...errors import join_words
from ..common.markup import count_words, jpeg_uri
from .pictures import Pictures

TITLES = {
    MISS: "Miss",
    FALSE_ALARM: "False alarm",
    FOUND: "Rightly found",
    PASSED: "Rightly passed",
}
_EXPLAINED = (
    "A <strong>miss</strong> is a bad image that is not above the threshold, a <strong>false "
    "alarm</strong> a good one that is. <strong>AUROC</strong> is the share of all pairs of a bad "
    "and a good image in which the bad one scores higher: 1 where the scores separate them, 0.5 "
    "where they say nothing. <strong>AP</strong>, average precision, is the share of bad images "
    "among the highest scores, averaged over all ways to cut the list. Neither depends on the "
    "threshold."
)
LOOKING = '<p class="ic-small ic-looking" role="status">Looking for the reason …</p>'


def heading(result: LabelledResult) -> str:
    """The failures in one line, without markup."""
    counts = result.counts
    failures = [
        count_words(counts[outcome], word)
        for outcome, word in ((FALSE_ALARM, "false alarm"),)
        if counts[outcome]
    ]
    if counts[MISS]:
        failures.insert(0, "1 miss" if counts[MISS] == 1 else f"{counts[MISS]} misses")
    total = count_words(len(result.images), "labelled image")
    return f"{join_words(failures) if failures else 'No failure'} among {total}"


def figures_html(result: LabelledResult, batch: Batch) -> str:
    """Counts at the threshold, AUROC and AP, and the words for them, folded away."""
    counts = result.counts
    bad, good = counts[MISS] + counts[FOUND], counts[FALSE_ALARM] + counts[PASSED]
    tiles = "".join(
        f'<div class="{"ic-count-wrong" if wrong and counts[outcome] else ""}">'
        f"<dt>{title}</dt><dd><strong>{counts[outcome]}</strong> of {of} {kind}</dd></div>"
        for outcome, title, of, kind, wrong in (
            (MISS, "Misses", bad, "bad", True),
            (FALSE_ALARM, "False alarms", good, "good", True),
            (FOUND, "Rightly found", bad, "bad", False),
            (PASSED, "Rightly passed", good, "good", False),
        )
    )
    metrics = result.metrics
    says = "AUROC and AP need both good and bad images."
    if metrics is not None:
        says = (
            f'<span>AUROC <strong class="ic-auroc">{metrics["auroc"]:.3f}</strong></span> '
            f'<span>AP <strong class="ic-ap">{metrics["ap"]:.3f}</strong></span>'
        )
    return (
        f"<h2>{heading(result)}</h2>"
        f'<dl class="ic-counts">{tiles}</dl>'
        f'<p class="ic-metrics">{says}</p>{_left_out(result)}'
        f'<details class="ic-small"><summary>What these words mean</summary>{_EXPLAINED}</details>'
        f"{threshold_html(result, batch)}"
    )


def threshold_html(result: LabelledResult, batch: Batch) -> str:
    """What the normals lead to expect of the threshold; "" where the model cannot tell."""
    decision = decide(batch.good, threshold=result.threshold)
    if decision is None:
        return ""
    low, high = round(100 * decision.low), round(100 * decision.high)
    return (
        f'<p class="ic-small ic-expected">From your normals alone, {100 * decision.expected:.0f} '
        f"of 100 good images are expected above {result.threshold:.3f}; it may as well be {low} to "
        f"{high}.</p>"
    )


def _left_out(result: LabelledResult) -> str:
    count = len(result.among_normals)
    if not count:
        return ""
    noun = "1 good image is" if count == 1 else f"{count} good images are"
    return (
        f'<p class="ic-small">{noun} among the normals, or a copy, and left out here: to find '
        "itself proves nothing.</p>"
    )


def card_html(
    result: LabelledResult, image: Labelled, place: int, total: int, pictures: Pictures
) -> str:
    """One image with its pictures, and buttons for the one before and the next.

    Args:
        result: The figures.
        image: One of its images.
        place: Its place among those that are shown, counted from 0.
        total: How many are shown.
        pictures: Its pictures.
    """
    outcome, name = result.outcome(image), html.escape(image.name)
    button = '<button type="button" data-step="{}" aria-label="{}"{}>{}</button>'
    off = " disabled" if total == 1 else ""
    back = button.format(-1, "Previous image", off, "‹ <span>Previous</span>")
    forth = button.format(1, "Next image", off, "<span>Next</span> ›")
    return (
        f'<div class="ic-failure" data-name="{name}" data-outcome="{outcome}">'
        f'<div class="ic-failure-head">{back}'
        f'<div role="status"><p class="ic-label">{TITLES[outcome]} · {place + 1} of {total}</p>'
        f"<h3>{name}</h3></div>{forth}</div>"
        f"<p>{verdict_words(result, image)}</p>{pair_html(pictures)}</div>"
    )


def verdict_words(result: LabelledResult, image: Labelled) -> str:
    """Label, score and threshold in a sentence."""
    known = "bad" if image.anomalous else "good"
    above = "above" if image.score.fused > result.threshold else "not above"
    but = ", but" if result.outcome(image) in (MISS, FALSE_ALARM) else ", and"
    return (
        f"Known to be {known}{but} its score of <strong>{image.score.fused:.3f}</strong> is "
        f"{above} the threshold of {result.threshold:.3f}."
    )


def pair_html(pictures: Pictures) -> str:
    """The image and its map side by side, with the outline's key."""
    key = ""
    if pictures.masked:
        key = '<p class="ic-small"><i class="ic-outline"></i> what your mask marks</p>'
    if pictures.problem:
        key = f'<p class="ic-small">Its mask is not shown: {html.escape(pictures.problem)}</p>'
    return (
        '<div class="ic-pair">'
        f'<figure><img alt="The image" src="{jpeg_uri(pictures.plain, 85)}">'
        '<figcaption class="ic-small">The image</figcaption></figure>'
        f'<figure><img alt="The image under its map" src="{jpeg_uri(pictures.mapped, 85)}">'
        '<figcaption class="ic-small">Its map: what differs more than the normals do among '
        f"themselves</figcaption></figure></div>{key}"
    )


def nothing_html(result: LabelledResult) -> str:
    """In place of a card, where there is no failure."""
    return (
        f'<p class="ic-lead">No image fails at the threshold of {result.threshold:.3f}. Move it, '
        "or choose “All images” to look at those nearest to it.</p>"
    )


def reason_html(
    reasons: Reasons, fails: bool, threshold: float, pair: tuple[Image.Image, Image.Image]
) -> str:
    """Why an image fails, in a sentence, and the nearest patch of any normal.

    Args:
        reasons: The image's.
        fails: Whether it is judged wrongly at the threshold.
        threshold: The threshold.
        pair: See :func:`.pictures.draw_patch_pair`.
    """
    why = ""
    if fails:
        cause = reasons.cause(threshold) or "none"
        why = (
            f'<div class="ic-why" data-cause="{cause}"><p class="ic-label">Why</p>'
            f"<p>{html.escape(reasons.told(threshold))}</p></div>"
        )
    near, (row, column) = reasons.nearest, reasons.patch
    where = " of what the mask marks" if reasons.marked else ""
    return (
        f'{why}<div class="ic-pair ic-patches">'
        f'<figure><img alt="The patch that differs most" src="{jpeg_uri(pair[0], 85)}">'
        f'<figcaption class="ic-small">The patch{where} that differs most: row {row + 1}, '
        f"column {column + 1}</figcaption></figure>"
        f'<figure><img alt="The nearest patch of any normal" src="{jpeg_uri(pair[1], 85)}">'
        f'<figcaption class="ic-small">The most similar patch of any normal: normal '
        f"{near.normal + 1}, row {near.row + 1}, column {near.column + 1}; difference "
        f"{near.distance:.3f}</figcaption></figure></div>"
    )
