"""The guard between the network and the page: limits, and a sentence for invalid requests.

Gradio checks that a file was uploaded, and of which type each value is; what it refuses it answers
with an empty error, or with a server error where it stumbles. Here all of that becomes one
sentence and no server error, and what it lets through that would harm is refused. Bodies, the
queue and the folder of uploads are guarded in modules of their own; here the values of a request
are, and everything comes together.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import orjson
from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_upload_folder
from httpx import InvalidURL
from starlette.middleware import Middleware

from ...config import MAX_SHOTS
from ...errors import InctrlError
from ...images.limits import check_sent
from ...images.seen import Opener
from ..common.downloads import NOT_KEPT
from ..common.log import one_line
from ..serving.uploads import VARIABLE, renew, sweep
from .addresses import AddressFetcher, is_address
from .admission import Admission, Listening
from .bodies import BodyLimit
from .previews import Previews

logger = logging.getLogger(__name__)

# Every call of a program without a session opens one, of 240 kB; a visitor's with 16 normals takes
# 26 MB with the small model and 50 MB with the ViT. All full, these are 6 or 13 GB.
MAX_SESSIONS = 256
SWEEP_SECONDS = 60

_MISFIT = "The request does not fit this step of the page; /?view=api says what it takes."
# On the page itself: a number taken out of its field, for one.
_EMPTY = "A field is empty or holds what it does not take; fill it in and try again."
_NOT_UPLOADED = "A file in the request was not uploaded here, or is gone; upload it again."
_FAILED = "This did not work, and the server's log says why; try again with something else."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
# What Python raises where a value is of another kind than Gradio expects.
_STUMBLES = (AttributeError, IndexError, KeyError, OSError, RecursionError, TypeError, ValueError)
# What components send, for the steps that take values as they come; files are checked by Gradio.
_KINDS = {
    (gr.Textbox, gr.Dropdown, gr.Radio): str | None,
    (gr.Number, gr.Slider): int | float | None,
    (gr.Checkbox,): bool | None,
}

Preprocess = Callable[..., Awaitable[list[Any]]]


def guard(page: gr.Blocks, images: Opener, addresses: bool = False) -> dict[str, Any]:
    """Guards a page that is about to be launched.

    Args:
        page: All events must run in the queue; it is changed so that none passes it by, and so
            that values that fit no event are refused with a sentence.
        images: Opens the uploads that are shown.
        addresses: Whether a file may be named by its address, as language models do.

    Returns:
        Options for ``launch``: the limits of a request, pictures of uploads, and answers to
        requests that fit nothing.
    """
    # The routes that run an event at once know neither the queue's length nor its turns.
    page.api_open = False
    page.preprocess_data = _guarded(page.preprocess_data)
    page.postprocess_data = _saved(page.postprocess_data)
    page.process_api = _answered(page.process_api)
    fetch = partial(fetch_addresses, AddressFetcher()) if addresses else None
    admission = Admission(page, fetch, has_addresses)
    return {
        "state_session_capacity": MAX_SESSIONS,
        "app_kwargs": {
            "middleware": [
                Middleware(Listening, admission.listeners),
                Middleware(BodyLimit),
                Middleware(Previews, images),
            ],
            "lifespan": _upkeep(admission),
            "exception_handlers": {
                FnIndexInferError: _answer_missing,
                RequestValidationError: _answer_invalid,
                **dict.fromkeys((*_STUMBLES, InvalidURL), _answer_misfit),
            },
        },
    }


def has_addresses(values: Any) -> bool:
    """Whether anything in some values is named by its address."""
    return any(is_address(file["path"]) for file in _named_files(values))


async def fetch_addresses(fetcher: AddressFetcher, values: Any) -> None:
    """Fetches every file that is named by its address, and names the copy in its place.

    Args:
        fetcher: Fetches them.
        values: Lists and dicts as JSON has them; changed.

    Raises:
        InctrlError: One of them cannot be had, or there are more than a form takes.
    """
    named = [file for file in _named_files(values) if is_address(file["path"])]
    if len(named) > MAX_SHOTS + 1:
        raise InctrlError(f"There are {len(named)} addresses; use at most {MAX_SHOTS + 1}.")
    places = await fetcher.fetch([file["path"] for file in named])
    for file in named:
        file["path"] = str(places[file["path"]])


def check_files(values: Any) -> None:
    """Makes sure that every file that some values name lies in the folder of uploads.

    Gradio takes folders too, and stumbles over them when it clears the uploads away; and it would
    fetch an address from the network, whatever its size.

    Args:
        values: Lists and dicts as JSON has them; a dict with "path" names a file.

    Raises:
        InctrlError: One of them does not, and the sentence does not say what lies where it points;
            or it is larger than the page takes.
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
        check_sent(place.stat().st_size, "A file in the request")
        renew(place)


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


def _guarded(preprocess: Preprocess) -> Preprocess:
    async def preprocess_checked(
        block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        try:
            inputs = _with_defaults(block_fn, inputs)
            check_files(inputs)
            if not block_fn.preprocess:
                _check_kinds(block_fn.inputs, inputs)
            return await preprocess(block_fn, inputs, state, explicit_call)
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except _STUMBLES as error:  # Gradio's own error is one; it would repeat the value.
            logger.info("Refused values: %s", one_line(str(error)))
            private = block_fn.api_visibility == "private"
            raise gr.Error(_EMPTY if private else _MISFIT, print_exception=False) from error

    return preprocess_checked


def _upkeep(admission: Admission) -> Callable[[Any], Any]:
    """The server's upkeep, from its start to its end: it clears away."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async def clear() -> None:
            while True:
                await asyncio.sleep(SWEEP_SECONDS)
                admission.forget_unread()
                # Only a folder of our own: the one that all of Gradio shares holds others' files.
                if os.environ.get(VARIABLE):
                    await run_sync(sweep, Path(get_upload_folder()))

        task = asyncio.create_task(clear())
        try:
            yield
        finally:
            task.cancel()

    return lifespan


def _with_defaults(block_fn: Any, inputs: list[Any]) -> list[Any]:
    """The values of a call, with defaults for choices that were added later and are left out.

    So a program that was written before them goes on working.
    """
    missing = block_fn.inputs[len(inputs) :]
    if not all(getattr(component, "may_be_left_out", False) for component in missing):
        return inputs
    return [*inputs, *(component.value for component in missing)]


def _check_kinds(components: Sequence[Any], values: Sequence[Any]) -> None:
    """Makes sure that values which no component looks at are of the kind that it would send.

    Raises:
        TypeError: One is not.
    """
    for component, value in zip(components, values, strict=False):
        for kinds, expected in _KINDS.items():
            if isinstance(component, kinds) and not isinstance(value, expected):
                raise TypeError(f"{type(value).__name__} for {type(component).__name__}")


def _check_sendable(values: Any, event: gr.EventData | None) -> None:
    """Makes sure that what came in can go out again: an answer may repeat it.

    Numbers beyond 64 bits and halves of characters can be read, but not written, and would end the
    stream in which the answers of the session come.

    Raises:
        gr.Error: It cannot, in a sentence.
    """
    try:
        orjson.dumps((values, event and event._data), default=str)
    except TypeError as error:
        logger.info("Refused values: %s", one_line(str(error)))
        raise gr.Error(_MISFIT, print_exception=False) from error


def _answered(process: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def process_answered(block_fn: Any, *arguments: Any, **named: Any) -> Any:
        try:
            _check_sendable(named.get("inputs"), named.get("event_data"))
            return await process(block_fn, *arguments, **named)
        except gr.Error as error:
            error.print_exception = False  # A sentence; what has a trace was logged already.
            raise
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except Exception as error:
            # A defect, or event data that no page sends: the visitor gets a sentence in any case.
            logger.error(
                "A step failed: %s", getattr(block_fn, "api_name", block_fn), exc_info=error
            )
            raise gr.Error(_FAILED, print_exception=False) from error

    return process_answered


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
    logger.warning("Refused a request to %s", one_line(request.url.path), exc_info=error)
    return JSONResponse({"detail": _MISFIT}, 400)
