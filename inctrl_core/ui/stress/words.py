"""The findings of the stress test, in sentences; every number in them is computed.

Pure functions that return plain text, without markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...analysis.stress import (
    Contamination,
    DropOne,
    SeverityCurve,
    ShotsPoint,
    agreement,
    settled_from,
    turned_at,
)
from ...analysis.stress_run import StressRun
from ...errors import join_words

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# A change of score that three decimals do not show.
UNSEEN = 0.0005
NARROW = 0.05  # A score as close to the threshold may well lie on its other side.
MILD = 2  # So many of the least severities are mild changes.


@dataclass(frozen=True)
class KindWords:
    """The words for one kind of change.

    Attributes:
        title: Heading of its chart.
        axis: What a severity counts.
        short: A severity on the axis.
        spoken: A severity in a sentence, with ``{}`` for the figure.
        beyond: The word for all that is more severe.
        called: The image after the change.
    """

    title: str
    axis: str
    short: str
    spoken: str
    beyond: str
    called: str


KINDS = {
    "rotation": KindWords("Turned", "degrees", "{:g}°", "{}", "more", "turned"),
    "darker": KindWords(
        "Darker", "brightness left", "{:g}%", "{} brightness", "darker", "darkened"
    ),
    "brighter": KindWords(
        "Brighter", "brightness", "{:g}%", "{} brightness", "brighter", "brightened"
    ),
    "blur": KindWords("Blurred", "radius in pixels", "{:g}", "{} px", "more", "blurred"),
    "noise": KindWords("Noisy", "grey levels, of 255", "{:g}", "{} grey levels", "more", "noisy"),
    "jpeg": KindWords(
        "JPEG", "quality, of 100", "{:g}", "quality {}", "lower", "compressed as JPEG"
    ),
}


def in_words(number: int) -> str:
    """A number, in words up to ten."""
    return NUMBERS[number] if number < len(NUMBERS) else str(number)


def count(number: int, noun: str = "normal") -> str:
    """A number with its noun."""
    return f"{in_words(number)} {noun}{'' if number == 1 else 's'}"


def severities_at(curve: SeverityCurve, places: Sequence[int]) -> str:
    """Severities in a sentence: "at 20° and more" up to the strongest, else "at 5°".

    Args:
        curve: The scores at each severity.
        places: Indices of some, at least one, in order.
    """
    words = KINDS[curve.name]
    written = [words.short.format(curve.severities[i]) for i in places]
    to_the_end = tuple(places) == tuple(range(places[0], len(curve.severities)))
    if to_the_end and len(written) > 1:
        return f"at {words.spoken.format(written[0])} and {words.beyond}"
    return f"at {words.spoken.format(join_words(written))}"


def say_curve(curve: Sequence[ShotsPoint], above: bool) -> str:
    """How the score depends on the number of normals, and the verdict with it."""
    shots = curve[-1].shots
    if shots == 1:
        return "There is one normal, so nothing to draw from. Add more to see if the score settles."
    few = curve[1] if shots > 2 else curve[0]
    low, high = min(few.fused), max(few.fused)
    final = curve[-1].fused[0]
    which = "it is" if few.shots == 1 else "they are"
    if high - low < UNSEEN:
        swing = f"the score is {low:.3f} whichever {which}"
    else:
        swing = f"the score varies between {low:.3f} and {high:.3f}, depending on which {which}"
    settled = settled_from(curve)
    if settled is None:
        end = f"with all {shots} it is {final:.3f} and has not settled: more may still change it"
    elif settled <= few.shots:
        end = f"more of them hardly move it ({final:.3f} with all {shots})"
    else:
        end = f"from {in_words(settled)} on it hardly moves ({final:.3f} with all)"
    return f"With {count(few.shots)} {swing}; {end}.{_say_agreement(curve, above)}"


def _say_agreement(curve: Sequence[ShotsPoint], above: bool) -> str:
    judged = [point for point in curve[:-1] if point.shots > 1]
    doubtful = [point for point in judged if agreement(point, above) < len(point.fused)]
    if not judged:
        return ""
    if not doubtful:
        return f" The verdict is the same in every draw of {count(2)} or more."
    worst, last = doubtful[0], doubtful[-1]
    agreeing = agreement(worst, above)
    total = len(worst.fused)
    draws = f"{agreeing} of {total} draws" if agreeing else f"none of {total} draws"
    come = "comes" if agreeing == 1 else "come"
    everything = in_words(curve[-1].shots)
    verdict = f" With {count(worst.shots)}, {draws} {come} to the verdict of all {everything}"
    if last is judged[-1]:
        return f"{verdict}, and even with {count(last.shots)} not every draw does."
    return f"{verdict}; with {count(last.shots + 1)} or more every draw does."


def say_drop(dropped: Sequence[DropOne], threshold: float | None, above: bool) -> str:
    """Which normal carries the score, and whether the verdict hangs on one of them."""
    if not dropped:
        return "There is one normal: it carries everything. Add a second to compare."
    first = max(dropped, key=lambda drop: abs(drop.change))
    if abs(first.change) < UNSEEN:
        text = "No single normal carries the score: it stays the same whichever is left out."
    else:
        text = (
            f"Normal {first.index + 1} carries most: without it the score is {first.fused:.3f} "
            f"instead of {first.fused - first.change:.3f} ({first.change:+.3f})."
        )
    judged = [drop for drop in dropped if drop.threshold is not None]
    if not judged or threshold is None:
        return text
    moved = max(judged, key=lambda drop: abs(drop.threshold - threshold))
    if abs(moved.threshold - threshold) >= UNSEEN:
        text += (
            f" Without normal {moved.index + 1} the threshold would be "
            f"{moved.threshold:.3f} instead of {threshold:.3f}."
        )
    other = [str(drop.index + 1) for drop in judged if (drop.fused > drop.threshold) is not above]
    if len(other) == len(dropped):
        return f"{text} The verdict turns whichever is left out."
    if not other:
        return f"{text} The verdict stays the same whichever is left out."
    turning = join_words(other, "or")
    return f"{text} The verdict turns when normal {turning} is left out."


def say_contamination(copy: Contamination, mirrored: Contamination, above: bool) -> str:
    """The effect of the query among its own normals on score and threshold.

    Args:
        copy: With the query itself.
        mirrored: With its mirror image instead.
        above: The verdict without either.
    """
    if copy.before.copy_of is not None:
        return (
            f"This image is normal {copy.before.copy_of + 1}, or a copy of it: it finds itself "
            f"already, and scores {copy.before.fused:.3f}. Take it out of the normals to see what "
            "a bad image among them does."
        )
    where = "among the normals" if copy.replaced is None else f"as normal {copy.replaced + 1}"
    text = (
        f"With one copy of this image {where}, its score goes from {copy.before.fused:.3f} to "
        f"{copy.after.fused:.3f}: it finds itself. A mirrored copy, which is another picture, "
        f"brings it to {mirrored.after.fused:.3f}."
    )
    if above:
        passes = [
            contaminated.after.fused <= contaminated.threshold_after
            for contaminated in (copy, mirrored)
        ]
        told = {
            (True, True): " Either way it would pass for normal.",
            (True, False): " With the copy it would pass for normal, with the mirrored one not.",
            (False, True): " With the mirrored copy it would pass for normal.",
            (False, False): " It still counts as anomalous.",
        }
        text += told[passes[0], passes[1]]
    line = copy.threshold_before
    if (
        line is not None
        and copy.threshold_after is not None
        and copy.threshold_after - line >= UNSEEN
    ):
        text += (
            f" The threshold rises from {line:.3f} to {copy.threshold_after:.3f}, so other bad "
            "images may pass with it."
        )
    return text


def say_change(
    curve: SeverityCurve, start: float, threshold: float | None, above: bool
) -> tuple[str, str]:
    """The effect of one kind of change on the query, and on a normal.

    Args:
        curve: The scores.
        start: Score of the query as it is.
        threshold: None where nothing tells.
        above: Whether the query as it is exceeds the threshold.

    Returns:
        Two sentences; the second is empty where there is one normal.
    """
    if threshold is None:
        far = max(range(len(curve.query)), key=lambda i: abs(curve.query[i] - start))
        at = severities_at(curve, [far])
        return f"Moves furthest {at}: from {start:.3f} to {curve.query[far]:.3f}.", ""
    turned = turned_at(curve.query, threshold, above)
    if above:
        stays = "Above the threshold at every severity."
        query = f"Below the threshold {severities_at(curve, turned)}." if turned else stays
    else:
        query = f"An alarm {severities_at(curve, turned)}." if turned else "Never an alarm."
    if curve.normal is None:
        return query, ""
    alarms = turned_at(curve.normal, threshold, False)
    normal = f"an alarm {severities_at(curve, alarms)}" if alarms else "never an alarm"
    return query, f"A normal, changed likewise: {normal}."


def say_changes(
    curves: Sequence[SeverityCurve], threshold: float | None, above: bool, normal: int | None
) -> str:
    """All kinds of change in a sentence or two.

    Args:
        curves: One per kind.
        threshold: None where nothing tells.
        above: Whether the query as it is exceeds the threshold.
        normal: Index of the normal that was changed likewise; None where there is one normal.
    """
    if threshold is None:
        return (
            "One normal gives no threshold: the curves show how far each change moves the score, "
            "and there is nothing to compare it with."
        )
    turned = [(KINDS[c.name].called, turned_at(c.query, threshold, above)) for c in curves]
    alarms = [(KINDS[c.name].called, turned_at(c.normal or (), threshold, False)) for c in curves]
    total = sum(len(curve.query) for curve in curves)
    held = total - sum(len(places) for _, places in turned)
    what, becomes = (
        ("stays above the threshold", "falls below it")
        if above
        else ("stays below the threshold", "becomes an alarm")
    )
    text = f"The image {what} under {_share(held, total)} changes"
    text += f"; it {becomes} when {_kinds(turned)}." if held < total else "."
    raised = sum(len(places) for _, places in alarms)
    if normal is None:
        return f"{text} A second normal would tell what the changes do to a good image."
    if not raised:
        return f"{text} Normal {normal + 1}, changed likewise, never becomes an alarm."
    return (
        f"{text} Normal {normal + 1}, changed likewise, becomes an alarm under "
        f"{_share(raised, total)}: there the score shows the change, not a defect."
    )


def say_conclusion(run: StressRun) -> tuple[str, bool]:
    """The outcome of a finished run in a few sentences, and whether it is bad news.

    A verdict that holds need not be right: nobody knows here what the image truly is.

    Args:
        run: Finished, with a threshold.
    """
    judged = [
        *(point for point in run.curve[:-1] if point.shots > 1),
        *(ShotsPoint(0, (drop.fused,), (drop.threshold,)) for drop in run.dropped),
        *(ShotsPoint(0, curve.query, (run.threshold,) * len(curve.query)) for curve in run.changed),
    ]
    known = [point for point in judged if None not in point.thresholds]
    holds = all(agreement(point, run.above) == len(point.fused) for point in known)
    margin = abs(run.session.score.fused - run.threshold)
    narrow = "only " if margin < NARROW else ""
    what = "Stable: nothing that" if holds else "Not stable: some of what"
    text = (
        f"{what} was tried turns the verdict, and the score lies {narrow}{margin:.3f} "
        f"{'above' if run.above else 'below'} the threshold."
    )
    mild = [
        KINDS[curve.name].called
        for curve in run.changed
        if turned_at((curve.normal or ())[:MILD], run.threshold, False)
    ]
    if mild:
        text += (
            f" A normal becomes an alarm when it is mildly {join_words(mild, 'or')}: photograph "
            "all images alike."
        )
    return text, bool(mild or narrow or not holds)


def _kinds(turned: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    return join_words([called for called, places in turned if places], "or")


def _share(part: int, whole: int) -> str:
    return f"all {whole}" if part == whole else f"{part or 'none'} of {whole}"
