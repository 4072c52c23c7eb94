"""Step 7 of the lesson: from the signals to the score, by the form of fusion that made it."""

from __future__ import annotations

from ...analysis.walkthrough import GatedAccount, ReferenceAccount, TrainingFreeAccount
from ...errors import join_words
from ...model.score import Score
from ..common.charts import breakdown_table, range_strip, signal_words
from .parts import (
    DEVIATION,
    Lesson,
    Mark,
    Step,
    columns,
    fact_line,
    folded,
    formula,
    logistic_line,
    map_figure,
    number,
    operand,
    step_html,
    sum_line,
)

SIGNALS = {
    "patch_max": "patch maximum",
    "patch_mean": "mean of M",
    "image": "image residual",
    "text": "text signal",
}


def score_step(lesson: Lesson, mark: Mark) -> str:
    """Step 7: the fusion that made the score, and the normals' own range."""
    account, session = lesson.account, lesson.session
    if isinstance(account, TrainingFreeAccount):
        body, code = _training_free(lesson, account), "model.heads.TrainingFreeFusion"
    elif isinstance(account, ReferenceAccount):
        body, code = _reference(lesson, account, mark), "model.heads.ReferenceHeads"
    else:
        body, code = _gated(lesson, account), "model.gated.GatedHeads"
    lead = score_told(lesson)
    ranges = session.ranges
    if ranges is None:
        single = "A single normal gives" if session.bank.shots == 1 else "Copies of one normal give"
        strip = f"<p>{single} no range to compare the score with.</p>"
        look = "Add a different normal in Inspect, and the score can be compared with theirs."
    elif session.score.copy_of is not None:
        strip = range_strip(session.score.fused, ranges)
        look = (
            f"This image is normal {session.score.copy_of + 1} or a copy of it: it finds itself, "
            "so its score says nothing."
        )
    else:
        strip = range_strip(session.score.fused, ranges, session.threshold)
        look = (
            "The score is no probability. What counts is the band, the scores of the normals when "
            "each is compared with the others, and the threshold that follows from them: this "
            f"image lies {'above' if session.above else 'below'} it, {number(session.threshold)}."
        )
    return step_html(Step(7, "One score", lead, look, (code,)), body + strip)


def score_told(lesson: Lesson) -> str:
    """The score of this model as its form makes it, and what of that is learnt; a few sentences."""
    account, heads = lesson.account, lesson.session.config.heads
    fused = f"<strong>{number(lesson.session.score.fused)}</strong>"
    if isinstance(account, ReferenceAccount):
        return (
            "The score of this model is the mean of two numbers: the largest difference of any "
            "patch, and what a small network, trained on other objects, reads in the map once the "
            f"image and the words are added to it. Here it is {fused}."
        )
    if isinstance(account, TrainingFreeAccount):
        learnt = (
            "Trained, on other objects, is the map of the patches before it."
            if heads.patch_adapter
            else "This model is training-free."
        )
        return (
            f"The score of this model is {_average_told(account)}. Here it is {fused}. The formula "
            f"is fixed; nothing in it is learnt. {learnt}"
        )
    shares = account.breakdown.shares
    most = max(shares, key=lambda share: share.share)
    return (
        f"The score of this model is a weighted sum of {len(shares)} signals: how far each lies "
        "above what the normals lead to expect. Brought between 0 and 1 it is "
        f"{fused}; one good image in 20 of other things exceeds 0.5. Most is given here by the "
        f"{signal_words(most)}, {operand(most.share, 2)}. The weights are decided by small "
        "networks, trained on other objects, that read the normals."
    )


def _average_told(account: TrainingFreeAccount) -> str:
    words = {
        "patch_max": "the largest difference of any patch",
        "patch_mean": "the mean difference of all patches",
        "image": "the difference of the image as a whole",
        "text": "what the words say",
    }
    signals = [term.signal for term in account.terms if term.weight]
    if signals == ["patch_max"]:
        return words["patch_max"]
    joined = join_words([words[signal] for signal in signals])
    weighed = joined if len(signals) == 1 else f"a weighted mean of {joined}"
    return f"the mean of two numbers: {words['patch_max']}, and {weighed}"


def _training_free(lesson: Lesson, account: TrainingFreeAccount) -> str:
    score = lesson.session.score
    terms = account.terms
    symbols = " + ".join(f"{term.weight:g} · {SIGNALS[term.signal]}" for term in terms)
    values = " + ".join(f"{term.weight:g} · {operand(term.value)}" for term in terms)
    used = join_words([SIGNALS[term.signal] for term in terms])
    has = "has" if len(terms) == 1 else "have"
    only = (
        "<p>With these weights both halves are the same number: the score is the patch maximum.</p>"
        if [(term.signal, term.weight) for term in terms] == [("patch_max", 1.0)]
        else ""
    )
    left = (
        formula(
            f"holistic = {symbols}",
            "The half of the score that weighs the signals together. The weights stand in the "
            f"model’s description; only {used} {has} one.",
        )
        + sum_line("Holistic", values, number(score.holistic))
        + _fused(lesson)
        + only
    )
    right = (
        "<p>This model has no trained heads. In the paper’s own form a network would read the map "
        "after both other signals are added to all of its patches:</p>"
        + formula(
            "M<sup>+</sup> = M + image residual + text signal<br>holistic = head(M<sup>+</sup>)",
            "A model with trained heads shows this map here.",
        )
    )
    return columns(left, right)


def _reference(lesson: Lesson, account: ReferenceAccount, mark: Mark) -> str:
    score = lesson.session.score
    top = float(account.shifted_map.max())
    maps = "".join(
        map_figure(lesson, values, (0.0, top), mark, (name, f"{name} of every patch"))
        for name, values in (("M", score.patch_map), ("M⁺", account.shifted_map))
    )
    layers = " → ".join(str(width) for width in account.map_layers)
    parts = float(score.patch_map[mark]), score.image_residual, score.text_anomaly
    words = (
        formula(
            "M<sup>+</sup> = M + image residual + text signal",
            "Both are single numbers, added to every patch alike: the map keeps its shape and "
            "rises as a whole.",
        )
        + sum_line(
            "This patch",
            " + ".join(operand(part) for part in parts),
            number(float(account.shifted_map[mark])),
        )
        + formula(
            "holistic = head(M<sup>+</sup>)",
            "The half of the score that reads the whole map. head: a trained network, layers of "
            f"{layers} numbers; its last number is squeezed between 0 and 1.",
        )
        + fact_line("Holistic", "head(M⁺) =", number(score.holistic))
        + _fused(lesson)
    )
    return columns(f'<div class="ic-two">{maps}</div>', words)


def _gated(lesson: Lesson, account: GatedAccount) -> str:
    score, parts = lesson.session.score, account.breakdown
    groups = {group: parts.of(group) for group in ("patches", "image", "text")}
    known = [] if parts.defects is None else [parts.defects]
    sums = "".join(
        sum_line(
            title,
            " + ".join(
                f"{operand(share.weight)} · {operand(share.deviation)}"
                for share in parts.shares
                if share.group == group
            ),
            number(groups[group]),
        )
        for group, title in (("image", "Share of the image"), ("text", "Share of the text"))
    )
    words = (
        formula("deviation = (ln value − expected) ÷ spread", DEVIATION)
        + formula(
            "share = weight · deviation",
            f"{account.members} small networks read what the normals say of each other, and not "
            "this image, and give each signal a weight, never below 0. So a larger difference "
            "never lowers the score.",
        )
        + sums
        + formula(
            "score = 1 ÷ (1 + e<sup>−(sum of the shares − offset)</sup>)",
            "The offset is what one good image in 20 of other kinds of object exceeds: there the "
            "score is 0.5.",
        )
        + sum_line(
            "Sum",
            " + ".join(operand(part) for part in (*groups.values(), *known))
            + f" − {operand(parts.offset)}",
            number(parts.log_odds),
        )
        + logistic_line("Score", operand(parts.log_odds), number(score.fused))
        + folded(
            "The same without the largest patch",
            formula(
                "holistic = 1 ÷ (1 + e<sup>−(sum without the largest patch)</sup>)",
                "Left out is the one number that the heatmap shows as its brightest patch.",
            )
            + logistic_line(
                "Holistic",
                f"({operand(parts.log_odds - sum(known))} − {operand(parts.shares[0].share)})",
                number(score.holistic),
            ),
        )
    )
    return columns(breakdown_table(parts, score.fused), words)


def _fused(lesson: Lesson) -> str:
    score = lesson.session.score
    return (
        formula(
            "score = (holistic + patch maximum) ÷ 2",
            "Half of the score is the one number that the heatmap shows as its brightest patch.",
        )
        + sum_line(
            "Score",
            f"({operand(score.holistic)} + {operand(score.patch_max)}) ÷ 2",
            number((score.holistic + score.patch_max) / 2),
        )
        + _with_defects(score)
    )


def _with_defects(score: Score) -> str:
    """The defects that the visitor showed, which no form of fusion knows of."""
    if score.defect_map is None:
        return ""
    return sum_line(
        "With your defects",
        f"log-odds moved by {operand(score.defect_shift)}",
        number(score.fused),
    )
