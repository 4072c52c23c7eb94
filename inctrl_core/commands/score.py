"""Scores images against a few normal ones."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from ..detector import SCORE_BATCH, Detector
from ..errors import ImageError, name_some
from ..image_files import images_in, why_unreadable
from ..preprocessing import other_proportions
from ..prompt_bank import PromptBank
from ..score import Score
from .options import add_model_options, load_model_option


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    many = {"nargs": "+", "type": Path, "required": True, "metavar": "DIR_OR_FILE"}
    parser.add_argument("--normal", help="1 to 16 images without defects, or their folder", **many)
    parser.add_argument("--query", help="images to score, or their folder", **many)
    parser.add_argument(
        "--object", default="object", metavar="NAME", help="what they show, such as 'metal nut'"
    )
    add_model_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> None:
    """Scores every query and prints one line, or one JSON entry, for each."""
    normals, queries = list_images(arguments.normal), list_images(arguments.query)
    detector = load_model_option(arguments)
    bank = detector.build_bank(normals, arguments.object)
    queries, scores = _score_readable(detector, bank, queries)
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
    config = detector.config
    sys.stdout.write(f"{config.title}, {config.heads.described}, {bank.shots} normals\n")
    for query, score in sorted(zip(queries, scores, strict=True), key=lambda p: -p[1].fused):
        sys.stdout.write(
            f"{score.fused:.4f}  patch {score.patch_max:.4f}  image {score.image_residual:.4f}  "
            f"text {score.text_anomaly:.4f}  {query}\n"
        )


def _score_readable(
    detector: Detector, bank: PromptBank, queries: Sequence[Path]
) -> tuple[list[Path], list[Score]]:
    """Scores what can be read, and names the rest on standard error.

    Raises:
        ImageError: None can be read.
    """
    readable: list[Path] = []
    scores: list[Score] = []
    problems: dict[Path, str] = {}
    # A bar for what takes its time, which a few images do not.
    with tqdm(total=len(queries), desc="scoring", unit="image", disable=len(queries) < 8) as bar:
        for start in range(0, len(queries), SCORE_BATCH):
            part = list(queries[start : start + SCORE_BATCH])
            try:
                scores += detector.score(part, bank)
            except ImageError:
                problems |= {query: why for query in part if (why := why_unreadable(query))}
                part = [query for query in part if query not in problems]
                scores += detector.score(part, bank) if part else []
            readable += part
            bar.update(min(SCORE_BATCH, len(queries) - start))
    if not readable:
        raise ImageError(next(iter(problems.values())))
    for problem in problems.values():
        sys.stderr.write(f"left out: {problem}\n")
    return readable, scores


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
        inside = images_in(path)
        if not inside:
            raise ImageError(f"'{path.name}' holds no images; name a folder that does.")
        found += inside
    return found
