"""The threshold of a result in words: the grade of the score, and the false alarms to expect."""

from __future__ import annotations

from ...analysis.decision import BELOW, CLEARLY, FAR, LITTLE, GoodScores
from ...analysis.inspection import Session

GRADES = {
    BELOW: "Below the threshold.",
    LITTLE: "A little above the threshold: a good image might score so too.",
    CLEARLY: "Clearly above the threshold.",
    FAR: "Far above the threshold.",
}


def decision_html(session: Session) -> str:
    """The place of a score beside the threshold; "" where the model cannot tell."""
    decision, good = session.decision, session.measured.good
    if decision is None or session.score.copy_of is not None:
        return ""
    grade = GRADES[good.grade(session.score.fused, decision.threshold)]
    whose = " (yours)" if session.threshold is not None else ""
    low, high = (round(100 * share) for share in (decision.low, decision.high))
    few = "one normal tells" if session.bank.shots == 1 else f"{session.bank.shots} normals tell"
    return (
        f'<p class="ic-decision"><strong>{grade}</strong> Threshold {decision.threshold:.3f}'
        f"{whose}: {say_share(decision.expected, good)} good images would be above it."
        f"{_rejected(session, decision.threshold)} <span>So {few}, it may as well be "
        f"{low} to {high} of 100.</span></p>"
    )


def say_share(share: float, good: GoodScores) -> str:
    """A share of good images in words, such as "about 1 in 20".

    Args:
        share: In [0, 1].
        good: The figures that it comes from, which end at a least and a largest share.
    """
    shares = good.population.shares
    if share <= min(shares):
        return f"fewer than 1 in {round(1 / min(shares))}"
    if share >= max(shares):
        return "nearly all"
    return f"about 1 in {round(1 / share)}" if share < 0.3 else f"about {round(10 * share)} in 10"


def _rejected(session: Session, threshold: float) -> str:
    """How many of the normals would be called anomalous."""
    if session.ranges is None:
        return ""
    scores = session.ranges.fused
    count = sum(score > threshold for score in scores)
    above = f"{count} of them {'lies' if count == 1 else 'lie'}" if count else "none lies"
    return f" Of your {len(scores)} normals, each compared with the others, {above} above it."
