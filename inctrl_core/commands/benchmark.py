"""Measures the cost of a model on this computer, against one bare pass of its backbone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.loading import DEFAULT_MODEL
from ..devices import pick_precision
from ..evaluation.benchmark import (
    BenchmarkReport,
    compare_precision,
    load_for_benchmark,
    measure_curve,
    run_benchmark,
    save_curve,
)
from ..model.bank import check_shots
from .options import add_device_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="name, directory, .safetensors file, or USER/REPO; random weights where its own are "
        f"not on this computer (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--shots", type=int, default=4, metavar="K", help="normals in the bank (default: 4)"
    )
    add_device_options(parser)
    parser.add_argument(
        "--compare", metavar="PRECISION", help="measure this precision against the other as well"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="how often each row is timed (default: 7)"
    )
    parser.add_argument(
        "--curve", type=Path, metavar="FILE.png", help="also draw queries against K and batch"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> None:
    """Measures, and prints a table or JSON."""
    check_shots(arguments.shots)
    model, device, rounds = arguments.model, arguments.device, max(1, arguments.rounds)
    detector, real = load_for_benchmark(model, device, arguments.precision)
    if arguments.compare:
        pick_precision(arguments.compare, detector.backbone.device)  # Before minutes of measuring.
    report = run_benchmark(detector, arguments.shots, real_weights=real, rounds=rounds)
    document = report.to_dict()
    if arguments.compare:
        other, _ = load_for_benchmark(model, device, arguments.compare)
        document["comparison"] = compare_precision(detector, other, arguments.shots, rounds=rounds)
        del other
    if arguments.curve:
        document["curve"] = measure_curve(detector, rounds)
    sys.stdout.write(json.dumps(document) + "\n" if arguments.json else _table(report, document))
    sys.stdout.flush()
    if arguments.curve:
        title = f"{report.model}, {report.device}, {report.precision}, {report.threads} threads"
        save_curve(document["curve"], title, arguments.curve)


def _table(report: BenchmarkReport, document: Mapping[str, Any]) -> str:
    lines = [
        f"{report.model} ({report.weights} weights), {report.device}, {report.precision}, "
        f"{report.threads} threads, median of {report.rounds}",
        f"{'':48}{'ms':>10}{'fastest':>10}{'ratio':>8}{'target':>8}",
    ]
    for row in report.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        target = "" if row.target is None else f"{row.target:.2f} x"
        lines.append(
            f"{row.name:48}{1000 * row.seconds:10.1f}{1000 * row.fastest:10.1f}"
            f"{ratio:>8}{target:>8}"
        )
    lines.append(f"{report.photos_per_second:.1f} megapixel JPEG files a second, drawn")
    if report.peak_bytes is not None:
        lines.append(f"{report.peak_bytes / 1e9:.2f} GB of memory at most")
    if comparison := document.get("comparison"):
        lines.append(
            f"{comparison['precision']}: bare forward {comparison['ratio']:.2f} x, "
            f"fused within {comparison['fused_difference']:.4f}"
        )
    return "\n".join(lines) + "\n"
