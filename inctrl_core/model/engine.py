"""The image tower in ONNX Runtime: on a CPU a pass takes a third of the time that torch takes.

A graph says what is computed for a crop of one size. It holds no weights: those are in the model's
own file, once, and are handed over when a session starts, as one block in which the graph names
places. So a graph would take any block of that length; it carries the digest of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from ..config import read_regular
from ..devices import start_one_core_threads
from ..errors import ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Result = TypeVar("Result")

BLOCK = "weights"  # Name of the block where a graph looks for its weights.
DIGEST_KEY, DEPTHS_KEY = "weights_sha256", "depths"  # In a graph's own metadata.
CROP, EMBEDDING = "crop", "image_features"  # Names of the input, and of one result.
REMEDY = "make it again with python -m inctrl_core.recipes.inctrl_lite.tower_graphs, or delete it"
FATAL = 4  # Level of ONNX Runtime's log.


def graph_file(size: int) -> str:
    """Name of the graph for crops of ``size`` pixels, in a model's directory."""
    return f"tower-{size}.onnx"


def engine_is_installed() -> bool:
    """Whether this computer has ONNX Runtime."""
    try:
        _onnxruntime()
    except ImportError:  # A broken installation is none.
        return False
    return True


def _onnxruntime() -> ModuleType:
    """ONNX Runtime, told first not to report its use to its makers."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def weight_places(tower: nn.Module) -> dict[str, tuple[int, int]]:
    """Start and length, in bytes, of each floating-point tensor in :func:`weight_block`."""
    places: dict[str, tuple[int, int]] = {}
    start = 0
    for name, value in _weights(tower).items():
        places[name] = start, 4 * value.numel()
        start += 4 * value.numel()
    return places


def weight_block(tower: nn.Module) -> bytes:
    """All floating-point tensors of a module in float32, in the order of its state dict."""
    return b"".join(value.float().cpu().numpy().tobytes() for value in _weights(tower).values())


class TowerEngine:
    """Passes of one image tower at certain sizes of crops, on a CPU, in float32.

    Each crop passes alone, so its result does not depend on what else passes. Any number of threads
    may ask at once.

    Args:
        graphs: Files of the graphs, by size of the crop in pixels.
        tower: The module that they were made from, with its weights.
        depths: The depths at which it is read.

    Raises:
        ModelError: A graph cannot be read, or belongs to other weights, depths or another size.
    """

    def __init__(self, graphs: Mapping[int, Path], tower: nn.Module, depths: Sequence[int]) -> None:
        threads = torch.get_num_threads()
        at_once = min(threads, len(graphs))
        block = weight_block(tower)
        self._sessions = {
            size: _start_session(path, size, block, depths, threads // at_once)
            for size, path in graphs.items()
        }
        self._results = {
            size: [result.name for result in session.get_outputs()]
            for size, session in self._sessions.items()
        }
        self._threads = start_one_core_threads(at_once, "pass")

    def takes(self, sizes: Sequence[int]) -> bool:
        """Whether it has a graph for each of these sizes, that of the first with the embedding."""
        return EMBEDDING in self._results.get(sizes[0], ()) and self._sessions.keys() >= set(sizes)

    def map(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
        """As Python's ``map``, in inference mode, on as many threads as there are sizes and cores.

        On each of them torch and the engine compute on a core of their own. Short operations that
        are split over cores end when the slower core is done, hundreds of times for an image; calls
        side by side wait once. Where another process wants a core that is what matters most.
        """
        return self._threads.map(torch.inference_mode()(function), *arguments)

    def forward(self, crop: Tensor) -> dict[str, Any]:
        """The pass of one crop, as :meth:`inctrl_core.model.backbone.Backbone.forward` gives it.

        Args:
            crop: float32 [1, 3, S, S] on the CPU, of a size for which there is a graph.
        """
        size = crop.shape[-1]
        arrays = self._sessions[size].run(None, {CROP: crop.contiguous().numpy()})
        named = dict(zip(self._results[size], map(torch.from_numpy, arrays), strict=True))
        embedding = {EMBEDDING: named.pop(EMBEDDING)} if EMBEDDING in named else {}
        return {**embedding, "image_intermediates": list(named.values())}


def _weights(tower: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in tower.state_dict().items() if value.is_floating_point()}


def describe_graph(block: bytes, depths: Sequence[int]) -> dict[str, str]:
    """The metadata of a graph: the weights that it belongs to, and the depths that it gives."""
    digest = hashlib.sha256(block).hexdigest()
    return {DIGEST_KEY: digest, DEPTHS_KEY: ",".join(map(str, depths))}


def _start_session(
    path: Path, size: int, block: bytes, depths: Sequence[int], threads: int
) -> InferenceSession:
    """A session of one graph with the weights of ``block``.

    Raises:
        ModelError: See :class:`TowerEngine`.
    """
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL  # What it refuses is said in this program's words.
    options.add_external_initializers_from_files_in_memory([BLOCK], [block], [len(block)])
    try:
        graph = read_regular(path)
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen kinds, below no common one.
        raise ModelError(
            f"{path} is damaged, or belongs to another model than the weights beside it; {REMEDY}."
        ) from error
    noted, expected = session.get_modelmeta().custom_metadata_map, describe_graph(block, depths)
    if noted.get(DIGEST_KEY) != expected[DIGEST_KEY]:
        raise ModelError(f"{path} was made for other weights than those beside it; {REMEDY}.")
    inputs = [(node.name, node.shape) for node in session.get_inputs()]
    if noted != expected or inputs != [(CROP, [1, 3, size, size])]:
        raise ModelError(f"{path} was made for crops of another size, or other depths; {REMEDY}.")
    return session
