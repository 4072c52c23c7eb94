"""Pictures in place of uploads that no browser shows: TIFF, HEIC, PGM and whatever is deep.

A browser that fetches such a file to show it gets a small PNG of it. The path in the form stays
the original's, so that is what is scored, and what a download brings.
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from urllib.parse import unquote

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import InctrlError
from ...images.seen import Opener, shrink

logger = logging.getLogger(__name__)

PREVIEW_PIXELS = 480_000
_ROUTE = "/file="
_SUFFIX = ".preview.png"
# What browsers show as it is, by its first bytes; a PNG has its number of bits at byte 24.
_SHOWN = (b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"<svg")
_PNG, _PNG_BITS, _DEEP = b"\x89PNG", 24, 16
_AVIF = b"ftypavif"


class Previews:
    """Middleware that answers with pictures where a browser asks for a file to show it.

    Args:
        app: The page.
        images: Opens an upload, which may be hostile.
    """

    def __init__(self, app: ASGIApp, images: Opener) -> None:
        self.app = app
        self._images = images
        self._one_at_a_time: CapacityLimiter | None = None  # Made where the loop is it belongs to.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends a picture, or passes the request on."""
        file = _asked_to_show(scope)
        if file is not None:
            self._one_at_a_time = self._one_at_a_time or CapacityLimiter(1)
            picture = await run_sync(_preview, file, self._images, limiter=self._one_at_a_time)
            if picture is not None:
                await FileResponse(picture, media_type="image/png")(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _asked_to_show(scope: Scope) -> Path | None:
    """The upload that a request asks for as a picture; None for all other requests."""
    if scope["type"] != "http" or scope["method"] != "GET" or _ROUTE not in scope["path"]:
        return None
    # Browsers say so of what an <img> shows; navigation and downloads ask for anything.
    if not Headers(scope=scope).get("accept", "").startswith("image/"):
        return None
    try:
        place = Path(unquote(scope["path"].split(_ROUTE, 1)[1])).resolve()
        uploaded = place.is_relative_to(Path(get_upload_folder()).resolve()) and place.is_file()
    except (OSError, ValueError, RuntimeError):
        return None
    return place if uploaded else None


def _preview(file: Path, images: Opener) -> Path | None:
    """The picture of a file, kept beside it; None where browsers show the file itself."""
    picture = file.with_name(file.name + _SUFFIX)
    try:
        if picture.is_file():
            return picture
        with file.open("rb") as stream:
            start = stream.read(_PNG_BITS + 1)
        if start.startswith(_PNG):
            if start[_PNG_BITS:] != bytes([_DEEP]):
                return None
        elif start.startswith(_SHOWN) or start[4:12] == _AVIF:
            return None
        image = images(shrink, file, PREVIEW_PIXELS)
        # Under another name first: a second request must not find half a picture.
        unfinished = picture.with_name(f"{secrets.token_hex(8)}.png")
        image.save(unfinished)
        unfinished.replace(picture)
    except (InctrlError, OSError) as error:
        logger.info("No picture of an upload: %s", str(error)[:200])
        return None
    return picture
