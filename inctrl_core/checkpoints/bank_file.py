"""Banks in files: the normals of today for the queries of tomorrow.

A file holds the features of the normals, of the prompts and of the defects that were shown, with
the names of the normals and the levels they were read by; and the images themselves where whoever
saves it says so, for programs that have to show them. It holds nothing that runs: it is in
safetensors, its header in JSON. The residuals among the normals follow from the features and are
computed anew.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, float32, frombuffer, uint8

from ..config import MAX_DEFECTS, MAX_SHOTS
from ..errors import ModelError, PromptError, cut
from ..images.ignored import check_part, part_from_text, part_to_text
from ..images.levels import Levels
from ..model.backbone import ImageFeatures
from ..model.bank import PromptBank, build_prompt_bank, build_text_features, numbered_names
from ..model.detector import Detector
from ..model.evidence import DECIDE, check_looks_for
from ..model.prompts import PromptSet, build_prompts, clean_object_name
from ..output import write_whole
from .tensor_files import TensorFile

FORMAT = "inctrl normals 1"
MAX_NAME = 255
# Prompts of an object's name and as many phrases of somebody's own in each group.
_MAX_PROMPTS = 512
_ROUNDING = 1e-3  # Of the squared length of a row.
_EMBEDDINGS, _PATCHES, _IMAGES, _DEFECTS = "embeddings", "patches.", "image.", "defect."
_NORMAL_TEXT, _ANOMALY_TEXT = "text.normal", "text.anomaly"
# What comes of reading a header or tensors that no bank has: of numbers beyond any float as well.
_UNFIT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    SafetensorError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class SavedBank:
    """A bank from a file.

    Attributes:
        bank: The bank, on the detector's device.
        names: Names of the K normals, as they were saved.
        threshold: The score above which an image was to count as anomalous; None where nobody had
            chosen one.
    """

    bank: PromptBank
    names: tuple[str, ...]
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class SavedNormals:
    """Normals from a file as their owner had them, for a bank of any model.

    Attributes:
        images: The K image files, whole.
        names: Their names.
        object_name: What they show.
        phrases: Normal and anomaly phrases of the owner's own.
        looks_for: See :meth:`.Detector.build_bank`.
        threshold: As in :class:`SavedBank`.
        ignored: The part of the picture that does not count, as :func:`.part_to_text` writes it;
            empty where all of it does.
        weights: Digest of the model that the defects are for.
        defects: For each defect D tensors [R, C_d] of that model's patches.
    """

    images: tuple[bytes, ...]
    names: tuple[str, ...]
    object_name: str
    phrases: tuple[tuple[str, ...], tuple[str, ...]]
    looks_for: str
    threshold: float | None
    ignored: str = ""
    weights: str = ""
    defects: tuple[tuple[Tensor, ...], ...] = ()


def save_bank(
    path: str | Path,
    bank: PromptBank,
    detector: Detector,
    names: Sequence[str] = (),
    threshold: float | None = None,
    images: Sequence[bytes] = (),
) -> None:
    """Writes a bank; the file appears whole or not at all.

    Args:
        path: Path of the file, by custom with the suffix ``.safetensors``.
        bank: The bank.
        detector: The model that built it.
        names: Names of the K normals; "normal 1" and so on where there are none.
        threshold: A score that was chosen as the threshold, in [0, 1].
        images: The image file of each normal, to be kept as well; none by default.

    Raises:
        InctrlError: The file cannot be written.
        PromptError: There is not one name, or not one image, for each normal.
    """
    if images and len(images) != bank.shots:
        raise PromptError(f"There are {len(images)} files for {bank.shots} normal images.")
    names = tuple(names) or numbered_names(bank.shots)
    if len(names) != bank.shots:
        raise PromptError(f"There are {len(names)} names for {bank.shots} normal images.")
    tensors = {_EMBEDDINGS: bank.features.embeddings}
    tensors |= {f"{_PATCHES}{i}": layer for i, layer in enumerate(bank.features.patches)}
    tensors |= {_NORMAL_TEXT: bank.text.normal, _ANOMALY_TEXT: bank.text.anomaly}
    known = () if bank.defects is None else bank.defects.images
    tensors |= {f"{_DEFECTS}{i}.{j}": d for i, own in enumerate(known) for j, d in enumerate(own)}
    tensors |= {
        f"{_IMAGES}{i}": frombuffer(bytearray(file), dtype=uint8) for i, file in enumerate(images)
    }
    # Clones: safetensors refuses tensors that share memory, as those of one batch may.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    told = {
        "model": detector.name,
        "weights": detector.digest,
        "object_name": bank.object_name,
        "prompts": {"normal": bank.text.prompts.normal, "anomaly": bank.text.prompts.anomaly},
        "names": [name[:MAX_NAME] for name in names],
        "crop_boxes": bank.crop_boxes,
        "levels": None if bank.levels is None else dataclasses.asdict(bank.levels),
        "threshold": threshold,
        "looks_for": bank.looks_for,
        "ignored": None if bank.ignored is None else part_to_text(bank.ignored),
    }
    header = {"format": FORMAT, "bank": json.dumps(told)}
    write_whole(Path(path), lambda partial: save_file(tensors, partial, metadata=header))


def load_bank(path: str | Path, detector: Detector) -> SavedBank:
    """Reads a bank that :func:`save_bank` wrote; its scores are those of the bank that was saved.

    Args:
        path: Path of the file.
        detector: The model that built the bank: another refuses it.

    Raises:
        ModelError: The file cannot be read, holds no bank, is damaged, or is of another model.
    """
    path = Path(path)
    tensors = TensorFile(path)
    told = _read_header(tensors)
    if told.get("weights") != detector.digest:
        raise ModelError(
            f"{path.name} holds normals of the model '{cut(str(told.get('model')))}', and this is "
            f"'{detector.name}' with other weights; choose that model, or add the images "
            "themselves."
        )
    try:
        names, prompts, threshold, name, looks_for = _told(told)
        boxes = [tuple(float(edge) for edge in box) for box in told["crop_boxes"]]
        levels = None if told["levels"] is None else _levels(told["levels"])
        marked = _ignored(told)
        ignored = part_from_text(marked) if marked else None
        found = _checked(tensors, detector, len(names), (len(prompts.normal), len(prompts.anomaly)))
        known = _read_defects(tensors)
        if len(boxes) != len(names):
            raise ValueError("not one box for each normal")
        if not all(
            -inf < left < right < inf and -inf < top < bottom < inf
            for left, top, right, bottom in boxes
        ):
            raise ValueError("no boxes")
    except _UNFIT:
        raise _damaged(path) from None
    device = detector.backbone.device
    found = {key: value.to(device) for key, value in found.items()}
    layers = tuple(found[f"{_PATCHES}{i}"] for i in range(len(found) - 3))
    text = build_text_features(prompts, found[_NORMAL_TEXT], found[_ANOMALY_TEXT])
    features = ImageFeatures(found[_EMBEDDINGS], layers)
    bank = build_prompt_bank(name, features, text, boxes, levels, ignored)
    bank = bank.with_looks_for(looks_for)
    bank = bank.with_defects([[layer.to(device) for layer in own] for own in known])
    return SavedBank(bank, names, threshold)


def read_normals(path: str | Path) -> SavedNormals:
    """Reads the images that :func:`save_bank` kept, with all that was chosen for them.

    Args:
        path: Path of the file.

    Raises:
        ModelError: The file cannot be read, holds no normals or not their images, or is damaged.
    """
    path = Path(path)
    tensors = TensorFile(path)
    told = _read_header(tensors)
    kept = sorted(key for key in tensors if key.startswith(_IMAGES))
    if not kept:
        raise ModelError(
            f"{path.name} holds the features of normals and not their images; use it with the "
            "command score, or add the images themselves."
        )
    try:
        names, prompts, threshold, name, looks_for = _told(told)
        if kept != sorted(f"{_IMAGES}{i}" for i in range(len(names))):
            raise ValueError("not one image for each normal")
        files = [tensors[f"{_IMAGES}{i}"] for i in range(len(names))]
        if any(file.dtype != uint8 or file.dim() != 1 for file in files):
            raise ValueError("no files")
        defects, ignored = _read_defects(tensors), _ignored(told)
        given = build_prompts(name)
        own = tuple(
            tuple(phrase for phrase in all_ if phrase not in usual)
            for all_, usual in zip(
                (prompts.normal, prompts.anomaly), (given.normal, given.anomaly), strict=True
            )
        )
    except _UNFIT:
        raise _damaged(path) from None
    images = tuple(file.numpy().tobytes() for file in files)
    weights = str(told.get("weights"))
    more = ignored, weights, defects
    return SavedNormals(images, names, name, own, looks_for, threshold, *more)


def _told(
    told: dict[str, Any],
) -> tuple[tuple[str, ...], PromptSet, float | None, str, str]:
    """Names, prompts, threshold, object name, and what is looked for.

    Raises:
        KeyError: Or whatever else comes of what a header should not hold.
    """
    names = _texts(told["names"], MAX_SHOTS, MAX_NAME)
    prompts = PromptSet(
        *(_texts(told["prompts"][group], _MAX_PROMPTS) for group in ("normal", "anomaly"))
    )
    threshold = None if told["threshold"] is None else float(told["threshold"])
    if not 0.0 <= (threshold or 0.0) <= 1.0:
        raise ValueError("no score")
    name = clean_object_name(told["object_name"])
    return names, prompts, threshold, name, check_looks_for(told.get("looks_for", DECIDE))


def _ignored(told: dict[str, Any]) -> str:
    """The part to ignore as text; empty where there is none.

    Raises:
        PromptError: It cannot be one.
    """
    text = told.get("ignored") or ""
    if text:
        check_part(part_from_text(text))
    return text


def _read_header(file: TensorFile) -> dict[str, Any]:
    header = file.metadata()
    try:
        told = json.loads(header["bank"]) if header.get("format") == FORMAT else None
    except (KeyError, ValueError, RecursionError):
        raise _damaged(file.path) from None
    if not isinstance(told, dict):
        raise ModelError(f"{file.path} holds no normals; choose a file that this program saved.")
    return told


def _checked(
    tensors: TensorFile, detector: Detector, shots: int, phrases: tuple[int, int]
) -> dict[str, Tensor]:
    """All tensors of the file, if they are those that the model makes of so many normals.

    Raises:
        ValueError: A tensor is missing, of another shape or kind, or has rows of another length.
    """
    config = detector.config.backbone
    width, patches = config.embed_dim, config.grid**2
    # Images and defects may lie beside them, which are not read here.
    beside = _IMAGES, _DEFECTS
    shapes = {k: shape for k, shape in tensors.shapes().items() if not k.startswith(beside)}
    expected = {
        _EMBEDDINGS: (shots, width),
        _NORMAL_TEXT: (phrases[0], width),
        _ANOMALY_TEXT: (phrases[1], width),
    }
    for index in range(len(config.depths)):
        own = shapes.get(key := f"{_PATCHES}{index}", ())
        expected[key] = (shots, patches, *own[2:3])
    if shapes != expected or 0 in phrases or not shots:
        raise ValueError("other tensors than the model's")
    return {key: _rows(tensors[key], key != _EMBEDDINGS) for key in expected}


def _read_defects(tensors: TensorFile) -> tuple[tuple[Tensor, ...], ...]:
    """The patches of defects in a file, as :attr:`SavedNormals.defects`.

    Raises:
        ValueError: They are not those of a model whose patches the normals have, or too many.
    """
    shapes = tensors.shapes()
    layers = sorted(key for key in shapes if key.startswith(_PATCHES))
    kept = sorted(key for key in shapes if key.startswith(_DEFECTS))
    names = [
        [f"{_DEFECTS}{i}.{j}" for j in range(len(layers))]
        for i in range(len(kept) // max(len(layers), 1))
    ]
    if len(names) > MAX_DEFECTS or sorted(name for own in names for name in own) != kept:
        raise ValueError("other defects than the layers have")
    found = []
    for own in names:
        rows = shapes[own[0]][0]
        for name, layer in zip(own, layers, strict=True):
            _, patches, width = shapes[layer]
            if shapes[name] != (rows, width) or not 1 <= rows <= patches:
                raise ValueError("no patches of the model")
        found.append(tuple(_rows(tensors[name], True) for name in own))
    return tuple(found)


def _rows(value: Tensor, unit: bool) -> Tensor:
    """The tensor itself, if it has rows of 32 bits with a length, of 1 where ``unit`` says so."""
    if value.dtype != float32:
        raise ValueError("not of 32 bits")
    squared = value.square().sum(dim=-1)
    usable = (squared - 1.0).abs() < _ROUNDING if unit else (squared > 0) & squared.isfinite()
    if not bool(usable.all()):
        raise ValueError("rows of another length")
    return value


def _texts(values: Any, most: int, longest: int = 10_000) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > most:
        raise ValueError("no list of texts, or too long")
    if not all(isinstance(value, str) and len(value) <= longest for value in values):
        raise ValueError("no texts, or too long")
    return tuple(values)


def _levels(values: Any) -> Levels:
    levels = Levels(**values)
    numbers = levels.white, levels.peak, levels.mean
    if not (all(map(isfinite, numbers)) and levels.white > 0 and isinstance(levels.declared, bool)):
        raise ValueError("no levels")
    return levels


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path.name} is damaged; save the normals again.")
