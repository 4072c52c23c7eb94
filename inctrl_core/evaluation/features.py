"""Image features on disk: every image is encoded once per model, however often it is used.

One safetensors file per image, float32, so that scores from the cache are those of the detector
itself. Files appear whole or not at all, and carry a checksum: a damaged one is computed again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..checkpoints.weights import ADAPTER_PREFIX, add_prefix
from ..errors import ImageError, InctrlError
from ..images.files import why_unreadable
from ..images.preprocessing import CropBox
from ..model.backbone import IMAGE_BATCH, ImageFeatures
from ..model.detector import Detector, EncodedImages
from ..output import write_whole

# Part of every key: raise it when the meaning of the files changes.
CACHE_VERSION = 4


class UnreadableImages(ImageError):
    """Images of a dataset that cannot be used.

    Attributes:
        paths: Which.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        named = ", ".join(str(path) for path in self.paths[:5])
        rest = f" and {len(self.paths) - 5} more" if len(self.paths) > 5 else ""
        count = "1 image" if len(self.paths) == 1 else f"{len(self.paths)} images"
        super().__init__(
            f"{count} cannot be read: {named}{rest}; repair or remove them, or leave them out with "
            "--skip-unreadable."
        )


def default_cache() -> Path:
    """``inctrl/features`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "inctrl" / "features"


def image_tower_digest(detector: Detector) -> str:
    """Names all that an image's features depend on, besides the image.

    Weights of the image tower and of the patch adapter, architecture, depths, grid, preprocessing,
    precision, kind of device and engine. Heads and text tower do not matter, so models that share
    the rest share features.
    """
    backbone, config = detector.backbone, detector.config
    digest = hashlib.blake2b(digest_size=16)
    facts = {
        "version": CACHE_VERSION,
        "vision": config.backbone.architecture["vision_cfg"],
        "embed_dim": config.backbone.embed_dim,
        "quick_gelu": config.backbone.architecture.get("quick_gelu", False),
        "depths": config.backbone.depths,
        "grid": config.backbone.grid,
        "image_sizes": config.backbone.image_sizes,
        "preprocess": dataclasses.asdict(config.preprocess),
        "dtype": str(backbone.dtype),
        "device": backbone.device.type,
    }
    if backbone.engine is not None:  # Its features differ from torch's by rounding.
        facts["engine"] = "onnxruntime"
    digest.update(json.dumps(facts, sort_keys=True).encode())
    tensors = dict(backbone.clip.visual.state_dict())
    if backbone.patch_adapter is not None:
        tensors |= add_prefix(backbone.patch_adapter.state_dict(), ADAPTER_PREFIX)
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


class FeatureStore:
    """Features of image files by one detector, through a cache on disk.

    Args:
        detector: Encodes what is not cached.
        directory: The cache; it is made where it does not exist. None keeps nothing.

    Raises:
        InctrlError: The directory cannot be made.
    """

    def __init__(self, detector: Detector, directory: Path | None) -> None:
        self._detector = detector
        # Alone, an image gets the same bits whatever stands beside it, and on a CPU as fast.
        self._batch = 1 if detector.backbone.device.type == "cpu" else IMAGE_BATCH
        self._folder: Path | None = None
        if directory is not None:
            self._folder = directory / image_tower_digest(detector)
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _cache_error(directory, error) from error

    def load(self, paths: Sequence[Path]) -> EncodedImages:
        """Features of some images, on the detector's device, in order.

        Raises:
            UnreadableImages: Names all that cannot be used; the others are cached nevertheless.
            InctrlError: The cache cannot be written.
        """
        places = [self._place(path) for path in paths]
        entries = [_read(place) for place in places]
        missing = [i for i, entry in enumerate(entries) if entry is None]
        unreadable: list[Path] = []
        for start in range(0, len(missing), self._batch):
            part = missing[start : start + self._batch]
            usable, encoded = self._encode([paths[i] for i in part])
            unreadable += [paths[i] for i in part if paths[i] not in usable]
            for position, i in enumerate(i for i in part if paths[i] in usable):
                entries[i] = _to_tensors(encoded, position)
                self._write(places[i], entries[i])
        if unreadable:
            raise UnreadableImages(unreadable)
        device = self._detector.backbone.device
        return _to_encoded([entry for entry in entries if entry is not None], device)

    def unreadable(self, paths: Sequence[Path]) -> list[Path]:
        """Those of ``paths`` that are neither cached nor can be opened."""
        return [p for p in paths if _read(self._place(p)) is None and why_unreadable(p)]

    def _encode(self, paths: Sequence[Path]) -> tuple[Sequence[Path], EncodedImages | None]:
        """Those that can be used, and their features (None where none can)."""
        try:
            return paths, self._detector.encode(paths)
        except ImageError:
            usable = [path for path in paths if not why_unreadable(path)]
        return usable, (self._detector.encode(usable) if usable else None)

    def _place(self, path: Path) -> Path | None:
        """Where the features of an image lie in the cache; None where they are not kept."""
        if self._folder is None:
            return None
        try:
            # By content: a renamed or copied file is found again, a changed one is not.
            key = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError:
            return None  # Opening it as an image gives the message.
        return self._folder / key[:2] / f"{key}.safetensors"

    def _write(self, place: Path | None, tensors: Mapping[str, Tensor]) -> None:
        if place is not None:
            entry = save(dict(tensors), {"checksum": _checksum(tensors)})
            write_whole(place, lambda partial: partial.write_bytes(entry))


def _read(place: Path | None) -> dict[str, Tensor] | None:
    """An entry of the cache, or None where there is none or it is damaged."""
    if place is None or not place.is_file():
        return None
    try:
        with safe_open(place, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            checksum = (file.metadata() or {}).get("checksum")
    except (SafetensorError, OSError):
        return None
    return tensors if checksum == _checksum(tensors) else None


def _cache_error(directory: Path, error: OSError) -> InctrlError:
    return InctrlError(
        f"The feature cache {directory} cannot be written ({error.strerror}); "
        "name another with --cache."
    )


def _to_tensors(encoded: EncodedImages, index: int) -> dict[str, Tensor]:
    patches = encoded.features.patches
    return {
        "crop_box": torch.tensor(encoded.crop_boxes[index], dtype=torch.float64),
        "embedding": encoded.features.embeddings[index].cpu().contiguous(),
    } | {f"patches.{d}": depth[index].cpu().contiguous() for d, depth in enumerate(patches)}


def _to_encoded(entries: Sequence[Mapping[str, Tensor]], device: torch.device) -> EncodedImages:
    depths = sum(name.startswith("patches.") for name in entries[0])
    features = ImageFeatures(
        torch.stack([entry["embedding"] for entry in entries]),
        tuple(torch.stack([entry[f"patches.{d}"] for entry in entries]) for d in range(depths)),
    )
    boxes: list[CropBox] = [tuple(entry["crop_box"].tolist()) for entry in entries]
    return EncodedImages(features.to(device), tuple(boxes))


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(_bytes(tensors[name]), zlib.crc32(name.encode(), value))
    return f"{value:08x}"


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().flatten()
    return memoryview(flat.view(torch.uint8).numpy())
