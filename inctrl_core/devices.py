"""Where and how exactly to compute: devices, precisions, and memory that runs out."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import InctrlError

PRECISION_VARIABLE = "INCTRL_PRECISION"
PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

NO_MEMORY = "The device has too little memory for this; use fewer normal images, or the device cpu."

Result = TypeVar("Result")
Task = TypeVar("Task", bound=Callable)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Resolves "auto" to the best device at hand: CUDA, then MPS, then the CPU.

    Raises:
        InctrlError: The device is unknown, or not at hand.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    unknown = InctrlError(f"There is no device '{device}'; use auto, cpu, cuda, cuda:N or mps.")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise unknown from None
    if picked.type not in ("cpu", "cuda", "mps"):
        raise unknown
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise InctrlError(f"This computer has no device '{device}' that torch sees; use cpu.")
    if picked.type == "mps" and not torch.backends.mps.is_available():
        raise InctrlError("This computer has no device 'mps' that torch sees; use cpu.")
    return picked


def pick_precision(precision: str | None, device: torch.device) -> torch.dtype:
    """Resolves the name of a precision of the backbone's forward pass.

    "auto" is bfloat16 on a CPU that multiplies it in hardware (AVX-512 BF16 or AMX), and float32
    everywhere else. On CUDA that is the cautious choice: a narrower type there has not been shown
    to keep the scores within .005.

    Args:
        precision: "float32", "bfloat16", "float16" or "auto"; None for the environment variable
            ``INCTRL_PRECISION``, and for float32 where it is not set.
        device: Where the pass will run.

    Raises:
        InctrlError: The name is unknown, or the device cannot compute so.
    """
    name = precision or os.environ.get(PRECISION_VARIABLE) or "float32"
    if name == "auto":
        fast = device.type == "cpu" and cpu_multiplies_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise InctrlError(f"There is no precision '{name}'; use auto, {', '.join(PRECISIONS)}.")
    if name == "float16" and device.type == "cpu":
        raise InctrlError("float16 is for GPUs; on the CPU use float32 or bfloat16.")
    return PRECISIONS[name]


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 products; without them it is slower."""
    has = torch.cpu.get_capabilities()
    return any(bool(has.get(name)) for name in ("amx_bf16", "avx512_bf16"))


def keep_float32_exact(device: torch.device) -> None:
    """Switches off TF32 on CUDA, whose 10 bits of mantissa are not what float32 promises."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def start_one_core_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Threads on each of which torch computes on one core, so that no helpers of it wait about.

    Args:
        count: Number of threads.
        name: What their names begin with.

    Returns:
        An executor, whose threads end with it.
    """
    threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(count, name, _take_one_core)
    # All of them now: torch keeps the number for each thread, but the last one given is also what
    # threads to come begin with.
    together = threading.Barrier(count)
    for started in [executor.submit(together.wait) for _ in range(count)]:
        started.result()
    torch.set_num_threads(threads)
    return executor


def _take_one_core() -> None:
    # A thread's first question after the number sets it to the common one, whatever it was before.
    torch.get_num_threads()
    torch.set_num_threads(1)


def run_in_batches(
    function: Callable[[Tensor], Result], inputs: Tensor, batch_size: int
) -> list[Result]:
    """Applies ``function`` to parts of ``inputs``, to smaller ones where memory runs out.

    Args:
        function: Takes [b, ...], b <= ``batch_size``; its result must not depend on how the inputs
            are split.
        inputs: [B, ...].
        batch_size: Size of the parts to begin with.

    Returns:
        The results, in the order of the inputs.

    Raises:
        InctrlError: Even a single input does not fit.
    """
    results: list[Result] = []
    start = 0
    while start < len(inputs):
        try:
            results.append(function(inputs[start : start + batch_size]))
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise InctrlError(
                    "The device has too little memory for one image; close what else runs on it, "
                    "or use the device cpu."
                ) from None
            batch_size = max(1, min(batch_size, len(inputs) - start) // 2)
            continue
        start += batch_size
    return results


def explain_memory(task: Task) -> Task:
    """Decorator of a method that says in a sentence where the device's memory is not enough.

    For what comes after the backbone, which does not shrink with the batch.
    """

    @functools.wraps(task)
    def explained(*args: Any, **kwargs: Any) -> Any:
        try:
            return task(*args, **kwargs)
        except torch.OutOfMemoryError:
            raise InctrlError(NO_MEMORY) from None

    return explained
