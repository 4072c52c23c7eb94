"""A labelled result as one page to keep: figures, and every failure with its pictures."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from datetime import date

from ...analysis.batch import Batch
from ...analysis.batch_job import BatchJob
from ...analysis.labelled import Labelled, LabelledResult
from ...analysis.reasons import Reasons
from ...errors import ImageError
from ...images.files import plain_name
from ...images.seen import Opener
from ..common.markup import count_words
from ..common.report import document
from .histogram import histogram_html
from .labelled_html import TITLES, figures_html, heading, pair_html, verdict_words
from .pictures import draw_pictures

# Of about 60 kB each, two to a failure; what follows is told in a table.
MOST_PICTURED = 80
_PIXELS = 180_000


def labelled_report(
    job: BatchJob,
    result: LabelledResult,
    found: Mapping[int, Reasons],
    opener: Opener,
    made: date,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """Everything about a labelled result, in one HTML document that needs nothing else.

    Args:
        job: The batch.
        result: Its figures at the visitor's threshold.
        found: The reasons that were looked for, by the index of the image.
        opener: Opens the images again.
        made: The day that it is dated.
        on_progress: Told of failures drawn and failures in all.
    """
    batch, failures = job.batch, result.failures
    name = html.escape(batch.object_name)
    pictured = failures[:MOST_PICTURED]
    parts = [
        f"<h1>InCTRL: labelled images of “{name}”</h1>",
        f'<p class="ic-small">{_made(batch, made)}</p>',
        f'<div class="ic-labelled">{figures_html(result, batch)}</div>',
        histogram_html(batch, result.threshold),
        "<h2>Failures</h2>",
    ]
    if not failures:
        parts.append(f"<p>No image fails at the threshold of {result.threshold:.3f}.</p>")
    for done, image in enumerate(pictured, start=1):
        parts.append(_failure(batch, result, image, found.get(image.index), opener))
        on_progress(done, len(pictured))
    if len(failures) > len(pictured):
        more = count_words(len(failures) - len(pictured), "more failure")
        parts.append(f"<p>{more} without pictures: see the table.</p>")
    parts += ["<h2>All images</h2>", _table(result), _unread(batch)]
    return document(f"InCTRL: {heading(result)}, {batch.object_name}", parts)


def _made(batch: Batch, made: date) -> str:
    normals = ", ".join(plain_name(name) for name in batch.normal_names)
    told = (
        f"{made.isoformat()}, model {batch.model}, {count_words(batch.shots, 'normal')}: {normals}"
    )
    return html.escape(told)


def _failure(
    batch: Batch,
    result: LabelledResult,
    image: Labelled,
    reasons: Reasons | None,
    opener: Opener,
) -> str:
    try:
        pair = pair_html(draw_pictures(batch, batch.rows[image.index], opener, _PIXELS))
    except ImageError as error:
        pair = f"<p>{html.escape(str(error))}</p>"
    why = ""
    if reasons is not None:
        why = f"<p><strong>Why:</strong> {html.escape(reasons.told(result.threshold))}</p>"
    return (
        f'<section class="ic-failure"><h3>{TITLES[result.outcome(image)]}: '
        f"{html.escape(image.name)}</h3><p>{verdict_words(result, image)}</p>{why}{pair}</section>"
    )


def _table(result: LabelledResult) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(image.name)}</th><td>{image.score.fused:.3f}</td>'
        f"<td>{'bad' if image.anomalous else 'good'}</td><td>{TITLES[result.outcome(image)]}</td>"
        "</tr>"
        for image in result.ordered
    )
    return (
        '<table class="ic-all"><thead><tr><th scope="col">Image</th><th scope="col">Score</th>'
        '<th scope="col">Known to be</th><th scope="col">Outcome</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _unread(batch: Batch) -> str:
    errors = [html.escape(row.error) for row in batch.rows if row.error]
    if not errors:
        return ""
    return f"<h2>Not read</h2><ul>{''.join(f'<li>{error}</li>' for error in errors)}</ul>"
