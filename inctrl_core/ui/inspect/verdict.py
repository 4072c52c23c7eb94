"""The verdict on an image: its score in large type, and its meaning beside the normals."""

from __future__ import annotations

import html

from ...analysis.copies import called, copies_told, count_normals, query_told
from ...analysis.decision import BELOW, CLEARLY, FAR, LITTLE
from ...analysis.session import Session
from ...config import HeadsConfig
from ...errors import join_words
from ...images.preprocessing import PROPORTIONS_APART, aspect_mismatch
from ...model.heads import training_free_weights
from ..common.charts import range_strip
from ..common.markup import term
from .threshold import threshold_html

UNTRAINED = "A fixed formula joins the signals; nothing was learnt from examples of damage."
VERDICTS = {
    BELOW: "Looks like the normals",
    LITTLE: "A little above the threshold",
    CLEARLY: "Clearly above the threshold",
    FAR: "Far above the threshold",
}
TONES = {BELOW: "ic-inside", LITTLE: "ic-slight", CLEARLY: "ic-above", FAR: "ic-above"}
MORE = "Add a different normal to learn how far normal images lie apart."


def verdict_html(session: Session) -> str:
    """The score in large type, its meaning, and the normals' own range."""
    score, ranges, grade = session.score, session.ranges, session.grade
    strip = "" if ranges is None else range_strip(score.fused, ranges, session.threshold)
    if score.copy_of is not None:
        words, tone = "One of the normals", "ic-unknown"
        text = html.escape(query_told(score.copy_of, session.normal_names))
    elif grade is None:
        words = f"{_alone(session)} no range"
        tone, text = "ic-unknown", f"{MORE} Until then only scores of other images tell."
    else:
        words, tone = VERDICTS[grade], TONES[grade]
        text = MORE if ranges is None else _compare(session) + _patches_above(session)
    text += _data(session) + _proportions(session) + _mistake(session)
    return (
        f'<div class="ic-verdict {tone}">{_odd(session)}<div class="ic-headline">'
        f'<div><p class="ic-label">Anomaly score{_untrained(session.config.heads)}</p>'
        f'<p class="ic-score">{score.fused:.3f}</p></div>'
        f"<div><h2>{words}</h2><p>{text}</p></div></div>{_change(session)}{strip}"
        f"{threshold_html(session)}"
        f"{_copies(session)}"
        f"{_meaning(session)}</div>"
    )


def _odd(session: Session) -> str:
    """Says which normal differs too much from the others, and what it changes."""
    if (odd := session.odd) is None:
        return ""
    name = html.escape(called(odd.index, session.normal_names))
    own = session.ranges.fused_of(odd.index)
    then = "above" if odd.fused > odd.threshold else "below"
    return (
        f'<p class="ic-odd" role="status"><strong>Normal {name} differs far more from the others '
        f"than good images do</strong> (it scores {own:.3f} against them). Without it this image "
        f"scores {odd.fused:.3f}, {then} a threshold of {odd.threshold:.3f}.</p>"
    )


def _alone(session: Session) -> str:
    return "One normal gives" if session.bank.shots == 1 else "Copies of one normal give"


def _copies(session: Session) -> str:
    """Says which normals are copies of others."""
    told = copies_told(session.bank.copy_of, session.normal_names)
    return f'<p class="ic-small ic-copies">{html.escape(told)}</p>' if told else ""


def _mistake(session: Session) -> str:
    """Says so where the truth is known and the verdict another."""
    if session.above is None or session.anomalous is None:
        return ""
    if session.score.copy_of is not None:
        return ""  # Called normal by the visitor, it finds itself.
    if session.anomalous == session.above:
        return ""
    if session.anomalous:
        return " <strong>Actually it is anomalous: the model misses it here.</strong>"
    return " <strong>Actually it is normal: the model raises a false alarm here.</strong>"


def _compare(session: Session) -> str:
    fused, ranges = session.score.fused, session.ranges
    normals = count_normals(session.bank.shots, session.bank.copy_of)
    span = (
        f"The {normals} score {ranges.lowest:.3f} to "
        f"{ranges.highest:.3f} when each is compared with the others"
    )
    if fused > ranges.highest:
        beyond = round(fused, 3) - round(ranges.highest, 3)  # Of the figures that are shown.
        excess = f"by {beyond:.3f}" if beyond else "by less than 0.001"
        return f"{span}; this image lies above them {excess}. "
    if fused < ranges.lowest:
        return f"{span}; this image scores lower still. "
    return f"{span}; this image lies among them. "


def _data(session: Session) -> str:
    """The kind of data that the images hold, where it is not simply 8 bits."""
    normals, query = session.bank.data, session.score.data
    if normals == query:
        return "" if session.bank.levels is None else f" All images were read as {query}."
    return f" The normals were read as {normals}, this image as {query}."


def _proportions(session: Session) -> str:
    boxes = session.bank.crop_boxes
    ratios = [(right - left) / (bottom - top) for left, top, right, bottom in boxes]
    apart = aspect_mismatch(session.score.crop_box, boxes)
    if apart is not None:
        own, closest = apart
        told = "Its proportions are not those of the normals"
        figures = f"{own:.3g}, closest normal {closest:.3g}"
    elif max(ratios) / min(ratios) > PROPORTIONS_APART:
        told = "The normals differ in their proportions"
        figures = f"{min(ratios):.3g} to {max(ratios):.3g}"
    else:
        return ""
    return (
        f" <strong>{told}</strong> (width ÷ height {figures}): every image is made square, so the "
        "same thing has another shape there. Crop all images to the same proportions."
    )


def _patches_above(session: Session) -> str:
    scale = session.scales[0]
    share = scale.share_above(session.score.patch_map)
    moved = scale.moved != 1.0
    than = "the line of your threshold" if moved else "the normals do among themselves"
    if share == 0:
        return f"No patch differs more than {than}."
    total = session.score.patch_map.size
    count = round(share * total)
    differ = f"1 of {total} patches differs" if count == 1 else f"{count} of {total} patches differ"
    area = f"{100 * share:.0f}%" if share >= 0.01 else "less than 1%"
    return f"{differ} more than {than}, {area} of the area."


def _meaning(session: Session) -> str:
    return (
        '<details class="ic-small"><summary>0 is as normal as can be, 1 as anomalous; it is not a '
        f"probability</summary>{_how(session.config.heads)} What counts is how it compares with "
        f"the normals. Model: {html.escape(session.config.title)}.</details>"
    )


def _untrained(heads: HeadsConfig) -> str:
    return "" if heads.trained else f", {term('training-free', UNTRAINED)}"


def _how(heads: HeadsConfig) -> str:
    if heads.form != "training-free":
        return "The score is joined from the signals below by heads trained on other objects."
    weights = training_free_weights(heads)
    parts = ["the largest patch difference"]
    names = {"patch_mean": "the mean patch difference", "image": "the image", "text": "the text"}
    parts += [name for key, name in names.items() if weights.get(key, 0) > 0]
    learnt = (
        "a fixed formula; what counts as a difference was learnt on other objects"
        if heads.patch_adapter
        else "training-free fusion: a fixed formula, nothing learnt"
    )
    if len(parts) == 1:
        return (
            f"The score is the largest patch difference ({learnt}); image and text are shown "
            "below and do not count."
        )
    return f"The score is an average of {join_words(parts)} ({learnt})."


def _change(session: Session) -> str:
    if session.before is None:
        return ""
    before, after = session.before, session.score
    words = ""
    if before.text_anomaly != after.text_anomaly:
        gated = session.config.heads.form == "gated"
        words = (
            f"{'text signal' if gated else 'damage wording'} {100 * before.text_anomaly:.0f}% → "
            f"<strong>{100 * after.text_anomaly:.0f}%</strong>, "
        )
    return (
        f'<p class="ic-changed" role="status">{html.escape(session.change)}: {words}score '
        f"{before.fused:.3f} → <strong>{after.fused:.3f}</strong> "
        f"({after.fused - before.fused:+.3f}).{_price(session)}</p>"
    )


def _price(session: Session) -> str:
    """The effect of other normals on all images to come, by the threshold."""
    before, after = session.threshold_before, session.threshold
    if before is None or after is None or abs(after - before) < 0.0005:
        return ""
    if after > before:
        return (
            f" <strong>The price: the threshold rises from {before:.3f} to {after:.3f}</strong>, "
            "so faults that score less than that pass."
        )
    return f" The threshold falls from {before:.3f} to {after:.3f}."
