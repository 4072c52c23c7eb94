"""The threshold of a result in words, with the false alarms to expect of it."""

from __future__ import annotations

from ...analysis.decision import GoodScores
from ...analysis.session import Session


def threshold_html(session: Session) -> str:
    """The threshold, and how many good images and normals lie above it; "" where there is none."""
    threshold, decision = session.threshold, session.decision
    if threshold is None or session.score.copy_of is not None:
        return ""
    whose = "Your threshold" if session.chosen is not None else "Threshold"
    expected = doubt = ""
    if decision is not None:
        low, high = (round(100 * share) for share in (decision.low, decision.high))
        few = f"{session.bank.shots} normals tell" if session.bank.shots > 1 else "One normal tells"
        expected = f", with {say_share(decision.expected, session.measured.good)} good images above"
        doubt = f" <span>{few} no more than that: it may be {low} to {high} of 100.</span>"
    return (
        f'<p class="ic-decision"><strong>{whose}: {threshold:.3f}</strong>{expected}.'
        f"{_rejected(session, threshold)}{doubt}</p>"
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
    return f" It rejects {count or 'none'} of your {len(scores)} normals."
