"""The scores of a batch as a histogram; pure markup."""

from __future__ import annotations

from collections.abc import Sequence

from ...analysis.batch import Batch, BatchRow
from ..common.charts import axis_top
from ..common.markup import count_words

BINS = 24
_WIDTH, _HEIGHT, _TALLEST = 720, 120, 100  # The histogram's coordinates; the page stretches them.


def histogram_html(batch: Batch, threshold: float | None = None) -> str:
    """How many images have which score, over the range of the normals.

    Args:
        batch: The results.
        threshold: That of a line; None: the batch's own.
    """
    rows, line = batch.scored, batch.threshold if threshold is None else threshold
    if not rows:
        return ""
    known = bool(batch.truths)
    scores = [row.score.fused for row in rows]
    edge = batch.ranges.highest if batch.ranges else 0.0
    top = axis_top(max([*scores, edge, line or 0.0]))
    counts = _bins([row for row in rows if not (known and row.file.anomalous)], top)
    hidden = _bins([row for row in rows if known and row.file.anomalous], top)
    tallest = max(a + b for a, b in zip(counts, hidden, strict=True))
    step = _WIDTH / BINS
    bars = []
    for index, (plain, anomalous) in enumerate(zip(counts, hidden, strict=True)):
        low = f"{index * top / BINS:.3f} to {(index + 1) * top / BINS:.3f}"
        base = 0
        kinds = (("normal", plain), ("anomalous", anomalous)) if known else (("", plain),)
        for kind, count in kinds:
            if count:
                unit = f"{count} {kind}" if kind else count_words(count, "image")
                bars.append(
                    f'<rect class="ic-bin {f"ic-bin-{kind}" if kind else ""}" '
                    f'x="{index * step + 1.5:.1f}" width="{step - 3:.1f}" '
                    f'y="{_HEIGHT - _TALLEST * (base + count) / tallest:.1f}" '
                    f'height="{_TALLEST * count / tallest:.1f}"><title>{unit}, {low}</title></rect>'
                )
            base += count
    band = edges = ""
    if batch.ranges is not None:
        left, right = (_WIDTH * v / top for v in (batch.ranges.lowest, batch.ranges.highest))
        band = (
            f'<rect class="ic-normal-range" x="{left:.1f}" width="{max(right - left, 2):.1f}" '
            f'y="0" height="{_HEIGHT}"/>'
        )
        # Over the bars, which would hide them.
        edges = "".join(
            f'<line class="ic-edge" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>'
            for x in (left, right)
        )
    if line is not None:
        x = _WIDTH * line / top
        edges += f'<line class="ic-cut" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>'
    return (
        f'<figure class="ic-histogram"><figcaption class="ic-label">How many images have which '
        f"score; the tallest bar is {count_words(tallest, 'image')}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{_describe(batch, scores)}">{band}{"".join(bars)}{edges}</svg>'
        f'<div class="ic-ends"><span>0</span>{_key(batch, known, line)}<span>{top:g}</span></div>'
        "</figure>"
    )


def _bins(rows: Sequence[BatchRow], top: float) -> list[int]:
    counts = [0] * BINS
    for row in rows:
        counts[min(int(row.score.fused / top * BINS), BINS - 1)] += 1
    return counts


def _describe(batch: Batch, scores: Sequence[float]) -> str:
    count = count_words(len(scores), "image")
    text = f"Histogram: {count} from {min(scores):.3f} to {max(scores):.3f}"
    if batch.ranges is None:
        return f"{text}."
    return f"{text}; normals from {batch.ranges.lowest:.3f} to {batch.ranges.highest:.3f}."


def _key(batch: Batch, known: bool, line: float | None) -> str:
    items = []
    if batch.ranges is not None:
        items.append('<i class="ic-batch-key ic-normal-range"></i> range of the normals')
    if line is not None:
        items.append('<b class="ic-threshold"></b> threshold')
    if known:
        items.append('<i class="ic-batch-key ic-bin-normal"></i> actually normal')
        items.append('<i class="ic-batch-key ic-bin-anomalous"></i> actually anomalous')
    return f'<p class="ic-key">{"".join(f"<span>{item}</span>" for item in items)}</p>'
