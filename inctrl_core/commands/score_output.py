"""Scores as ``score`` prints them: a table for people, or one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.batch import Batch, BatchRow
from ..analysis.closer import CloserLook
from ..analysis.copies import count_normals
from ..analysis.export import batch_dict
from ..analysis.heatmap_files import describe_heatmaps
from ..analysis.labelled import (
    FALSE_ALARM,
    FOUND,
    MISS,
    PASSED,
    LabelledResult,
    judge_batch,
    labelled_dict,
)
from ..analysis.normal_range import ITSELF
from ..images.files import one_line
from ..images.folders import LeftOut
from ..model.detector import Detector


def score_table(detector: Detector, batch: Batch, looks: Mapping[BatchRow, CloserLook]) -> str:
    """A line on the normals, then one for each score, the highest first."""
    config, ranges = detector.config, batch.ranges
    if ranges is None and batch.shots > 1:
        normals = f"{batch.shots} normals, all copies of one (a different one gives a range)"
    elif ranges is None:
        normals = "1 normal (a second one gives the range that scores are compared with)"
    else:
        normals = (
            f"{count_normals(batch.shots, batch.copy_of)}, which score {ranges.lowest:.4f} to "
            f"{ranges.highest:.4f} against each other"
        )
    lines = [f"{config.title}, {config.heads.described}, {normals}"]
    if batch.decision is not None:
        decision = batch.decision
        lines.append(
            f"threshold {decision.threshold:.4f}: about {100 * decision.expected:.3g} of 100 good "
            f"images would lie above it (for 8 of 10 kinds of thing {100 * decision.low:.2g} to "
            f"{100 * decision.high:.2g})"
        )
    elif batch.chosen is not None:
        lines.append(f"threshold {batch.chosen:.4f}, as saved with the normals")
    verdicts = {
        row: ITSELF if row.score.copy_of is not None else batch.grade(row) or ""
        for row in batch.scored
    }
    width = max(map(len, verdicts.values()), default=0)
    for row in batch.ranked:
        if (score := row.score) is None:
            continue
        verdict = f"{verdicts[row]:{width}}  " if width else ""
        lines.append(
            f"{score.fused:.4f}  {verdict}patch {score.patch_max:.4f}  "
            f"image {score.image_residual:.4f}  text {score.text_anomaly:.4f}  "
            f"{_closer(looks.get(row))}{one_line(row.file.path)}"
        )
    result = judge_batch(batch)
    if result is not None:
        lines.append(_labelled(result))
    return "\n".join(lines) + "\n"


def _closer(look: CloserLook | None) -> str:
    """The strongest patch of a closer look beside the normals' own."""
    if look is None:
        return ""
    own = f" (normals {max(look.normal_peaks):.4f})" if look.normal_peaks else ""
    return f"closer {look.peak:.4f}{own}  "


def _labelled(result: LabelledResult) -> str:
    """A line on images whose truth is known."""
    counts = result.counts
    bad, good = counts[MISS] + counts[FOUND], counts[FALSE_ALARM] + counts[PASSED]
    told = f"misses {counts[MISS]} of {bad} bad  false alarms {counts[FALSE_ALARM]} of {good} good"
    if result.metrics is not None:
        told += f"  AUROC {result.metrics['auroc']:.4f}  AP {result.metrics['ap']:.4f}"
    return told


def score_document(
    batch: Batch,
    left_out: dict[str, Sequence[LeftOut]],
    heatmaps: dict[BatchRow, dict[str, Path]] | None,
    looks: Mapping[BatchRow, CloserLook],
) -> dict[str, Any]:
    """All that is known, in the order of the queries, ready for ``json.dumps``."""
    places = {row: index for index, row in enumerate(batch.rows)}
    entries = []
    for row in batch.ranked:
        entry: dict[str, Any] = {"index": places[row], "file": row.file.path}
        if looks:
            entry["closer"] = looks[row].to_dict() if row in looks else None
        if heatmaps is not None:
            files = heatmaps.get(row)
            entry["heatmaps"] = files and {kind: str(path) for kind, path in files.items()}
        entries.append(entry)
    result = judge_batch(batch)
    if result is None:
        document = batch_dict(batch, entries)
    else:
        document = labelled_dict(batch, entries=entries)
    scores = [entry for entry in document.pop("results") if not entry.pop("error")]
    if result is None:
        for entry in scores:
            del entry["truth"]  # Nobody was asked for it.
    document["scores"] = sorted(scores, key=lambda entry: entry["index"])
    if heatmaps is not None:
        scale = next(iter(looks.values())).scale if looks else batch.scale
        document["heatmap_values"] = describe_heatmaps(scale)
    document["left_out"] = [
        {"file": str(entry.path), "among": among, "why": entry.why}
        for among, part in left_out.items()
        for entry in part
    ]
    return document
