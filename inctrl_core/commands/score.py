"""Scores images against a few normal ones."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from ..devices import PRECISION_VARIABLE, PRECISIONS
from ..errors import ImageError, name_some
from ..image_files import IMAGE_SUFFIXES
from ..loading import DEFAULT_MODEL, load_detector
from ..preprocessing import other_proportions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--normal", nargs="+", type=Path, required=True, metavar="DIR_OR_FILE")
    parser.add_argument("--query", nargs="+", type=Path, required=True, metavar="DIR_OR_FILE")
    parser.add_argument("--object", default="object", metavar="NAME", help="what the images show")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name, directory, or USER/REPO")
    parser.add_argument("--revision", help="branch, tag or commit of USER/REPO")
    parser.add_argument("--heads", metavar="DIR_OR_REPO", help="use the heads of another model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--precision",
        help=f"auto, {', '.join(PRECISIONS)}; float32 unless {PRECISION_VARIABLE} is set",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> None:
    """Scores every query and prints one line, or one JSON entry, for each."""
    normals, queries = list_images(arguments.normal), list_images(arguments.query)
    detector = load_detector(
        arguments.model,
        arguments.device,
        precision=arguments.precision,
        revision=arguments.revision,
        heads=arguments.heads,
    )
    bank = detector.build_bank(normals, arguments.object)
    scores = detector.score(queries, bank)
    apart = [
        str(query)
        for query, score in zip(queries, scores, strict=True)
        if other_proportions(score.crop_box, bank.crop_boxes)
    ]
    if apart:
        sys.stderr.write(
            "note: not in the proportions of any normal, so squeezed by another amount: "
            f"{name_some(apart)}; crop all images to the same proportions\n"
        )
    if arguments.json:
        document = {
            "model": detector.name,
            "object_name": bank.object_name,
            "shots": bank.shots,
            "scores": [
                {"file": str(query)} | score.to_dict() | {"other_proportions": str(query) in apart}
                for query, score in zip(queries, scores, strict=True)
            ],
        }
        sys.stdout.write(json.dumps(document) + "\n")
        return
    sys.stdout.write(f"{detector.config.title}, {detector.fusion} fusion, {bank.shots} normals\n")
    for query, score in sorted(zip(queries, scores, strict=True), key=lambda p: -p[1].fused):
        sys.stdout.write(
            f"{score.fused:.4f}  patch {score.patch_max:.4f}  image {score.image_residual:.4f}  "
            f"text {score.text_anomaly:.4f}  {query}\n"
        )


def list_images(paths: Iterable[Path]) -> list[Path]:
    """Files as they stand, and the images directly inside each folder, by name.

    Raises:
        ImageError: A folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            raise ImageError(f"'{path.name}' holds no images; name a folder that does.")
        found += inside
    return found
