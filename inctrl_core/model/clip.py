"""An open_clip model from the description of its architecture, which may be a stranger's."""

from __future__ import annotations

import math
from typing import Any

import torch
from open_clip.model import CLIP
from torch.overrides import TorchFunctionMode

from ..config import BackboneConfig
from ..errors import ModelError

# What open_clip, timm and torch raise over an architecture that is none.
_CANNOT_BUILD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Of a backbone whose weights are not at hand: more than the largest CLIP model has.
MOST_VALUES = 3 * 10**9
# Masks of attention and other tables that are no weights.
SPARE_VALUES = 2**25


class _TooLarge(ValueError):
    """An architecture asks for more values than it may."""


class _Bounded(TorchFunctionMode):
    """Counts the values that tensors are made for, and raises ``_TooLarge`` before there are more.

    Args:
        most: Values that may be made.
        fill: Whether weights get random numbers, which takes seconds.
    """

    _FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand})
    _FILLS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_})

    def __init__(self, most: int, fill: bool) -> None:
        super().__init__()
        self._left, self._fill = most, fill

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = kwargs or {}
        filling = func in self._FILLS or getattr(func, "__module__", None) == "torch.nn.init"
        if filling and not self._fill:
            return args[0] if args else given["tensor"]
        if func in self._FACTORIES:
            size = given.get("size", args[0] if args and not isinstance(args[0], int) else args)
            self._left -= math.prod(size)
            if self._left < 0:
                raise _TooLarge
        return func(*args, **given)


def build_clip(
    config: BackboneConfig, *, random_weights: bool = True, values: int = MOST_VALUES
) -> CLIP:
    """An open_clip model of the given architecture, in evaluation mode.

    Args:
        config: The architecture.
        random_weights: Whether weights are drawn; else they are undefined, to be filled at once.
        values: Number of values that there are to fill it with.

    Raises:
        ModelError: open_clip does not accept the architecture, or it is far larger than ``values``;
            it is not built then.
    """
    architecture = config.architecture
    try:
        with _Bounded(values + SPARE_VALUES, random_weights):
            clip = CLIP(
                embed_dim=config.embed_dim,
                vision_cfg=dict(architecture["vision_cfg"]),
                text_cfg=dict(architecture["text_cfg"]),
                quick_gelu=bool(architecture.get("quick_gelu", False)),
            )
    except _TooLarge:
        raise ModelError(
            f"The architecture asks for far more than the {values} values that its weights may "
            "have; it is another model."
        ) from None
    except _CANNOT_BUILD as error:
        raise ModelError(f"open_clip cannot build this backbone: {first_line(error)}.") from error
    return clip.eval().requires_grad_(False)


def first_line(error: Exception) -> str:
    """What a library says of an error, in one line that a terminal may show."""
    line = (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    # A key of the file's may be in it, with characters that a terminal would obey.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
