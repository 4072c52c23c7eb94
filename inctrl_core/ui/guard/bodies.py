"""Limits on what a request carries, checked as its bytes arrive and before Gradio keeps them.

Gradio bounds the files of an upload, but holds a part that is no file in memory, whatever its
size, and leaves on the disk what had arrived of an upload that ends in any other way than well.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...config import MAX_SHOTS
from ...images.limits import most_bytes

# Values without files: names, phrases, settings.
MAX_REQUEST_BYTES = 16 * 2**20
# Commas and brackets, each of which may become an object; the largest batch has some thousands.
MAX_JSON_MARKS = 200_000
# More than the tab Batch takes. Gradio keeps each of them open until the last one is there.
MAX_FILES = 256
MAX_OPEN_FILES = 512
# Headers and boundaries, for each part and for what surrounds them.
_MAX_FRAME_BYTES = 16 * 2**10
_MAX_BOUNDARY = 70  # RFC 2046.
_MAX_UPLOAD_ID = 100

_ONLY_FILES = "An upload holds something that is no file; send files only."
_BROKEN_OFF = "The upload broke off before its end; send it again."
_MANY = f"There are more than {MAX_FILES} files; send fewer at once."
_BUSY = "Many files are arriving at the moment; send yours again in a minute."
_MANY_VALUES = "The request holds more values than any step takes; send less at once."
_ODD_ID = "The name of the upload is longer than a browser would make it; send it without one."
_NO_UPLOAD = "This is no upload that a browser sends; send files as multipart/form-data."


def most_upload_bytes() -> int:
    """Bytes of a full form of the largest images; several requests may follow each other."""
    return (MAX_SHOTS + 1) * most_bytes() + 2**20


class BodyLimit:
    """Middleware that refuses bodies that are not meant for the page, however they arrive.

    Args:
        app: What is guarded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.open_files = 0  # Of all uploads that are arriving.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and its body piece by piece as long as the limits allow."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        kind, options = parse_options_header(headers.get("content-type", ""))
        upload = scope["path"].rstrip("/").endswith("/upload")
        limit = most_upload_bytes() if upload else MAX_REQUEST_BYTES
        refusal = f"The request is larger than {limit >> 20} MB; send less at once."
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            return await JSONResponse({"detail": refusal}, 413)(scope, receive, send)
        if _has_odd_id(scope):
            return await JSONResponse({"detail": _ODD_ID}, 400)(scope, receive, send)
        if kind == b"multipart/form-data":
            boundary = options.get(b"boundary", b"")
            if not upload or not 0 < len(boundary) <= _MAX_BOUNDARY:
                return await JSONResponse({"detail": _NO_UPLOAD}, 400)(scope, receive, send)
            return await self._pass_upload(scope, receive, send, _Upload(boundary), refusal)
        arrived = marks = 0

        async def receive_counted() -> Message:
            nonlocal arrived, marks
            message = await receive()
            body = message.get("body", b"")
            arrived += len(body)
            marks += sum(map(body.count, (b",", b"[", b"{")))
            if arrived > limit:
                raise HTTPException(413, refusal)
            if marks > MAX_JSON_MARKS:
                raise HTTPException(413, _MANY_VALUES)
            return message

        await self.app(scope, receive_counted, send)

    async def _pass_upload(
        self, scope: Scope, receive: Receive, send: Send, upload: _Upload, too_large: str
    ) -> None:
        """Passes an upload on, and ends it with the one error after which Gradio tidies up.

        Of its own errors it closes and removes the files only after a MultiPartException, and
        answers with its words; after others, as when a phone loses its connection, they stay.
        """

        async def receive_checked() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MultiPartException(_BROKEN_OFF)
            self.open_files -= upload.files
            try:
                upload.take(message.get("body", b""))
            finally:
                self.open_files += upload.files
            if upload.size > most_upload_bytes():
                # Gradio looks for these words to answer 413.
                raise MultiPartException(f"{too_large} This is the maximum allowed size.")
            if self.open_files > MAX_OPEN_FILES:
                raise MultiPartException(_BUSY)
            if not message.get("more_body", False) and not upload.ended:
                raise MultiPartException(_BROKEN_OFF)
            return message

        try:
            await self.app(scope, receive_checked, send)
        finally:
            self.open_files -= upload.files


class _Upload:
    """Follows the parts of an upload without keeping them.

    Args:
        boundary: What stands between the parts.
    """

    def __init__(self, boundary: bytes) -> None:
        self.size = self.files = 0
        self.ended = False
        self._data = self._marks = 0
        self._mark = b"\r\n--" + boundary
        self._name, self._value, self._disposition = b"", b"", b""
        callbacks: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_to_name,
            "on_header_value": self._add_to_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._count,
            "on_end": self._end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def take(self, data: bytes) -> None:
        """Follows some more bytes.

        Raises:
            MultiPartException: They are not those of an upload of files.
        """
        self.size += len(data)
        # A boundary within a file is no boundary, but the parser goes on from it byte by byte.
        self._marks += data.count(self._mark)
        if self._marks > MAX_FILES + 1:
            raise MultiPartException(_MANY)
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise MultiPartException(_NO_UPLOAD) from error
        if self.size - self._data > _MAX_FRAME_BYTES * (self.files + 1):
            raise MultiPartException(_NO_UPLOAD)

    def _begin(self) -> None:
        self._disposition = b""

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"files" or b"filename" not in options:
            raise MultiPartException(_ONLY_FILES)
        self.files += 1
        if self.files > MAX_FILES:
            raise MultiPartException(_MANY)

    def _count(self, data: bytes, start: int, end: int) -> None:
        self._data += end - start

    def _end(self) -> None:
        self.ended = True


def _has_odd_id(scope: Scope) -> bool:
    """Whether an upload's name for its progress is too long; Gradio keeps all that it hears."""
    if "/upload" not in scope["path"]:
        return False
    given = parse_qs(scope["query_string"].decode("latin-1")).get("upload_id", [""])
    return len(given) > 1 or len(given[0]) > _MAX_UPLOAD_ID
