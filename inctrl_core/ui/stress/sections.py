"""From a stress test to markup: the overview, and one section for each question. No Gradio here."""

from __future__ import annotations

import base64
import html
import json

from PIL import Image, ImageOps

from ...analysis.copies import copies_told
from ...analysis.session import Session
from ...analysis.stress import SeverityCurve, agreement, turned_at
from ...analysis.stress_run import (
    CHANGES,
    CONTAMINATION,
    CURVE,
    DROP,
    PARTS,
    StressRun,
    run_to_dict,
)
from ...images.overlay import COLOUR_MAPS, overlay, resize_for_screen, scale_box
from ...images.perturbations import perturb
from ...model.score import Score
from ..common.charts import colour_bar
from ..common.markup import jpeg_uri, term
from ..common.plots import Yardstick
from .charts import curve_chart, drop_table, severity_chart, severity_key, shared_top
from .words import (
    KINDS,
    say_change,
    say_changes,
    say_conclusion,
    say_contamination,
    say_curve,
    say_drop,
    severities_at,
)

SMALL = (72, 72)
STRONGEST = (132, 132)
MAP_PIXELS = 200_000
MAP_SIDE = 420

WORKING = {
    CURVE: "drawing fewer normals",
    DROP: "leaving out one normal at a time",
    CONTAMINATION: "putting the image among the normals",
} | {name: f"scoring it {words.called}" for name, words in KINDS.items()}

THRESHOLD = (
    "An image above it counts as anomalous. It follows from the scores of your normals, each "
    "compared with the others."
)
NORMAL_RANGE = "From the lowest to the highest score of your normals, each against the others."
DRAW = "A random choice of some of your normals. The image is scored against those alone."
LIKEWISE = (
    "The normal whose own score lies in the middle. It is changed in the same way and compared "
    "with the other normals: where it becomes an alarm, so would other good images."
)
SEEN = (
    "What the model sees of the image, its shorter side at the model's size. What turning would "
    "leave empty is filled with the mirrored image."
)


def head_html(run: StressRun) -> str:
    """The subject of the test, its progress, and the findings so far."""
    session, line = run.session, term("threshold", THRESHOLD)
    if session.score.copy_of is not None:
        verdict = "it is one of the normals, or a copy of it, so it finds itself"
    elif run.threshold is None:
        verdict = "one normal gives no threshold"
    elif run.above:
        verdict = f"an alarm, above the {line} of {run.threshold:.3f}"
    else:
        verdict = f"no alarm, the {line} is {run.threshold:.3f}"
    image = ImageOps.contain(run.query, SMALL, Image.Resampling.LANCZOS)
    name = html.escape(session.bank.object_name)
    shots = f"{session.bank.shots} normal{'' if session.bank.shots == 1 else 's'}"
    return (
        f'<div class="ic-stress-head"><img alt="The image under test" src="{jpeg_uri(image)}">'
        f'<div><p class="ic-label">Under test: {name}, {shots}</p>'
        f"<p><strong>Score {session.score.fused:.3f}</strong>: {verdict}</p>{_copies(session)}"
        f"{_status(run)}</div>"
        f"</div>{_conclusion(run)}{_tally(run)}"
    )


def _copies(session: Session) -> str:
    told = copies_told(session.bank.copy_of, session.normal_names)
    return f'<p class="ic-small">{html.escape(told)}</p>' if told else ""


def _status(run: StressRun) -> str:
    if run.next_part is None:
        data = base64.b64encode(json.dumps(run_to_dict(run), indent=1).encode()).decode()
        return (
            '<p class="ic-small" role="status">All tests are done. <a download="stress-test.json" '
            f'href="data:application/json;base64,{data}">Download all figures (JSON)</a></p>'
        )
    step = f"Step {run.done + 1} of {len(PARTS)}: {WORKING[run.next_part]}"
    return (
        f'<p class="ic-small" role="status">{step}</p>'
        f'<div class="ic-advance"><i style="width:{100 * run.done / len(PARTS):.0f}%"></i></div>'
    )


def _conclusion(run: StressRun) -> str:
    """The outcome in words, once all tests are done; "" where nothing tells."""
    if run.next_part is not None or run.threshold is None or run.session.score.copy_of is not None:
        return ""
    says, bad = say_conclusion(run)
    return f'<p class="ic-conclusion{" ic-bad" if bad else ""}">{html.escape(says)}</p>'


def _tally(run: StressRun) -> str:
    """Four counts: how often the verdict holds, and how often a sound image gives an alarm."""
    if run.threshold is None:
        return ""
    judged = [point for point in run.curve[:-1] if point.shots > 1]
    draws = sum(len(point.fused) for point in judged)
    agreeing = sum(agreement(point, run.above) for point in judged)
    left = [drop for drop in run.dropped if drop.threshold is not None]
    same = sum((drop.fused > drop.threshold) is run.above for drop in left)
    changes = sum(len(curve.query) for curve in run.changed)
    lost = sum(len(turned_at(curve.query, run.threshold, run.above)) for curve in run.changed)
    alarms = sum(len(turned_at(curve.normal or (), run.threshold, False)) for curve in run.changed)
    all_done = run.next_part is None
    # What goes wrong is what should be seen.
    quiet = (alarms, "changes raise a false alarm") if alarms else (changes, "raise no false alarm")
    cells = (
        ("Fewer normals", agreeing, draws, "draws give this verdict", bool(run.curve)),
        ("One left out", same, len(left), "times the verdict stays", bool(run.dropped)),
        ("Photograph changed", changes - lost, changes, "changes keep the verdict", all_done),
        ("A normal changed", quiet[0], changes, quiet[1], all_done),
    )
    return f'<div class="ic-tally">{"".join(_cell(*cell) for cell in cells)}</div>'


def _cell(title: str, part: int, whole: int, what: str, ready: bool) -> str:
    if not ready:
        figure, what = "…", "not there yet"
    elif whole == 0:
        figure, what = "–", "too few normals to say"
    else:
        figure = f"{part} of {whole}"
    return f'<div><p class="ic-label">{title}</p><strong>{figure}</strong><span>{what}</span></div>'


def curve_html(run: StressRun) -> str:
    """How many normals are enough?"""
    if not run.curve:
        return ""
    chart = ""
    if len(run.curve) > 1:
        draw, line = term("draw", DRAW), term("threshold", THRESHOLD)
        chart = curve_chart(run.curve, Yardstick.of(run.session.ranges, run.session.threshold)) + (
            f'<p class="ic-small">Each dot is one {draw}. From two normals on, each has a {line} '
            "of its own, and so a verdict. Draws of nearly all normals share most of them, and "
            "agree for that reason alone.</p>"
        )
    says = say_curve(run.curve, run.above)
    return _section("How many normals are enough?", says, chart)


def drop_html(run: StressRun) -> str:
    """Which normal carries the result?"""
    if run.done <= PARTS.index(DROP):
        return ""
    table = ""
    if run.dropped:
        pictures = [_small(normal.image, normal.crop_box) for normal in run.session.normals]
        table = drop_table(run.dropped, run.above, pictures)
    says = say_drop(run.dropped, run.threshold, run.above)
    return _section("Which normal carries the result?", says, table)


def contamination_html(run: StressRun) -> str:
    """The section on a bad image among the normals."""
    if run.contaminated is None:
        return ""
    copy, mirrored = run.contaminated
    pictures = "".join(
        f'<figure><img src="{_heatmap(run.session, score)}" alt="Heatmap {when}"><figcaption>'
        f"<strong>{score.fused:.3f}</strong><span>{when}</span></figcaption></figure>"
        for score, when in (
            (copy.before, "as it is"),
            (copy.after, "with a copy of itself among the normals"),
            (mirrored.after, "with a mirrored copy instead"),
        )
    )
    bar = colour_bar(run.session.scales[0], COLOUR_MAPS[0])
    says = say_contamination(copy, mirrored, run.above)
    body = f'<div class="ic-triple">{pictures}</div>{bar}'
    return _section("What if a bad image slips in?", says, body)


def changes_html(run: StressRun) -> str:
    """Does it hold when the photograph changes?"""
    if not run.changed:
        return ""
    normal = None if run.normal is None else run.normal[0]
    start = run.session.score.fused, _normal_start(run)
    yardstick = Yardstick.of(run.session.ranges, run.session.threshold)
    top = shared_top(run.changed, start, yardstick)
    tiles = []
    for curve in run.changed:
        words = say_change(curve, start[0], run.threshold, run.above)
        chart = severity_chart(curve, start, yardstick, top)
        tiles.append(_tile(curve, run.query, words, chart))
    waiting = len(CHANGES) - len(tiles)
    tiles += ['<div class="ic-change-tile ic-waiting" aria-hidden="true"></div>'] * waiting
    says = "" if waiting else say_changes(run.changed, run.threshold, run.above, normal)
    small = "" if normal is None else _about_changes()
    body = f'{severity_key(normal)}<div class="ic-changes">{"".join(tiles)}</div>{small}'
    return _section("Does it hold when the photograph changes?", says, body)


def _tile(curve: SeverityCurve, query: Image.Image, says: tuple[str, str], chart: str) -> str:
    words = KINDS[curve.name]
    strongest = perturb(query, curve.name, curve.severities[-1])
    image = jpeg_uri(ImageOps.contain(strongest, STRONGEST, Image.Resampling.LANCZOS))
    alt = f"The image {words.called}, {severities_at(curve, [len(curve.severities) - 1])}"
    return (
        f'<figure class="ic-change-tile"><div><img src="{image}" alt="{alt}"><figcaption>'
        f"<strong>{words.title}</strong><span>{says[0]}</span>"
        f'<span class="ic-quiet">{says[1]}</span></figcaption></div>{chart}</figure>'
    )


def _about_changes() -> str:
    seen, likewise = term("what the model sees", SEEN), term("A normal, changed likewise", LIKEWISE)
    return (
        f'<p class="ic-small">The changes are made to {seen}; the pictures show the strongest. '
        f"{likewise}, tells what the change does by itself. All charts have the same scale, the "
        f"same {term('normal range', NORMAL_RANGE)} and {term('threshold', THRESHOLD)}.</p>"
    )


def _section(title: str, says: str, body: str) -> str:
    lead = f'<p class="ic-lead">{html.escape(says)}</p>' if says else ""
    return f'<section class="ic-stress"><h3>{title}</h3>{lead}{body}</section>'


def _normal_start(run: StressRun) -> float | None:
    return None if run.normal is None else run.session.ranges.fused_of(run.normal[0])


def _small(image: Image.Image, box: tuple[float, float, float, float]) -> str:
    left, top, right, bottom = (round(edge) for edge in box)
    seen = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    return jpeg_uri(ImageOps.contain(seen, SMALL, Image.Resampling.BICUBIC))


def _heatmap(session: Session, score: Score) -> str:
    """The map over the query, on the scale of the normals as they were before."""
    query, scale = session.query, session.scales[0]
    image = resize_for_screen(query.image, MAP_PIXELS, MAP_SIDE)
    box = scale_box(query.crop_box, query.image.size, image.size)
    return jpeg_uri(overlay(image, score.patch_map, box, scale.style()))
