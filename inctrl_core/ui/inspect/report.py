"""One result as a page of its own."""

from __future__ import annotations

import html
from datetime import date

from ...analysis.session import Session
from ...images.files import plain_name
from ..common.heatmap import Display, heatmap
from ..common.markup import jpeg_uri
from ..common.report import document
from .render import ledger_html, provenance_html, text_html
from .verdict import verdict_html


def report_html(session: Session, display: Display, made: date) -> str:
    """A result as the visitor sees it, in one HTML document that needs nothing else.

    Args:
        session: The result.
        display: How the map is drawn, and which patch is examined.
        made: The day that it is dated.

    Raises:
        InctrlError: The display asks for what this result does not have.
    """
    name = html.escape(session.bank.object_name)
    image, bar = heatmap(session, display)
    normals = "".join(
        f'<img src="{jpeg_uri(normal.image)}" alt="Normal {number}">'
        for number, normal in enumerate(session.normals, start=1)
    )
    count = len(session.normals)
    parts = (
        f"<h1>InCTRL: one {name} against {count} normal{'s' if count > 1 else ''}</h1>",
        _made(session, made),
        verdict_html(session),
        '<div class="ic-pair">',
        f'<figure><img src="{jpeg_uri(session.query.image)}" alt="The image that was checked">'
        '<figcaption class="ic-small">The image that was checked</figcaption></figure>',
        f'<figure><img src="{jpeg_uri(image)}" alt="Heatmap over the image">'
        f'<figcaption class="ic-small">Heatmap: {html.escape(display.layer.lower())}</figcaption>'
        "</figure></div>",
        bar,
        "<h2>The normals</h2>",
        f'<div class="ic-normals">{normals}</div>',
        "<h2>Which normal patch is most similar?</h2>",
        provenance_html(session, display),
        "<h2>What do the words say?</h2>",
        text_html(session),
        "<h2>What makes up the score?</h2>",
        ledger_html(session),
        f'<p class="ic-small ic-weights">Weights: {html.escape(session.config.weights)}.</p>',
    )
    title = f"InCTRL: {session.bank.object_name}, score {session.score.fused:.3f}"
    return document(title, parts)


def _made(session: Session, made: date) -> str:
    """The file, the day and the model, so that the page means something a year later."""
    model = session.config.title
    told = f"{plain_name(session.query_file)}, {made.isoformat()}, model {model}"
    return f'<p class="ic-small">{html.escape(told)}</p>'
