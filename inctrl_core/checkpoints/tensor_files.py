"""Safetensors files, read tensor by tensor; whatever else a file is, it is refused.

And how files of tensors are written: whole or not at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError
from .hub import PICKLE_SUFFIXES

MOST_BYTES = 32 * 2**30  # Of a file of weights.
# How a zip archive (torch.save) and a bare pickle of protocol 2 or later begin.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read from disk when it is asked for.

    A model is filled from it tensor by tensor, so that its weights are never in memory twice.

    Args:
        path: The file; its header is read and checked at once.

    Raises:
        ModelError: The file is missing, unreadable, truncated, a pickle, or not safetensors; or it
            is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_regular(path)
        try:
            with safe_open(path, framework="pt") as file:
                self._keys = tuple(file.keys())
        except FileNotFoundError:  # What safetensors says of every file that it cannot open.
            if os.path.exists(path):
                raise ModelError(f"{path} cannot be read; check its permissions.") from None
            raise _missing_error(path) from None
        except (SafetensorError, OSError):
            raise _damaged_error(path) from None

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of that name; the file stays open only as long as the tensor lives."""
        if key not in self._keys:
            raise KeyError(key)
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(key)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, from the file's header alone."""
        with safe_open(self.path, framework="pt") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in self._keys}

    def metadata(self) -> dict[str, str]:
        """The texts in the file's header."""
        with safe_open(self.path, framework="pt") as file:
            return file.metadata() or {}

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of the file."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._keys)


class PrefixedTensors(Mapping[str, Tensor]):
    """The part of ``tensors`` whose names begin with ``prefix``, under the rest of the name."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors, self._prefix = tensors, prefix
        self._keys = tuple(k[len(prefix) :] for k in tensors if k.startswith(prefix))

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of that name."""
        return self._tensors[self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        """The names without the prefix."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Number of tensors."""
        return len(self._keys)


def check_regular(path: Path) -> None:
    """Refuses pipes and devices, of which reading may never end, and what no weights fill.

    Raises:
        ModelError: The file is one of these; a missing one is not.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise ModelError(f"{path} is a pipe or a device; name a file.")
    if status.st_size > MOST_BYTES:
        raise ModelError(
            f"{path} has {status.st_size >> 30} GB, more than {MOST_BYTES >> 30}; it is no model "
            "of this program."
        )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file as a whole.

    Raises:
        ModelError: As :class:`TensorFile`.
    """
    return dict(TensorFile(path))


def _missing_error(path: Path) -> ModelError:
    pickles = sorted(p.name for p in path.parent.glob("*") if p.suffix in PICKLE_SUFFIXES)
    if pickles:
        return ModelError(
            f"{path} is missing, and {pickles[0]} beside it is a pickle, which could run code and "
            "is refused; use weights in safetensors format."
        )
    return ModelError(f"{path} is missing; fetch or convert the model again.")


def _damaged_error(path: Path) -> ModelError:
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(4).startswith(_PICKLE_STARTS):
                return ModelError(
                    f"{path} is a pickle, which could run code, and is refused; "
                    "use weights in safetensors format."
                )
    return ModelError(
        f"{path} is damaged or is not a safetensors file; fetch or convert the model again."
    )
