"""TensorFlow's "same" padding as part of the convolution: nothing is copied to make room for it.

TensorFlow puts an odd number of padding pixels on the lower right side first, which torch's
convolutions cannot; timm therefore copies the image into a larger one. A kernel with a row and a
column of zeros before its own, and padding on all sides, computes the same: a twentieth of the pass
of ``inctrl-lite`` on a CPU went into those copies.
"""

from __future__ import annotations

import copy

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn


def pad_in_convolutions(tower: nn.Module) -> nn.Module:
    """A copy of ``tower`` whose "same" convolutions do their padding themselves.

    Args:
        tower: It is not changed.

    Returns:
        A module that takes and returns the same; ``tower`` itself where it has none of them.
    """
    if not any(map(_is_padded, tower.modules())):
        return tower
    padded = copy.deepcopy(tower)
    for name, module in list(padded.named_modules()):
        if _is_padded(module):
            padded.set_submodule(name, _SameConvolution(module))
    return padded


def _is_padded(module: nn.Module) -> bool:
    # Of a dilated kernel a row of zeros would be worth several pixels.
    return isinstance(module, Conv2dSame) and module.dilation == (1, 1)


class _SameConvolution(nn.Module):
    """Computes the same as a :class:`timm.layers.Conv2dSame` without dilation."""

    def __init__(self, convolution: Conv2dSame) -> None:
        super().__init__()
        self.sides, self.stride = convolution.kernel_size, convolution.stride
        self.groups = convolution.groups
        self.bias = convolution.bias
        widened = F.pad(convolution.weight, (1, 0, 1, 0))
        self.weight = nn.Parameter(widened, requires_grad=convolution.weight.requires_grad)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
        rows, columns = (
            max((-(-length // stride) - 1) * stride + side - length, 0)
            for length, stride, side in zip(x.shape[-2:], self.stride, self.sides, strict=True)
        )
        # An even number of pixels has a half for each side, without the zeros.
        weight = self.weight[..., 1 - rows % 2 :, 1 - columns % 2 :]
        around = (rows + 1) // 2, (columns + 1) // 2
        return F.conv2d(x, weight, self.bias, self.stride, around, groups=self.groups)
