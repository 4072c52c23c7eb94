"""What stands between the network and the page: limits, and a sentence for requests that are none.

Gradio checks that a file was uploaded, and of which type each value is; what it refuses it answers
with an empty error, or with a server error where it stumbles. Here all of that becomes one
sentence and no server error, and what it lets through that would harm is refused.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_upload_folder
from httpx import InvalidURL
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import MAX_SHOTS
from ..errors import InctrlError
from ..image_files import MAX_BYTES
from .addresses import fetch_image, is_address
from .downloads import NOT_KEPT

logger = logging.getLogger(__name__)

# A full form of the largest images at once; several requests may follow each other.
MAX_UPLOAD_BYTES = (MAX_SHOTS + 1) * MAX_BYTES + 2**20
# Values without files: names, phrases, settings.
MAX_REQUEST_BYTES = 16 * 2**20

# Every call of a program without a session opens one, of 240 kB; a visitor's with 16 normals takes
# 26 MB with the small model and 50 MB with the ViT. All full, these are 6 or 13 GB.
MAX_SESSIONS = 256

_MISFIT = "The request does not fit this step of the page; /?view=api says what it takes."
# On the page itself: a number taken out of its field, for one.
_EMPTY = "A field is empty or holds what it does not take; fill it in and try again."
_NOT_UPLOADED = "A file in the request was not uploaded here, or is gone; upload it again."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
# What Python raises where a value is of another kind than Gradio expects.
_STUMBLES = (AttributeError, IndexError, KeyError, OSError, RecursionError, TypeError, ValueError)

Preprocess = Callable[..., Awaitable[list[Any]]]


def guard(page: gr.Blocks, addresses: bool = False) -> dict[str, Any]:
    """Guards a page that is about to be launched.

    Args:
        page: All events must run in the queue; it is changed so that none passes it by, and so
            that values that fit no event are refused with a sentence.
        addresses: Whether a file may be named by its address, as language models do.

    Returns:
        Options for ``launch``: the limits of a request, and answers to those that fit nothing.
    """
    # The routes that run an event at once know neither the queue's length nor its turns.
    page.api_open = False
    page.preprocess_data = _guarded(page.preprocess_data, addresses)
    page.postprocess_data = _saved(page.postprocess_data)
    return {
        "state_session_capacity": MAX_SESSIONS,
        "app_kwargs": {
            "middleware": [Middleware(BodyLimit)],
            "exception_handlers": {
                FnIndexInferError: _answer_missing,
                RequestValidationError: _answer_invalid,
                **dict.fromkeys((*_STUMBLES, InvalidURL), _answer_misfit),
            },
        },
    }


class BodyLimit:
    """Middleware that refuses bodies too large to be meant for the page, however they arrive.

    Args:
        app: What is guarded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and its body piece by piece as long as the limit allows."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = MAX_UPLOAD_BYTES if scope["path"].endswith("/upload") else MAX_REQUEST_BYTES
        refusal = f"The request is larger than {limit >> 20} MB; send less at once."
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await JSONResponse({"detail": refusal}, 413)(scope, receive, send)
            return
        arrived = 0

        async def receive_counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > limit:
                raise HTTPException(413, refusal)
            return message

        await self.app(scope, receive_counted, send)


async def fetch_addresses(values: Any) -> None:
    """Fetches every file that is named by its address, and names the copy in its place.

    Args:
        values: Lists and dicts as JSON has them; changed.

    Raises:
        InctrlError: One of them cannot be had, or there are more than a form takes.
    """
    named = [file for file in _named_files(values) if is_address(file["path"])]
    if len(named) > MAX_SHOTS + 1:
        raise InctrlError(f"There are {len(named)} addresses; use at most {MAX_SHOTS + 1}.")
    for file in named:
        file["path"] = str(await fetch_image(file["path"]))


def check_files(values: Any) -> None:
    """Makes sure that every file that some values name lies in the folder of uploads.

    Gradio takes folders too, and stumbles over them when it clears the uploads away; and it would
    fetch an address from the network, whatever its size.

    Args:
        values: Lists and dicts as JSON has them; a dict with "path" names a file.

    Raises:
        InctrlError: One of them does not; the sentence does not say what lies where it points.
    """
    folder = Path(get_upload_folder()).resolve()
    for file in _named_files(values):
        try:
            place = Path(file["path"]).resolve()
            uploaded = place.is_relative_to(folder) and place.is_file()
        except (OSError, ValueError, TypeError, RuntimeError):
            uploaded = False  # No path at all: too long, with a null character, or not text.
        if not uploaded:
            raise InctrlError(_NOT_UPLOADED)


def _named_files(values: Any) -> Iterator[dict[str, Any]]:
    open_ends = [values]
    while open_ends:
        value = open_ends.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value
            open_ends += value.values()
        elif isinstance(value, list | tuple):
            open_ends += value


def _guarded(preprocess: Preprocess, addresses: bool) -> Preprocess:
    async def preprocess_checked(
        block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        try:
            if addresses:
                await fetch_addresses(inputs)
            check_files(inputs)
            return await preprocess(block_fn, inputs, state, explicit_call)
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except gr.Error:
            raise  # A sentence already; and a ValueError.
        except _STUMBLES as error:
            logger.info("Refused values: %s", str(error)[:200])
            private = block_fn.api_visibility == "private"
            raise gr.Error(_EMPTY if private else _MISFIT, print_exception=False) from error

    return preprocess_checked


def _saved(postprocess: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def postprocess_saved(block_fn: Any, predictions: Any, state: Any) -> Any:
        try:
            return await postprocess(block_fn, predictions, state)
        except (OSError, ValueError) as error:
            # Gradio wraps what its components raise; Pillow does not say why a disk refused.
            if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
                raise
            logger.error("A result could not be kept: %s", error)
            raise gr.Error(NOT_KEPT, print_exception=False) from error

    return postprocess_saved


async def _answer_missing(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "There is no such step; /?view=api lists all."}, 404)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": _MISFIT}, 422)  # FastAPI would send the request back as well.


async def _answer_misfit(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno in _FULL:
        logger.error("An upload could not be kept: %s", error)
        return JSONResponse({"detail": NOT_KEPT}, 507)
    # With its trace: only Gradio's own routes are here, but the defect may be another.
    logger.warning("Refused a request to %s", request.url.path[:200], exc_info=error)
    return JSONResponse({"detail": _MISFIT}, 400)
