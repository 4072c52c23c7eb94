"""Makes the graphs by which ONNX Runtime passes crops through the image tower, one for each size.

    python -m inctrl_core.recipes.inctrl_lite.tower_graphs assets/inctrl-lite

A graph holds no weights, only their places in the block of :mod:`inctrl_core.model.engine`, and the
block's digest. It changes with the image tower and the sizes, not with the text or what is trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from timm.layers import Conv2dSame
from timm.models import EfficientNet
from torch import Tensor, nn

from ...checkpoints.weights import load_model
from ...config import ModelConfig
from ...errors import InctrlError, ModelError
from ...model.backbone import Backbone
from ...model.engine import (
    BLOCK,
    CROP,
    EMBEDDING,
    TowerEngine,
    describe_graph,
    graph_file,
    weight_block,
    weight_places,
)
from ...output import write_whole

OPSET, IR_VERSION = 17, 8  # Of 2022; any ONNX Runtime of the last years reads them.
TRUNK = "trunk."  # Before the names of its weights in the tower.
# The convolutions of a timm block in their order, each with the batch norm that follows it.
UNITS = {
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}
LIMITS = {"lowest": 0.0, "highest": 6.0}  # Of ReLU6.
TOLERANCE = 1e-5  # Of the largest value of a result; rounding of float32 stays below.


class GraphBuilder:
    """Writes down a pass through a trunk, module by module, for crops of one size.

    Batch norms stay as they are: ONNX Runtime folds them when a session starts.

    Args:
        trunk: Its parts are those of EfficientNet-Lite; others give a graph that computes something
            else, or none.
        places: Start and length of each weight of the tower in its block.
        size: Side of the crop, pixels.
    """

    def __init__(
        self, trunk: EfficientNet, places: Mapping[str, tuple[int, int]], size: int
    ) -> None:
        self._trunk, self._places, self._size = trunk, places, size
        self._shapes = {key: value.shape for key, value in trunk.state_dict().items()}
        self._nodes: list[onnx.NodeProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._tensors = [
            helper.make_tensor(name, TensorProto.FLOAT, [], [value])
            for name, value in LIMITS.items()
        ]

    def build(self, depths: Sequence[int], embedding: bool) -> onnx.GraphProto:
        """The graph of the stages at ``depths``, and perhaps of the embedding after them."""
        info = {self._trunk.stage_ends[depth]: self._trunk.feature_info[depth] for depth in depths}
        name, side = self._unit(CROP, self._size, "conv_stem", "bn1")
        for number, stage in enumerate(self._trunk.blocks, 1):
            if number > max(info) and not embedding:
                break
            for place, block in enumerate(stage):
                name, side = self._block(name, side, block, f"blocks.{number - 1}.{place}.")
            if number in info:
                self._outputs.append(_describe(name, [1, info[number]["num_chs"], side, side]))
        if embedding:
            name, _ = self._unit(name, side, "conv_head", "bn2")
            pooled = self._add("GlobalAveragePool", [name])
            self._nodes.append(helper.make_node("Flatten", [pooled], [EMBEDDING]))
            self._outputs.append(_describe(EMBEDDING, [1, self._trunk.num_features]))
        crop = _describe(CROP, [1, 3, self._size, self._size])
        return helper.make_graph(self._nodes, "tower", [crop], self._outputs, self._tensors)

    def _block(self, source: str, side: int, block: nn.Module, path: str) -> tuple[str, int]:
        kind = type(block).__name__
        if kind not in UNITS:
            raise ModelError(f"There is no graph for {kind} yet; add it to UNITS.")
        name = source
        for convolution, norm in UNITS[kind]:
            name, side = self._unit(name, side, path + convolution, path + norm)
        return (self._add("Add", [name, source]) if block.has_skip else name), side

    def _unit(self, source: str, side: int, convolution: str, norm: str) -> tuple[str, int]:
        """Adds a convolution, its batch norm and its activation: name and side of the result."""
        layer, after = self._trunk.get_submodule(convolution), self._trunk.get_submodule(norm)
        (stride,), (kernel,) = set(layer.stride), set(layer.kernel_size)
        # The odd pixel lies on the lower right, as TensorFlow has it.
        same = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        before = same // 2 if isinstance(layer, Conv2dSame) else layer.padding[0]
        behind = same - same // 2 if isinstance(layer, Conv2dSame) else layer.padding[0]
        name = self._add(
            "Conv",
            [source, self._weight(f"{convolution}.weight")],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[before] * 2 + [behind] * 2,
            group=layer.groups,
        )
        keys = (f"{norm}.{key}" for key in ("weight", "bias", "running_mean", "running_var"))
        values = list(map(self._weight, keys))
        name = self._add("BatchNormalization", [name, *values], epsilon=after.eps)
        if isinstance(after.act, nn.ReLU6):
            name = self._add("Clip", [name, *LIMITS])
        return name, (side + before + behind - kernel) // stride + 1

    def _add(self, kind: str, inputs: Sequence[str], **attributes: object) -> str:
        name = str(len(self._nodes))
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _weight(self, name: str) -> str:
        start, length = self._places[TRUNK + name]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT)
        tensor.dims.extend(self._shapes[name])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", BLOCK), ("offset", start), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._tensors.append(tensor)
        return name


def _describe(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def make_graphs(tower: nn.Module, config: ModelConfig) -> dict[int, bytes]:
    """The graphs of an image tower, by the sizes at which the model reads a crop.

    Raises:
        ModelError: The tower is none of timm's EfficientNets, or has a part that is not known here.
    """
    trunk = getattr(tower, "trunk", None)
    if not isinstance(trunk, EfficientNet):
        raise ModelError("There are graphs for timm's EfficientNet alone; torch passes the others.")
    depths, graphs = config.backbone.depths, {}
    places, about = weight_places(tower), describe_graph(weight_block(tower), depths)
    for number, size in enumerate(config.image_sizes):
        graph = GraphBuilder(trunk, places, size).build(depths, embedding=number == 0)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        helper.set_model_props(model, about)
        graphs[size] = model.SerializeToString(deterministic=True)
    return graphs


def write_graphs(directory: Path) -> float:
    """Writes the graphs of a model into its directory, and compares them with torch.

    Returns:
        The largest difference between results for a crop of noise, as a share of the largest value.

    Raises:
        ModelError: There can be no graph, or it computes something else.
    """
    model = load_model(directory)
    tower, paths = model.clip.visual, {}
    for size, graph in make_graphs(tower, model.config).items():
        paths[size] = directory / graph_file(size)
        write_whole(paths[size], lambda partial, graph=graph: partial.write_bytes(graph))
    backbone = Backbone(model.clip, model.config.backbone)
    crop = torch.randn(1, 3, *[model.config.preprocess.image_size] * 2).clamp(-1, 1)
    views = backbone.views(crop)
    engine = TowerEngine(paths, tower, backbone.config.depths)
    found = map(_results, map(engine.forward, views))
    pairs = zip(found, map(_results, backbone.forward_views(views)), strict=True)
    difference = max(_difference(*both) for pair in pairs for both in zip(*pair, strict=True))
    if difference > TOLERANCE:
        raise ModelError(f"The graphs compute something else, by {difference:.1e}; delete them.")
    return difference


def _results(output: Mapping[str, Any]) -> list[Tensor]:
    embedding = [output[EMBEDDING]] if EMBEDDING in output else []
    return [*embedding, *output["image_intermediates"]]


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m inctrl_core.recipes.inctrl_lite.tower_graphs",
        description=__doc__.split("\n")[0],
    )
    parser.add_argument("directory", type=Path, help="the model's")
    try:
        difference = write_graphs(parser.parse_args(arguments).directory)
    except InctrlError as error:
        parser.error(str(error))
    sys.stdout.write(f"equal to torch within {difference:.1e} of the largest value\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
